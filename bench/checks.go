package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// benchChecks runs HTTP checks against a target in this process, a new
// connection each, and tells what they cost the server.
func benchChecks(ctx context.Context, s settings, dir string) error {
	var hits atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		io.WriteString(w, "ok\n")
	})}
	go srv.Serve(l)
	defer srv.Close()

	p, err := startPanoptes(ctx, dir)
	if err != nil {
		return err
	}
	err = measureChecks(ctx, s, p, "http://"+l.Addr().String()+"/", &hits)
	return errors.Join(err, p.stop())
}

func measureChecks(ctx context.Context, s settings, p *process, target string, hits *atomic.Int64) error {
	idle, _, err := p.memory()
	if err != nil {
		return err
	}
	cpu0, err := p.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	cpu1, err := p.cpu()
	if err != nil {
		return err
	}
	base := (cpu1 - cpu0).Seconds() / time.Since(begin).Seconds()

	type document struct {
		Kind string         `json:"kind"`
		Name string         `json:"name"`
		Spec map[string]any `json:"spec"`
	}
	docs := make([]document, s.checks)
	for i := range docs {
		name := fmt.Sprintf("c%05d", i)
		docs[i] = document{"check", name, map[string]any{"type": "http", "target": target + name, "interval": s.interval.String(), "timeout": "5s"}}
	}
	body, err := json.Marshal(map[string]any{"documents": docs})
	if err != nil {
		return err
	}
	begin = time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/apply", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 2048))
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("apply answered %s: %s", resp.Status, text)
	}
	applied := time.Since(begin)

	// Two intervals to settle: the first runs decide, write events, fill caches.
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(2 * s.interval); err != nil {
		return err
	}
	if cpu0, err = p.cpu(); err != nil {
		return err
	}
	h0, begin := hits.Load(), time.Now()
	if err := wait(3 * s.interval); err != nil {
		return err
	}
	if cpu1, err = p.cpu(); err != nil {
		return err
	}
	wall, cpu := time.Since(begin).Seconds(), (cpu1 - cpu0).Seconds()
	runs := float64(hits.Load() - h0)
	now, peak, err := p.memory()
	if err != nil {
		return err
	}
	fmt.Printf("%d HTTP checks at %s, a new connection each\n", s.checks, s.interval)
	fmt.Printf("  created in %.1f s\n", applied.Seconds())
	fmt.Printf("  runs per second            %.0f (planned %.0f)\n", runs/wall, float64(s.checks)/s.interval.Seconds())
	fmt.Printf("  of one core                %.1f %% (idle server %.1f %%)\n", 100*cpu/wall, 100*base)
	fmt.Printf("  checks per CPU second      %.0f\n", runs/cpu)
	fmt.Printf("  resident memory            %.0f MB (idle %.0f MB, peak %.0f MB)\n", now, idle, peak)
	return nil
}

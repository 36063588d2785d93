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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// trio is three servers on this machine, told apart by their port offset.
type trio struct {
	bin, dir string
	servers  []*server
}

// server is one of them. Its process is nil while it is down.
type server struct {
	*process
	name string
	args []string
	env  []string
}

// freeOffset finds a port offset at which our five ports and the next two
// servers' are free.
func freeOffset() (int, error) {
	for offset := 20000; offset < 40000; offset += 100 {
		free := true
		for port := 9700; port < 9730 && free; port++ {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+offset)))
			if err != nil {
				free = false
				continue
			}
			l.Close()
		}
		if free {
			return offset, nil
		}
	}
	return 0, errors.New("no range of free ports")
}

// startTrio starts count servers in one region and waits until all vote.
func startTrio(ctx context.Context, dir string, count int) (*trio, error) {
	bin, err := panoptes()
	if err != nil {
		return nil, err
	}
	offset, err := freeOffset()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(dir, "cluster-")
	if err != nil {
		return nil, err
	}
	t := &trio{bin: bin, dir: data}
	for i := range count {
		s := &server{name: fmt.Sprintf("n%d", i+1), env: []string{"PANOPTES_API_KEY=" + apiKey, "PANOPTES_ADMIN_PASSWORD=" + apiKey, "PANOPTES_PROBE_ALLOW_LOOPBACK=true", "PANOPTES_INGEST_SERIES_PER_SOURCE=2000000"}}
		s.args = []string{"server", "--node", s.name, "--region", "here", "--data-dir", t.data(i), "--port-offset", strconv.Itoa(offset + 10*i), "--log-level", "warn"}
		url := fmt.Sprintf("http://127.0.0.1:%d", 9700+offset+10*i)
		if i > 0 {
			var token struct{ Token string }
			if err := t.servers[0].call(ctx, http.MethodPost, "/v1/tokens", map[string]any{"role": "server", "uses": 1}, &token); err != nil {
				return t, errors.Join(err, t.stop())
			}
			s.args = append(s.args, "--join", fmt.Sprintf("127.0.0.1:%d", 9701+offset), "--token", token.Token)
		}
		if s.process, err = start(ctx, s.name, url, bin, s.env, s.args...); err != nil {
			return t, errors.Join(err, t.stop())
		}
		t.servers = append(t.servers, s)
	}
	if err := t.whole(ctx, count); err != nil {
		return t, errors.Join(err, t.stop())
	}
	return t, nil
}

func (t *trio) data(i int) string { return filepath.Join(t.dir, "n"+strconv.Itoa(i+1)) }

// whole waits until every server sees count servers alive and voting.
func (t *trio) whole(ctx context.Context, count int) error {
	return until(ctx, time.Minute, func() error {
		for _, s := range t.servers {
			var list struct {
				Items []struct{ State, Control string }
			}
			if err := s.call(ctx, http.MethodGet, "/v1/nodes", nil, &list); err != nil {
				return err
			}
			n := 0
			for _, v := range list.Items {
				if v.State == "alive" && (v.Control == "leader" || v.Control == "voter") {
					n++
				}
			}
			if n < count {
				return fmt.Errorf("%s sees %d of %d servers voting", s.name, n, count)
			}
		}
		return nil
	})
}

// until asks until the answer is nil.
func until(ctx context.Context, limit time.Duration, ask func() error) error {
	for deadline := time.Now().Add(limit); ; {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (t *trio) stop() error {
	var errs []error
	for i := len(t.servers) - 1; i >= 0; i-- {
		if p := t.servers[i].process; p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(errs...)
}

// kill ends a server at once and returns when that was.
func (s *server) kill() (time.Time, error) {
	at := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return at, fmt.Errorf("kill %s: %w", s.name, err)
	}
	<-s.done
	return at, nil
}

func (s *server) restart(ctx context.Context, bin string) error {
	p, err := start(ctx, s.name, s.url, bin, s.env, s.args...)
	if err != nil {
		return err
	}
	s.process = p
	return nil
}

var quick = &http.Client{Timeout: 2 * time.Second}

// call sends a request that must succeed.
func (p *process) call(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := quick.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s answered %s: %.300s", method, path, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// counters sums the series of one metric whose labels contain all of with.
func (p *process) counters(ctx context.Context, metric string, with ...string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	resp, err := quick.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	sum := 0.0
next:
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(name, "{"); !ok || base != metric {
			continue
		}
		for _, w := range with {
			if !strings.Contains(name, w) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

// size is how many bytes the files below dir take.
func size(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// benchCluster measures what three servers win and cost.
func benchCluster(ctx context.Context, s settings, dir string) error {
	s.samples = 0 // as many as go in the time
	one, err := startTrio(ctx, dir, 1)
	if err != nil {
		return err
	}
	alone, err := copies(ctx, one, s)
	if err := errors.Join(err, one.stop()); err != nil {
		return err
	}
	three, err := startTrio(ctx, dir, 3)
	if err != nil {
		return err
	}
	err = measureCluster(ctx, three, s, alone)
	return errors.Join(err, three.stop())
}

func measureCluster(ctx context.Context, t *trio, s settings, alone copyResult) error {
	all, err := copies(ctx, t, s)
	if err != nil {
		return err
	}
	fmt.Printf("three full copies, %d series by remote write to one of three servers; CPU of all servers\n", s.series)
	fmt.Printf("  samples per second             %.0f (one server alone %.0f)\n", all.perSecond(), alone.perSecond())
	fmt.Printf("  CPU seconds per million        %.2f (one server alone %.2f, ratio %.2f)\n", all.cpuPerMillion(), alone.cpuPerMillion(), all.cpuPerMillion()/alone.cpuPerMillion())
	fmt.Printf("  bytes on the wire per sample   %.2f for each other server\n", all.wire/float64(all.samples)/float64(len(t.servers)-1))
	fmt.Printf("  bytes in the relay per sample  %.2f on the server that was written to\n", all.relay/float64(all.samples))
	fmt.Printf("  bytes on disk per sample       %.2f a server before blocks are cut (one server alone %.2f)\n", all.disk/float64(all.samples)/float64(len(t.servers)), alone.disk/float64(alone.samples))
	fmt.Printf("  all copies complete after      %.1f s\n", all.settled.Seconds())
	gaps, err := leaderGaps(ctx, t, 3)
	if err != nil {
		return err
	}
	fmt.Printf("leader killed: longest time without a configuration write %v\n", gaps)
	return takeOver(ctx, t)
}

// copyResult is what the load cost all servers together.
type copyResult struct {
	phase
	wire, relay, disk float64 // bytes
	settled           time.Duration
}

func (c copyResult) cpuPerMillion() float64 { return c.cpu.Seconds() / float64(c.samples) * 1e6 }

// copies writes to the first server and waits until all others have it too.
func copies(ctx context.Context, t *trio, s settings) (copyResult, error) {
	type state struct {
		cpu               time.Duration
		wire, relay, disk float64
	}
	read := func() (st state, err error) {
		for i, srv := range t.servers {
			cpu, err := srv.cpu()
			if err != nil {
				return st, err
			}
			st.cpu += cpu
			for _, side := range []string{"client", "server"} {
				sent, err := srv.counters(ctx, "panoptes_wire_"+side+"_bytes_total", `method="relay`, `direction="sent"`)
				if err != nil {
					return st, err
				}
				st.wire += sent
			}
			disk, err := size(t.data(i))
			if err != nil {
				return st, err
			}
			st.disk += float64(disk)
		}
		relay, err := size(t.data(0) + "/relay")
		st.relay = float64(relay)
		return st, err
	}
	before, err := read()
	if err != nil {
		return copyResult{}, err
	}
	load, err := writeLoad(ctx, t.servers[0].process, s)
	if err != nil {
		return copyResult{}, err
	}
	begin := time.Now()
	if err := t.alike(ctx); err != nil {
		return copyResult{}, err
	}
	settled := time.Since(begin)
	after, err := read()
	if err != nil {
		return copyResult{}, err
	}
	r := copyResult{phase: load.known, wire: after.wire - before.wire, relay: after.relay - before.relay, disk: after.disk - before.disk, settled: settled}
	r.samples += load.fresh.samples
	r.wall += load.fresh.wall
	r.cpu = after.cpu - before.cpu
	return r, nil
}

// alike waits until all servers count the same samples of the load.
func (t *trio) alike(ctx context.Context) error {
	return until(ctx, 2*time.Minute, func() error {
		var first string
		for _, s := range t.servers {
			var answer struct {
				Data struct{ Result []struct{ Value [2]any } }
			}
			if err := s.call(ctx, http.MethodGet, `/api/v1/query?query=sum(count_over_time(node_network_receive_bytes_total_10[30m]))`, nil, &answer); err != nil {
				return err
			}
			got := fmt.Sprint(answer.Data.Result)
			if first == "" {
				first = got
			}
			if len(answer.Data.Result) == 0 || fmt.Sprint(answer.Data.Result[0].Value[1]) == "" {
				return fmt.Errorf("%s has nothing yet", s.name)
			}
			if value := fmt.Sprint(answer.Data.Result[0].Value[1]); !strings.Contains(first, value) {
				return fmt.Errorf("%s counts %s, the first %s", s.name, value, first)
			}
		}
		return nil
	})
}

// leaderGaps kills the leader some times while changes are written to the
// others, and returns the longest time without an acknowledged one each time.
func leaderGaps(ctx context.Context, t *trio, times int) ([]time.Duration, error) {
	var out []time.Duration
	for round := range times {
		var leader *server
		err := until(ctx, 20*time.Second, func() error {
			var v struct{ Leader string }
			if err := t.servers[0].call(ctx, http.MethodGet, "/v1/cluster", nil, &v); err != nil {
				return err
			}
			for _, s := range t.servers {
				if s.name == v.Leader {
					leader = s
					return nil
				}
			}
			return fmt.Errorf("no leader: %+v", v)
		})
		if err != nil {
			return out, err
		}
		rest := slices.DeleteFunc(slices.Clone(t.servers), func(s *server) bool { return s == leader })
		killed := make(chan error, 1)
		time.AfterFunc(time.Second, func() {
			_, err := leader.kill()
			killed <- err
		})
		last, longest := time.Now(), time.Duration(0)
		for i, deadline := 0, time.Now().Add(8*time.Second); time.Now().Before(deadline); i++ {
			body := map[string]any{"name": fmt.Sprintf("gap-%d-%d", round, i), "type": "tcp", "target": "192.0.2.1:1", "paused": true}
			if err := rest[i%2].call(ctx, http.MethodPost, "/v1/checks", body, nil); err == nil {
				longest, last = max(longest, time.Since(last)), time.Now()
			}
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
		}
		if err := <-killed; err != nil {
			return out, err
		}
		out = append(out, longest.Round(10*time.Millisecond))
		if err := leader.restart(ctx, t.bin); err != nil {
			return out, err
		}
		if err := t.whole(ctx, len(t.servers)); err != nil {
			return out, err
		}
	}
	return out, nil
}

// takeOver kills a server that runs a third of the checks and tells when each of
// them ran again.
func takeOver(ctx context.Context, t *trio) error {
	const checks = 60
	var mu sync.Mutex
	hits := map[string][]time.Time{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		hits[r.URL.Path] = append(hits[r.URL.Path], time.Now())
		mu.Unlock()
		io.WriteString(w, "ok\n")
	})}
	go srv.Serve(l)
	defer srv.Close()
	var docs []map[string]any
	for i := range checks {
		name := fmt.Sprintf("take-%02d", i)
		docs = append(docs, map[string]any{"kind": "check", "name": name, "spec": map[string]any{"type": "http", "target": "http://" + l.Addr().String() + "/" + name, "interval": "1s", "timeout": "1s"}})
	}
	if err := t.servers[0].call(ctx, http.MethodPost, "/v1/apply", map[string]any{"documents": docs}, nil); err != nil {
		return err
	}
	victim := t.servers[2]
	var owned []string
	err = until(ctx, 30*time.Second, func() error {
		var answer struct {
			Data struct {
				Result []struct{ Metric map[string]string }
			}
		}
		if err := t.servers[0].call(ctx, http.MethodGet, `/api/v1/query?query=count_over_time(probe_success{check%3D~"take-.*"}[3s])>1`, nil, &answer); err != nil {
			return err
		}
		owned = nil
		if len(answer.Data.Result) < checks {
			return fmt.Errorf("%d of %d checks run", len(answer.Data.Result), checks)
		}
		for _, r := range answer.Data.Result {
			if r.Metric["prober"] == victim.name {
				owned = append(owned, r.Metric["check"])
			}
		}
		if len(owned) == 0 || len(owned) == checks {
			return fmt.Errorf("%s runs %d of %d checks", victim.name, len(owned), checks)
		}
		return nil
	})
	if err != nil {
		return err
	}
	at, err := victim.kill()
	if err != nil {
		return err
	}
	after := func() (gaps []time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range owned {
			for _, h := range hits["/"+name] {
				if h.After(at) {
					gaps = append(gaps, h.Sub(at).Round(10*time.Millisecond))
					break
				}
			}
		}
		slices.Sort(gaps)
		return gaps
	}
	err = until(ctx, 30*time.Second, func() error {
		if n := len(after()); n < len(owned) {
			return fmt.Errorf("%d of %d checks of %s run elsewhere", n, len(owned), victim.name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	gaps := after()
	fmt.Printf("server killed that ran %d of %d checks at 1 s: each ran elsewhere after %s (median), %s (longest)\n", len(owned), checks, gaps[len(gaps)/2], gaps[len(gaps)-1])
	// What it kept open is given back by a start in good order.
	return victim.restart(ctx, t.bin)
}

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"panoptes/internal/cluster"
	"panoptes/internal/model"
)

const (
	fast = 100 * time.Millisecond // Probe of tests that do not measure
	calm = 300 * time.Millisecond // of tests in which nothing may happen on a busy machine
	soon = time.Minute
)

var key = bytes.Repeat([]byte{7}, 32)

// server is one member in this process.
type server struct {
	*cluster.Cluster
	reg  *prometheus.Registry
	stop func()
	done chan struct{}

	mu    sync.Mutex
	notes map[string]bool // what the part "notes" holds
}

func (s *server) note(b string) {
	s.mu.Lock()
	s.notes[b] = true
	s.mu.Unlock()
	s.Broadcast("notes", []byte(b))
}

func (s *server) has(b string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes[b]
}

func (s *server) part() cluster.Part {
	return cluster.Part{
		State: func() ([]byte, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			var all []string
			for n := range s.notes {
				all = append(all, n)
			}
			return []byte(strings.Join(all, "\n")), nil
		},
		Merge: func(b []byte) error {
			if string(b) == "poison" {
				return errors.New("poisoned")
			}
			if string(b) == "bomb" {
				panic("bomb")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, n := range strings.Split(string(b), "\n") {
				if n != "" {
					s.notes[n] = true
				}
			}
			return nil
		},
	}
}

// group starts members that know each other by their addresses.
type group struct {
	t     testing.TB
	mu    sync.Mutex
	seeds []string
	probe time.Duration
	all   []*server
}

func newGroup(t testing.TB, probe time.Duration, n int) *group {
	g := &group{t: t, probe: probe}
	for i := range n {
		g.start(fmt.Sprintf("n%d", i+1), nil)
	}
	if n > 1 {
		g.eventually(func() bool {
			for _, s := range g.all {
				if len(s.Alive()) != n {
					return false
				}
			}
			return true
		}, "all %d see each other", n)
	}
	return g
}

func (g *group) start(id string, change func(*cluster.Config, *cluster.Deps)) *server {
	g.t.Helper()
	s := &server{reg: prometheus.NewRegistry(), notes: map[string]bool{}, done: make(chan struct{})}
	cfg := cluster.Config{NodeID: id, ClusterID: "c1", Bind: "127.0.0.1:0", Key: key, Probe: g.probe, Exchange: 10 * g.probe}
	deps := cluster.Deps{Registerer: s.reg, Seeds: func() []string {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Clone(g.seeds)
	}}
	if change != nil {
		change(&cfg, &deps)
	}
	var err error
	s.Cluster, err = cluster.New(cfg, deps)
	require.NoError(g.t, err)
	s.Part("notes", s.part())
	s.Update(func(m *model.Member) { m.Name, m.Region, m.Role = "name-"+id, "eu", model.RoleServer })
	g.mu.Lock()
	g.seeds = append(g.seeds, s.Addr())
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var runErr error
	go func() { defer close(s.done); runErr = s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-s.done
		require.NoError(g.t, runErr)
	})
	g.t.Cleanup(s.stop)
	g.all = append(g.all, s)
	return s
}

func (g *group) eventually(f func() bool, msg string, args ...any) {
	g.t.Helper()
	require.Eventually(g.t, f, soon, 5*time.Millisecond, append([]any{msg}, args...)...)
}

func state(s *server, id string) model.MemberState {
	for _, m := range s.Members() {
		if m.ID == id {
			return m.State
		}
	}
	return ""
}

func counter(t testing.TB, s *server, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	require.NoError(t, err)
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, want []string) bool {
	for i := 0; i < len(want); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == want[i] && l.GetValue() == want[i+1] }) {
			return false
		}
	}
	return true
}

// cut drops everything between the two sides, in both directions.
func cut(a, b []*server) {
	block := func(from, to []*server) {
		addrs := map[string]bool{}
		for _, s := range to {
			addrs[s.Addr()] = true
		}
		for _, s := range from {
			s.Cut(func(_, to string) bool { return addrs[to] })
		}
	}
	block(a, b)
	block(b, a)
}

func heal(all []*server) {
	for _, s := range all {
		s.Cut(nil)
	}
}

// never checks that f stays false for 15 times the patience of the members. When
// one of them stood still meanwhile, this machine is too busy to say anything.
func (g *group) never(f func() bool, msg string) {
	g.t.Helper()
	began := time.Now()
	for time.Since(began) < 15*g.probe {
		if f() {
			for _, s := range g.all {
				if counter(g.t, s, "panoptes_cluster_stalls_total") > 0 {
					g.t.Skip("a member stood still: " + msg)
				}
			}
			require.Fail(g.t, "it happened", msg)
		}
		<-time.After(g.probe / 4)
	}
}

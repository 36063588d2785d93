//go:build linux

package collect

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
)

// conforms checks what every batch must be.
func conforms(t *testing.T, name string, b *metric.Batch) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range b.Samples() {
		key := s.Labels.String()
		require.False(t, seen[key], "%s: %s comes twice", name, key)
		seen[key] = true
		require.False(t, math.IsNaN(s.V), "%s: %s is NaN", name, key)
		last := ""
		s.Labels.Range(func(l labels.Label) {
			require.Less(t, last, l.Name, "%s: labels of %s are not sorted", name, key)
			last = l.Name
			require.NotEmpty(t, l.Value, "%s: %s has an empty label", name, key)
			require.True(t, metric.ValidName(l.Name, false), "%s: label %q", name, l.Name)
			require.LessOrEqual(t, len(l.Value), metric.MaxLabelValue)
			if l.Name == "__name__" {
				require.True(t, metric.ValidName(l.Value, true), "%s: name %q", name, l.Value)
			} else {
				require.False(t, strings.HasPrefix(l.Name, "__"), "%s: label %q", name, l.Name)
			}
		})
	}
}

// TestConformance runs every collector on this host and on the fixture.
func TestConformance(t *testing.T) {
	for where, cfg := range map[string]Config{"host": {}, "fixture": fixture(t)} {
		for name, c := range collectors(t, cfg) {
			t.Run(where+"/"+name, func(t *testing.T) {
				if name == "updates" || name == "smart" || name == "nvidia" {
					t.Skip("runs programs of this host")
				}
				if cl, ok := c.(interface{ Close() error }); ok {
					defer cl.Close()
				}
				b := metric.NewBatch(5000)
				var built uint64
				for round := range 3 {
					b.Reset(int64(round))
					_ = c.Collect(t.Context(), b)
					conforms(t, name, b)
					_, twice, n := b.Stats()
					require.Zero(t, twice, "series that come twice")
					if where == "fixture" && round > 0 && name != "tcpstat" {
						require.Equal(t, built, n, "a later round builds no label sets")
					}
					built = n
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				begin := time.Now()
				b.Reset(9)
				_ = c.Collect(ctx, b)
				require.Less(t, time.Since(begin), 20*time.Second, "a context that ended")
				conforms(t, name, b)
			})
		}
	}
}

// Every file of the fixture in turn becomes hostile, for all collectors at
// once: nothing panics, hangs or leaves the bounds.
func TestHostileFiles(t *testing.T) {
	garbage := make([]byte, 64<<10)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(garbage)
	mutations := map[string]func(t *testing.T, path string){
		"garbage": func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, garbage, 0o644)) },
		"empty":   func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, nil, 0o644)) },
		"large": func(t *testing.T, p string) {
			require.NoError(t, os.Truncate(p, 100<<20))
		},
		"long line": func(t *testing.T, p string) {
			require.NoError(t, os.WriteFile(p, bytes.Repeat([]byte("a: 1 "), 200000), 0o644))
		},
		"huge numbers": func(t *testing.T, p string) {
			text, err := os.ReadFile(p)
			require.NoError(t, err)
			big := bytes.ReplaceAll(text, []byte("1"), []byte("99999999999999999999999"))
			require.NoError(t, os.WriteFile(p, bytes.ReplaceAll(big, []byte("0"), []byte("-")), 0o644))
		},
		"fifo": func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, syscall.Mkfifo(p, 0o644))
		},
		"directory": func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Mkdir(p, 0o755))
		},
		"link to itself": func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Symlink(p, p))
		},
	}
	for what, mutate := range mutations {
		t.Run(what, func(t *testing.T) {
			cfg := fixture(t)
			dir := filepath.Dir(cfg.ProcFS)
			require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				require.NoError(t, err)
				if d.Type().IsRegular() {
					mutate(t, p)
				}
				return nil
			}))
			for name, c := range collectors(t, cfg) {
				if name == "updates" || name == "smart" || name == "nvidia" {
					continue
				}
				if cl, ok := c.(interface{ Close() error }); ok {
					defer cl.Close()
				}
				b := metric.NewBatch(500)
				begin := time.Now()
				for round := range 2 {
					b.Reset(int64(round))
					_ = c.Collect(t.Context(), b) // a panic here fails the test
					conforms(t, name, b)
				}
				require.Less(t, time.Since(begin), time.Minute, name)
				require.LessOrEqual(t, len(b.Samples()), 500)
			}
		})
	}
}

// A host with very many things of a kind stays within the bound on series.
func TestBoundOnSeries(t *testing.T) {
	cfg := fixture(t)
	var text strings.Builder
	text.WriteString("a|b\nc|d\n")
	for i := range 5000 {
		text.WriteString("if" + strings.Repeat("x", i%10) + string(rune('a'+i%26)) + time.Duration(i).String() + ": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
	}
	require.NoError(t, os.WriteFile(cfg.ProcFS+"/net/dev", []byte(text.String()), 0o644))
	cfg.MaxSeries = 300
	s, err := New(cfg, quiet)
	require.NoError(t, err)
	defer s.Close()
	b := s.Collect(t.Context(), time.Now())
	n := 0
	for _, x := range b {
		if strings.HasPrefix(x.Labels.Get("__name__"), "node_network_receive") || strings.HasPrefix(x.Labels.Get("__name__"), "node_network_transmit") {
			n++
		}
	}
	require.LessOrEqual(t, n, 300+20)
	require.Greater(t, value(t, b, `{__name__="panoptes_agent_collect_dropped_samples", collector="netdev", reason="limit"}`), 1000.)
}

// BenchmarkRound is one round of all collectors on this host. CPU time and
// bytes are of the process, so that goroutines count.
func BenchmarkRound(b *testing.B) {
	s, err := New(Config{Disabled: []string{"updates", "smart", "nvidia"}}, quiet)
	require.NoError(b, err)
	defer s.Close()
	s.Collect(b.Context(), time.Now())
	b.ReportAllocs()
	before := cpuTime(b)
	n := 0
	for b.Loop() {
		n = len(s.Collect(b.Context(), time.Now()))
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(n), "samples")
}

// BenchmarkWalk is the walk over the processes, which a round makes only as
// often as its length allows.
func BenchmarkWalk(b *testing.B) {
	batch := metric.NewBatch(2000)
	for b.Loop() {
		c := collectors(b, Config{})["processes"]
		batch.Reset(1)
		require.NoError(b, c.Collect(b.Context(), batch))
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

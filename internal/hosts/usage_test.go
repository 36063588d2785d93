package hosts_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/store"
)

// machines stores what n hosts sent in the last minute: half of the processor
// is idle, a quarter of the memory available, the fullest disk is at 80 %.
func machines(t testing.TB, n, cores int) *store.Store {
	t.Helper()
	s, err := store.New(store.Config{Dir: t.TempDir()}, store.Deps{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	<-s.Ready()
	now := time.Now()
	for step := range 4 {
		at := now.Add(time.Duration(step-4) * 15 * time.Second)
		sec := float64(step * 15)
		for from := 0; from < n; from += 500 {
			var b model.Batch
			for i := from; i < min(n, from+500); i++ {
				host := fmt.Sprintf("host-%d", i)
				add := func(name string, v float64, more ...string) {
					l := labels.FromStrings(append([]string{"__name__", name, "host", host, "instance", host, "job", "node", "region", "eu"}, more...)...)
					b = append(b, model.Sample{Labels: l, T: at.UnixMilli(), V: v})
				}
				for c := range cores {
					add("node_cpu_seconds_total", sec/2, "cpu", fmt.Sprint(c), "mode", "idle")
				}
				add("node_memory_MemTotal_bytes", 8e9)
				add("node_memory_MemAvailable_bytes", 2e9)
				add("node_memory_SwapTotal_bytes", 0)
				add("node_memory_SwapFree_bytes", 0)
				add("node_load1", float64(i))
				for m, avail := range map[string]float64{"/": 50, "/var": 20} {
					add("node_filesystem_size_bytes", 100, "device", "sda"+m, "mountpoint", m, "fstype", "ext4")
					add("node_filesystem_avail_bytes", avail, "device", "sda"+m, "mountpoint", m, "fstype", "ext4")
				}
				add("node_filesystem_size_bytes", 100, "device", "tmpfs", "mountpoint", "/run", "fstype", "tmpfs")
				add("node_filesystem_avail_bytes", 0, "device", "tmpfs", "mountpoint", "/run", "fstype", "tmpfs")
				for _, d := range []string{"eth0", "lo"} {
					add("node_network_receive_bytes_total", sec*1000, "device", d)
					add("node_network_transmit_bytes_total", sec*10, "device", d)
				}
			}
			app := s.Appender(context.Background())
			for _, x := range b {
				_, err := app.Append(0, x.Labels, x.T, x.V)
				require.NoError(t, err)
			}
			require.NoError(t, app.Commit())
		}
	}
	return s
}

func TestUsageOfAllHosts(t *testing.T) {
	s := machines(t, 50, 4)
	all := hosts.NewUsage(s, prometheus.NewRegistry()).All(t.Context())
	require.Len(t, all, 50)
	u := all["host-7"]
	require.InDelta(t, 0.5, *u.CPU, 1e-9)
	require.Equal(t, 4, u.Cores)
	require.InDelta(t, 0.75, *u.Memory, 1e-9)
	require.InDelta(t, 0.8, *u.Disk, 1e-9, "of the fullest one that is a disk")
	require.Zero(t, *u.Swap)
	require.InDelta(t, 7, *u.Load1, 1e-9)
	require.InDelta(t, 1000, *u.RxBytes, 1e-9, "what leaves the machine")
	require.InDelta(t, 10, *u.TxBytes, 1e-9)
	require.InDelta(t, 8e9, u.MemoryBytes, 1)
}

// counting tells how often a store was asked.
type counting struct {
	storage.Queryable
	n int
}

func (c *counting) Querier(from, to int64) (storage.Querier, error) {
	c.n++
	return c.Queryable.Querier(from, to)
}

func TestUsageIsReadOnceForAllWhoAsk(t *testing.T) {
	c := &counting{Queryable: machines(t, 3, 1)}
	u := hosts.NewUsage(c, nil)
	for range 100 {
		require.Len(t, u.All(t.Context()), 3)
	}
	require.Equal(t, 1, c.n)
}

// BenchmarkUsage is one look at 10,000 hosts of 8 cores.
func BenchmarkUsage(b *testing.B) {
	s := machines(b, 10_000, 8)
	b.ResetTimer()
	for b.Loop() {
		u := hosts.NewUsage(s, nil)
		for len(u.All(context.Background())) != 10_000 { // each waits a while
			if b.Elapsed() > time.Minute {
				b.Fatal("no answer")
			}
		}
	}
}

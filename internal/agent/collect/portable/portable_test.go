package portable

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
)

// The collectors of other systems run here too, which shows names and units.
func TestCore(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows", "freebsd"} {
		m := map[string]float64{}
		for _, c := range []metric.Collector{CPU(goos), Load(), Memory(goos), Filesystems(goos, nil, nil), Disks(goos, nil), Network(goos, nil), Uname(goos), Time()} {
			b := metric.NewBatch(5000)
			b.Reset(1)
			require.NoError(t, c.Collect(t.Context(), b), c.Name())
			require.NotEmpty(t, b.Samples(), c.Name())
			for _, s := range b.Samples() {
				m[s.Labels.Get("__name__")] = s.V
			}
		}
		for _, n := range []string{"node_cpu_seconds_total", "node_memory_MemTotal_bytes", "node_filesystem_size_bytes", "node_network_receive_bytes_total", "node_boot_time_seconds", "node_uname_info", "node_load1"} {
			require.Contains(t, m, n, goos)
		}
		_, windows := m["windows_memory_physical_total_bytes"]
		require.Equal(t, goos == "windows", windows)
		if runtime.GOOS == "linux" {
			require.Greater(t, m["node_boot_time_seconds"], 1e9)
		}
	}
}

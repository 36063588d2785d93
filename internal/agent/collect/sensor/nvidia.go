package sensor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Nvidia asks nvidia-smi for the graphics cards of this maker.
type Nvidia struct {
	run source.Runner
}

// NewNvidia makes the collector "nvidia". run executes a program.
func NewNvidia(run source.Runner) *Nvidia { return &Nvidia{run: run} }

// Name implements metric.Collector.
func (c *Nvidia) Name() string { return "nvidia" }

// fields of nvidia-smi and the names that the usual exporter gives them.
var nvidiaFields = [...]struct {
	query, name string
	factor      float64
}{
	{"utilization.gpu", "nvidia_smi_utilization_gpu_ratio", .01},
	{"utilization.memory", "nvidia_smi_utilization_memory_ratio", .01},
	{"memory.total", "nvidia_smi_memory_total_bytes", 1 << 20},
	{"memory.used", "nvidia_smi_memory_used_bytes", 1 << 20},
	{"memory.free", "nvidia_smi_memory_free_bytes", 1 << 20},
	{"temperature.gpu", "nvidia_smi_temperature_gpu", 1},
	{"power.draw", "nvidia_smi_power_draw_watts", 1},
	{"power.limit", "nvidia_smi_power_limit_watts", 1},
	{"fan.speed", "nvidia_smi_fan_speed_ratio", .01},
	{"clocks.current.graphics", "nvidia_smi_clocks_current_graphics_clock_hz", 1e6},
	{"ecc.errors.uncorrected.volatile.total", "nvidia_smi_ecc_errors_uncorrected_volatile_total", 1},
	{"ecc.errors.corrected.volatile.total", "nvidia_smi_ecc_errors_corrected_volatile_total", 1},
}

// Collect implements metric.Collector.
func (c *Nvidia) Collect(ctx context.Context, out *metric.Batch) error {
	query := []string{"uuid", "name", "driver_version", "pci.bus_id"}
	for _, f := range nvidiaFields {
		query = append(query, f.query)
	}
	b, err := c.run(ctx, "nvidia-smi", "--query-gpu="+strings.Join(query, ","), "--format=csv,noheader,nounits")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ", ")
		if len(f) != len(query) {
			return fmt.Errorf("nvidia-smi answered %d fields instead of %d", len(f), len(query))
		}
		uuid := strings.TrimPrefix(f[0], "GPU-")
		out.Add("nvidia_smi_gpu_info", 1, "uuid", uuid, "name", f[1], "driver_version", f[2], "pci_bus_id", f[3])
		for i, field := range nvidiaFields {
			// What a card has not is "[N/A]".
			if v, err := strconv.ParseFloat(f[4+i], 64); err == nil {
				out.Add(field.name, v*field.factor, "uuid", uuid)
			}
		}
	}
	return nil
}

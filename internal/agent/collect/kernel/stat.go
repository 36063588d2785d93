// Package kernel reads what the kernel says about the processor, memory, load,
// pressure, time and itself.
package kernel

import (
	"bytes"
	"context"
	"fmt"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// userHZ is the unit of /proc/stat: a hundred ticks a second on every
// architecture that Linux still supports.
const userHZ = 100

var cpuModes = [...]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}

// Stat reads /proc/stat: processor time per core and mode, interrupts, context
// switches, forks, boot time.
type Stat struct {
	proc  source.Tree
	r     source.Reader
	names source.Interner
	field [16][]byte
	idle  map[string][2]float64
}

// NewStat makes the collector "cpu".
func NewStat(proc source.Tree) *Stat { return &Stat{proc: proc, idle: map[string][2]float64{}} }

// Name implements metric.Collector.
func (c *Stat) Name() string { return "cpu" }

// Collect implements metric.Collector.
func (c *Stat) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("stat"))
	if err != nil {
		return err
	}
	seen := false
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		if len(f) < 2 {
			continue
		}
		if cpu, ok := bytes.CutPrefix(f[0], []byte("cpu")); ok && len(cpu) > 0 {
			if _, ok := source.Uint(cpu); ok {
				c.core(out, c.names.Get(cpu), f[1:])
				seen = true
			}
			continue
		}
		v, ok := source.Float(f[1])
		if !ok {
			continue
		}
		switch string(f[0]) {
		case "intr":
			out.Add("node_intr_total", v)
		case "ctxt":
			out.Add("node_context_switches_total", v)
		case "processes":
			out.Add("node_forks_total", v)
		case "btime":
			out.Add("node_boot_time_seconds", v)
		case "procs_running":
			out.Add("node_procs_running", v)
		case "procs_blocked":
			out.Add("node_procs_blocked", v)
		}
	}
	if !seen {
		return fmt.Errorf("%s names no processor", c.proc.Path("stat"))
	}
	return nil
}

func (c *Stat) core(out *metric.Batch, cpu string, f [][]byte) {
	var ticks [10]float64
	for i := range min(len(f), len(ticks)) {
		v, ok := source.Float(f[i])
		if !ok {
			return
		}
		ticks[i] = v / userHZ
	}
	// The kernel's idle and iowait may run backwards by a little; a counter
	// that does would look like a restart.
	last, ok := c.idle[cpu]
	if ok {
		for i, j := range [2]int{3, 4} {
			if d := last[i] - ticks[j]; d > 0 && d < 3 {
				ticks[j] = last[i]
			}
		}
	}
	if len(c.idle) > 8192 {
		clear(c.idle)
	}
	c.idle[cpu] = [2]float64{ticks[3], ticks[4]}
	for i, mode := range cpuModes {
		out.Add("node_cpu_seconds_total", ticks[i], "cpu", cpu, "mode", mode)
	}
	out.Add("node_cpu_guest_seconds_total", ticks[8], "cpu", cpu, "mode", "user")
	out.Add("node_cpu_guest_seconds_total", ticks[9], "cpu", cpu, "mode", "nice")
}

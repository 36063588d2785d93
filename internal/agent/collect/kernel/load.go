package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Load reads /proc/loadavg.
type Load struct {
	proc  source.Tree
	r     source.Reader
	field [4][]byte
}

// NewLoad makes the collector "loadavg".
func NewLoad(proc source.Tree) *Load { return &Load{proc: proc} }

// Name implements metric.Collector.
func (c *Load) Name() string { return "loadavg" }

// Collect implements metric.Collector.
func (c *Load) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("loadavg"))
	if err != nil {
		return err
	}
	f := source.Fields(b, c.field[:0])
	if len(f) < 3 {
		return fmt.Errorf("%s has fewer than three numbers", c.proc.Path("loadavg"))
	}
	for i, name := range [...]string{"node_load1", "node_load5", "node_load15"} {
		v, ok := source.Float(f[i])
		if !ok {
			return fmt.Errorf("%s: %q is not a number", c.proc.Path("loadavg"), f[i])
		}
		out.Add(name, v)
	}
	return nil
}

// Pressure reads /proc/pressure: the time in which work waited for a resource.
type Pressure struct {
	proc  source.Tree
	r     source.Reader
	field [6][]byte
}

// NewPressure makes the collector "pressure".
func NewPressure(proc source.Tree) *Pressure { return &Pressure{proc: proc} }

// Name implements metric.Collector.
func (c *Pressure) Name() string { return "pressure" }

var pressures = [...]struct{ file, some, full string }{
	{"cpu", "node_pressure_cpu_waiting_seconds_total", ""},
	{"io", "node_pressure_io_waiting_seconds_total", "node_pressure_io_stalled_seconds_total"},
	{"memory", "node_pressure_memory_waiting_seconds_total", "node_pressure_memory_stalled_seconds_total"},
	{"irq", "", "node_pressure_irq_stalled_seconds_total"},
}

// Collect implements metric.Collector.
func (c *Pressure) Collect(_ context.Context, out *metric.Batch) error {
	found := false
	for _, p := range pressures {
		b, err := c.r.Read(c.proc.Path("pressure", p.file))
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && p.file != "irq" {
				return fmt.Errorf("%w: %w", metric.ErrAbsent, err) // compiled in, switched off at boot
			}
			continue
		}
		found = true
		for len(b) > 0 {
			var line []byte
			line, b = source.Line(b)
			f := source.Fields(line, c.field[:0])
			if len(f) < 5 {
				continue
			}
			total, ok := bytes.CutPrefix(f[4], []byte("total="))
			v, num := source.Float(total)
			if !ok || !num {
				continue
			}
			switch {
			case string(f[0]) == "some" && p.some != "":
				out.Add(p.some, v/1e6)
			case string(f[0]) == "full" && p.full != "":
				out.Add(p.full, v/1e6)
			}
		}
	}
	if !found {
		return metric.ErrAbsent
	}
	return nil
}

// Files reads the number of open files of the whole system.
type Files struct {
	proc  source.Tree
	r     source.Reader
	field [3][]byte
}

// NewFiles makes the collector "filefd".
func NewFiles(proc source.Tree) *Files { return &Files{proc: proc} }

// Name implements metric.Collector.
func (c *Files) Name() string { return "filefd" }

// Collect implements metric.Collector.
func (c *Files) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("sys/fs/file-nr"))
	if err != nil {
		return err
	}
	f := source.Fields(b, c.field[:0])
	if len(f) < 3 {
		return fmt.Errorf("%s has fewer than three numbers", c.proc.Path("sys/fs/file-nr"))
	}
	if v, ok := source.Float(f[0]); ok {
		out.Add("node_filefd_allocated", v)
	}
	if v, ok := source.Float(f[2]); ok {
		out.Add("node_filefd_maximum", v)
	}
	return nil
}

// Entropy reads how much randomness the kernel has.
type Entropy struct {
	proc source.Tree
	r    source.Reader
}

// NewEntropy makes the collector "entropy".
func NewEntropy(proc source.Tree) *Entropy { return &Entropy{proc: proc} }

// Name implements metric.Collector.
func (c *Entropy) Name() string { return "entropy" }

// Collect implements metric.Collector.
func (c *Entropy) Collect(_ context.Context, out *metric.Batch) error {
	v, ok := c.r.Number(c.proc.Path("sys/kernel/random/entropy_avail"))
	if !ok {
		return metric.ErrAbsent
	}
	out.Add("node_entropy_available_bits", v)
	if v, ok := c.r.Number(c.proc.Path("sys/kernel/random/poolsize")); ok {
		out.Add("node_entropy_pool_size_bits", v)
	}
	return nil
}

// Hung reads how many tasks the kernel found hanging.
type Hung struct {
	proc source.Tree
	r    source.Reader
}

// NewHung makes the collector "kernel_hung".
func NewHung(proc source.Tree) *Hung { return &Hung{proc: proc} }

// Name implements metric.Collector.
func (c *Hung) Name() string { return "kernel_hung" }

// Collect implements metric.Collector.
func (c *Hung) Collect(_ context.Context, out *metric.Batch) error {
	v, ok := c.r.Number(c.proc.Path("sys/kernel/hung_task_detect_count"))
	if !ok {
		return metric.ErrAbsent
	}
	out.Add("node_kernel_hung_tasks_total", v)
	return nil
}

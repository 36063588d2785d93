package kernel

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Meminfo reads /proc/meminfo.
type Meminfo struct {
	proc  source.Tree
	r     source.Reader
	names source.Interner
	field [3][]byte
}

// NewMeminfo makes the collector "meminfo".
func NewMeminfo(proc source.Tree) *Meminfo { return &Meminfo{proc: proc} }

// Name implements metric.Collector.
func (c *Meminfo) Name() string { return "meminfo" }

// Collect implements metric.Collector.
func (c *Meminfo) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("meminfo"))
	if err != nil {
		return err
	}
	n := 0
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		if len(f) < 2 || !bytes.HasSuffix(f[0], []byte(":")) {
			continue
		}
		v, ok := source.Uint(f[1])
		if !ok {
			continue
		}
		key, kb := f[0], len(f) == 3 && string(f[2]) == "kB"
		if kb {
			out.Add(c.names.Name(key, memoryBytes), float64(v*1024))
		} else {
			out.Add(c.names.Name(key, memoryCount), float64(v))
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%s has no numbers", c.proc.Path("meminfo"))
	}
	return nil
}

func memoryCount(key string) string {
	key = strings.TrimSuffix(key, ":")
	key = strings.ReplaceAll(strings.ReplaceAll(key, "(", "_"), ")", "")
	return "node_memory_" + metric.Sanitize(key)
}

func memoryBytes(key string) string { return memoryCount(key) + "_bytes" }

// Vmstat reads the few fields of /proc/vmstat that people look at.
type Vmstat struct {
	proc  source.Tree
	r     source.Reader
	names source.Interner
	field [2][]byte
}

// NewVmstat makes the collector "vmstat".
func NewVmstat(proc source.Tree) *Vmstat { return &Vmstat{proc: proc} }

// Name implements metric.Collector.
func (c *Vmstat) Name() string { return "vmstat" }

// Collect implements metric.Collector.
func (c *Vmstat) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("vmstat"))
	if err != nil {
		return err
	}
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		if !wantedVM(line) {
			continue
		}
		f := source.Fields(line, c.field[:0])
		if len(f) != 2 {
			continue
		}
		if v, ok := source.Float(f[1]); ok {
			out.Add(c.names.Name(f[0], func(k string) string { return "node_vmstat_" + metric.Sanitize(k) }), v)
		}
	}
	return nil
}

// wantedVM is node_exporter's ^(oom_kill|pgpg|pswp|pg.*fault).*
func wantedVM(line []byte) bool {
	for _, p := range [...]string{"oom_kill", "pgpg", "pswp"} {
		if bytes.HasPrefix(line, []byte(p)) {
			return true
		}
	}
	return bytes.HasPrefix(line, []byte("pg")) && bytes.Contains(line, []byte("fault"))
}

// Package container reads what the containers of a host use, from control
// groups; names come from the engine's socket when that is allowed.
package container

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"time"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Containers reads control groups, version 2 first, under cAdvisor's names.
type Containers struct {
	proc, sys source.Tree
	names     *Names
	r         source.Reader
	field     [32][]byte
	groups    []group
	next      time.Time
}

// group is the control group of a container.
type group struct {
	id      string // of the container
	path    string // below the root of the hierarchy
	v1      bool
	started time.Time
}

const (
	maxGroups = 1000
	maxDepth  = 8
	maxLook   = 20000           // directories a search looks at
	maxPause  = 2 * time.Minute // between two searches, however long one takes
)

// New makes the collector "container". names may be nil: no socket is asked.
func New(proc, sys source.Tree, names *Names) *Containers {
	return &Containers{proc: proc, sys: sys, names: names}
}

// Name implements metric.Collector.
func (c *Containers) Name() string { return "container" }

// Close ends questions to the sockets.
func (c *Containers) Close() error {
	if c.names != nil {
		c.names.close()
	}
	return nil
}

// idPattern finds a container's id in the name of a group: docker-<id>.scope,
// cri-containerd-<id>.scope, libpod-<id>.scope, crio-<id>.scope, <id>.
var idPattern = regexp.MustCompile(`^(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?$`)

// lxcPattern finds the containers of LXC and systemd-nspawn, which have names.
var lxcPattern = regexp.MustCompile(`^(?:lxc\.payload\.|machine-)([A-Za-z0-9_.-]+?)(?:\.scope)?$`)

func containerID(dir string) string {
	if strings.HasPrefix(dir, "libpod-conmon-") || strings.HasPrefix(dir, "crio-conmon-") {
		return ""
	}
	if m := idPattern.FindStringSubmatch(dir); m != nil {
		return m[1]
	}
	if m := lxcPattern.FindStringSubmatch(dir); m != nil {
		return m[1]
	}
	return ""
}

// Collect implements metric.Collector.
func (c *Containers) Collect(ctx context.Context, out *metric.Batch) error {
	if c.names != nil {
		c.names.refresh()
	}
	if now := time.Now(); !now.Before(c.next) {
		c.find(ctx)
		c.next = now.Add(min(1000*time.Since(now), maxPause))
	}
	if c.names != nil {
		c.names.emit(out)
	}
	if len(c.groups) == 0 && (c.names == nil || !c.names.any()) {
		return metric.ErrAbsent
	}
	for i := range c.groups {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g := &c.groups[i]
		name, image := c.names.of(g.id)
		kv := [...]string{"id", "/" + g.path, "name", name, "image", image}
		if g.v1 {
			c.old(out, g, kv[:])
		} else {
			c.unified(out, g, kv[:])
		}
	}
	return nil
}

// find looks for the groups of containers.
func (c *Containers) find(ctx context.Context) {
	c.groups = c.groups[:0]
	root, v1 := c.sys.Path("fs/cgroup"), false
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root, v1 = c.sys.Path("fs/cgroup/memory"), true
	}
	looked := 0
	var walk func(rel string, depth int)
	walk = func(rel string, depth int) {
		entries, err := os.ReadDir(root + "/" + rel)
		if err != nil {
			return
		}
		for _, e := range entries {
			if looked++; looked > maxLook || len(c.groups) >= maxGroups || ctx.Err() != nil {
				return
			}
			if !e.IsDir() {
				continue
			}
			path := strings.TrimPrefix(rel+"/"+e.Name(), "/")
			if id := containerID(e.Name()); id != "" {
				g := group{id: id, path: path, v1: v1}
				if st, err := os.Stat(root + "/" + path); err == nil {
					g.started = st.ModTime()
				}
				c.groups = append(c.groups, g)
				continue // what is inside belongs to it
			}
			if depth < maxDepth {
				walk(path, depth+1)
			}
		}
	}
	walk("", 0)
}

// keys reads lines "key value" and calls f for each.
func (c *Containers) keys(path string, f func(key []byte, v float64)) {
	b, err := c.r.ReadMax(path, 256<<10)
	if err != nil {
		return
	}
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		if w := source.Fields(line, c.field[:0]); len(w) == 2 {
			if v, ok := source.Float(w[1]); ok {
				f(w[0], v)
			}
		}
	}
}

func (c *Containers) unified(out *metric.Batch, g *group, kv []string) {
	dir := c.sys.Path("fs/cgroup", g.path)
	c.keys(dir+"/cpu.stat", func(k []byte, v float64) {
		switch string(k) {
		case "usage_usec":
			out.Add("container_cpu_usage_seconds_total", v/1e6, append(kv, "cpu", "total")...)
		case "user_usec":
			out.Add("container_cpu_user_seconds_total", v/1e6, kv...)
		case "system_usec":
			out.Add("container_cpu_system_seconds_total", v/1e6, kv...)
		case "nr_periods":
			out.Add("container_cpu_cfs_periods_total", v, kv...)
		case "nr_throttled":
			out.Add("container_cpu_cfs_throttled_periods_total", v, kv...)
		case "throttled_usec":
			out.Add("container_cpu_cfs_throttled_seconds_total", v/1e6, kv...)
		}
	})
	var inactive float64
	c.keys(dir+"/memory.stat", func(k []byte, v float64) {
		switch string(k) {
		case "anon":
			out.Add("container_memory_rss", v, kv...)
		case "file":
			out.Add("container_memory_cache", v, kv...)
		case "inactive_file":
			inactive = v
		case "pgmajfault":
			out.Add("container_memory_failures_total", v, append(kv, "failure_type", "pgmajfault", "scope", "container")...)
		}
	})
	if v, ok := c.r.Number(dir + "/memory.current"); ok {
		out.Add("container_memory_usage_bytes", v, kv...)
		out.Add("container_memory_working_set_bytes", max(0, v-inactive), kv...)
	}
	if v, ok := c.r.Number(dir + "/memory.swap.current"); ok {
		out.Add("container_memory_swap", v, kv...)
	}
	limit, _ := c.r.Number(dir + "/memory.max") // "max": none, 0 as cAdvisor has it
	out.Add("container_spec_memory_limit_bytes", limit, kv...)
	c.keys(dir+"/memory.events", func(k []byte, v float64) {
		if string(k) == "oom_kill" {
			out.Add("container_oom_events_total", v, kv...)
		}
	})
	if v, ok := c.r.Number(dir + "/pids.current"); ok {
		out.Add("container_threads", v, kv...)
	}
	c.io(out, dir+"/io.stat", kv)
	c.network(out, dir, g, kv)
}

// io reads lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func (c *Containers) io(out *metric.Batch, path string, kv []string) {
	b, err := c.r.ReadMax(path, 256<<10)
	if err != nil {
		return
	}
	var sum [4]float64
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		for _, w := range source.Fields(line, c.field[:0]) {
			k, val, ok := bytes.Cut(w, []byte("="))
			v, num := source.Float(val)
			if !ok || !num {
				continue
			}
			switch string(k) {
			case "rbytes":
				sum[0] += v
			case "wbytes":
				sum[1] += v
			case "rios":
				sum[2] += v
			case "wios":
				sum[3] += v
			}
		}
	}
	out.Add("container_fs_reads_bytes_total", sum[0], kv...)
	out.Add("container_fs_writes_bytes_total", sum[1], kv...)
	out.Add("container_fs_reads_total", sum[2], kv...)
	out.Add("container_fs_writes_total", sum[3], kv...)
}

// network reads the interfaces that the container's first process sees. A
// container that shares the host's network would show the host's numbers and
// is left out.
func (c *Containers) network(out *metric.Batch, dir string, g *group, kv []string) {
	if !g.started.IsZero() {
		out.Add("container_start_time_seconds", float64(g.started.Unix()), kv...)
	}
	pid := ""
	if b, err := c.r.ReadMax(dir+"/cgroup.procs", 1<<20); err == nil {
		line, _ := source.Line(b)
		if _, ok := source.Uint(line); ok {
			pid = string(line)
		}
	}
	if pid == "" {
		return
	}
	own, err := os.Readlink(c.proc.Path(pid, "ns/net"))
	host, err2 := os.Readlink(c.proc.Path("1/ns/net"))
	if err != nil || err2 != nil || own == host {
		return
	}
	b, err := c.r.ReadMax(c.proc.Path(pid, "net/dev"), 1<<20)
	if err != nil {
		return
	}
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		i := bytes.LastIndexByte(line, ':')
		if i < 0 {
			continue
		}
		dev := string(bytes.TrimSpace(line[:i]))
		f := source.Fields(line[i+1:], c.field[:0])
		if len(f) < 12 || dev == "lo" {
			continue
		}
		for _, col := range [...]struct {
			i    int
			name string
		}{
			{0, "container_network_receive_bytes_total"}, {1, "container_network_receive_packets_total"},
			{2, "container_network_receive_errors_total"}, {3, "container_network_receive_packets_dropped_total"},
			{8, "container_network_transmit_bytes_total"}, {9, "container_network_transmit_packets_total"},
			{10, "container_network_transmit_errors_total"}, {11, "container_network_transmit_packets_dropped_total"},
		} {
			if v, ok := source.Float(f[col.i]); ok {
				out.Add(col.name, v, append(kv, "interface", dev)...)
			}
		}
	}
}

// old reads version 1 hierarchies, which have one tree for each controller.
func (c *Containers) old(out *metric.Batch, g *group, kv []string) {
	mem := c.sys.Path("fs/cgroup/memory", g.path)
	if v, ok := c.r.Number(c.sys.Path("fs/cgroup/cpuacct", g.path, "cpuacct.usage")); ok {
		out.Add("container_cpu_usage_seconds_total", v/1e9, append(kv, "cpu", "total")...)
	}
	c.keys(c.sys.Path("fs/cgroup/cpu", g.path, "cpu.stat"), func(k []byte, v float64) {
		switch string(k) {
		case "nr_periods":
			out.Add("container_cpu_cfs_periods_total", v, kv...)
		case "nr_throttled":
			out.Add("container_cpu_cfs_throttled_periods_total", v, kv...)
		case "throttled_time":
			out.Add("container_cpu_cfs_throttled_seconds_total", v/1e9, kv...)
		}
	})
	var inactive float64
	c.keys(mem+"/memory.stat", func(k []byte, v float64) {
		switch string(k) {
		case "total_rss":
			out.Add("container_memory_rss", v, kv...)
		case "total_cache":
			out.Add("container_memory_cache", v, kv...)
		case "total_swap":
			out.Add("container_memory_swap", v, kv...)
		case "total_inactive_file":
			inactive = v
		}
	})
	if v, ok := c.r.Number(mem + "/memory.usage_in_bytes"); ok {
		out.Add("container_memory_usage_bytes", v, kv...)
		out.Add("container_memory_working_set_bytes", max(0, v-inactive), kv...)
	}
	if v, ok := c.r.Number(mem + "/memory.limit_in_bytes"); ok {
		if v > 1<<60 {
			v = 0 // none
		}
		out.Add("container_spec_memory_limit_bytes", v, kv...)
	}
	c.network(out, mem, g, kv)
}

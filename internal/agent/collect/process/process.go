package process

import (
	"bytes"
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Group is a set of processes that is always counted.
type Group struct {
	Name  string
	Match *regexp.Regexp // over the command line
}

// Processes counts processes and threads by state, follows the groups, and
// reports the names that use the most. A walk that takes long is made less
// often, so that it stays within about a thousandth of a core.
type Processes struct {
	proc   source.Tree
	groups []Group
	top    int

	mu     sync.Mutex // a snapshot may come between rounds
	t      *table
	next   time.Time
	booted time.Time
	shown  map[string]uint64 // names reported, with the walk that chose them
	sum    summary
	order  []string

	threads     [256]int
	nextThreads time.Time
	r           source.Reader
	limits      [2]float64
	stateNames  [256]string
}

type summary struct {
	at      time.Time
	states  [256]int
	threads int
	groups  []groupSum
}

type groupSum struct {
	count, threads, files int
	cpu                   float64
	rss, vsize            uint64
	start                 uint64
}

const (
	maxPause       = 2 * time.Minute // between two walks, however long one takes
	lingerWalks    = 20              // a name stays reported for as many walks after it left the top
	maxFileLooks   = 200             // processes whose open files are counted
	stateOfThreads = "RSDZTI"
)

// New makes the collector "processes". top is how many names by processor
// time, by memory and by input and output are reported; 0 for none.
func New(proc source.Tree, groups []Group, top int) *Processes {
	watch := make([]*regexp.Regexp, len(groups))
	for i, g := range groups {
		watch[i] = g.Match
	}
	return &Processes{proc: proc, groups: groups, top: top, t: newTable(proc, watch), shown: map[string]uint64{}}
}

// Name implements metric.Collector.
func (c *Processes) Name() string { return "processes" }

// Collect implements metric.Collector.
func (c *Processes) Collect(ctx context.Context, out *metric.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); !now.Before(c.next) {
		if err := c.t.update(func() bool { return ctx.Err() != nil }); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.summarise(ctx)
		c.next = now.Add(min(1000*time.Since(now), maxPause))
	}
	c.emit(out)
	return nil
}

func (c *Processes) summarise(ctx context.Context) {
	if c.booted.IsZero() {
		c.booted = boot(&c.r, c.proc)
	}
	s := summary{at: time.Now(), groups: make([]groupSum, len(c.groups))}
	if len(c.sum.groups) == len(s.groups) {
		for i, g := range c.sum.groups {
			s.groups[i].cpu = g.cpu
		}
	}
	looks := 0
	for _, p := range c.t.procs {
		s.states[p.state]++
		s.threads += p.threads
		for _, i := range p.groups {
			g := &s.groups[i]
			g.count++
			g.threads += p.threads
			g.rss += p.rss
			g.vsize += p.vsize
			g.cpu += float64(p.owed) / userHZ
			if g.start == 0 || p.start < g.start {
				g.start = p.start
			}
			if looks < maxFileLooks {
				looks++
				g.files += max(0, c.t.files(p.pid))
			}
		}
		p.owed = 0
	}
	c.sum = s
	c.countThreads(ctx)
	c.choose()
	c.limits[0], _ = c.r.Number(c.proc.Path("sys/kernel/pid_max"))
	c.limits[1], _ = c.r.Number(c.proc.Path("sys/kernel/threads-max"))
}

// countThreads counts the states of threads. Processes with one thread need
// no look at it; hosts with many thousand threads are looked at less often.
func (c *Processes) countThreads(ctx context.Context) {
	now := time.Now()
	if now.Before(c.nextThreads) {
		return
	}
	clear(c.threads[:])
	for _, p := range c.t.procs {
		if ctx.Err() != nil {
			break
		}
		if p.threads <= 1 {
			c.threads[p.state]++
			continue
		}
		for _, tid := range source.Names(c.t.file(p.pid, "task"), 20000) {
			b, err := c.r.ReadMax(c.t.file(p.pid, "task/"+tid+"/stat"), 16<<10)
			if err != nil {
				continue
			}
			if i := bytes.LastIndexByte(b, ')'); i >= 0 && i+2 < len(b) {
				c.threads[b[i+2]]++
			}
		}
	}
	c.nextThreads = now.Add(min(2000*time.Since(now), 5*maxPause))
}

// choose picks the names that are reported: the top of three orders, and for
// a while those that were. Their number is bounded.
func (c *Processes) choose() {
	if c.top == 0 {
		return
	}
	names := c.order[:0]
	for n, u := range c.t.usage {
		if u.count > 0 {
			names = append(names, n)
		}
	}
	c.order = names
	u := c.t.usage
	for _, key := range [...]func(string) uint64{
		func(n string) uint64 { return u[n].delta },
		func(n string) uint64 { return u[n].rss },
		func(n string) uint64 { return u[n].ioDelta },
	} {
		slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(key(b), key(a)), cmp.Compare(a, b)) })
		for _, n := range names[:min(len(names), c.top)] {
			if key(n) > 0 {
				c.shown[n] = c.t.walk
			}
		}
	}
	for n, walk := range c.shown {
		if c.t.walk-walk > lingerWalks || u[n] == nil {
			delete(c.shown, n)
		}
	}
	if limit := 4 * c.top; len(c.shown) > limit {
		list := metric.SortedKeys(c.shown)
		slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(c.shown[b], c.shown[a]) })
		for _, n := range list[limit:] {
			delete(c.shown, n)
		}
	}
}

func (c *Processes) state(b byte) string {
	if c.stateNames[b] == "" {
		c.stateNames[b] = string(rune(b))
	}
	return c.stateNames[b]
}

func (c *Processes) emit(out *metric.Batch) {
	pids := 0
	for i := range 256 {
		b := byte(i)
		always := slices.Contains([]byte(stateOfThreads), b)
		if n := c.sum.states[b]; n > 0 || always {
			pids += n
			out.Add("node_processes_state", float64(n), "state", c.state(b))
		}
		if n := c.threads[b]; n > 0 || always {
			out.Add("node_processes_threads_state", float64(n), "thread_state", c.state(b))
		}
	}
	out.Add("node_processes_pids", float64(pids))
	out.Add("node_processes_threads", float64(c.sum.threads))
	out.Add("node_processes_max_processes", c.limits[0])
	out.Add("node_processes_max_threads", c.limits[1])
	for i := range c.sum.groups {
		g, name := &c.sum.groups[i], c.groups[i].Name
		out.Add("namedprocess_namegroup_num_procs", float64(g.count), "groupname", name)
		out.Add("namedprocess_namegroup_num_threads", float64(g.threads), "groupname", name)
		out.Add("namedprocess_namegroup_open_filedesc", float64(g.files), "groupname", name)
		out.Add("namedprocess_namegroup_cpu_seconds_total", g.cpu, "groupname", name)
		out.Add("namedprocess_namegroup_memory_bytes", float64(g.rss), "groupname", name, "memtype", "resident")
		out.Add("namedprocess_namegroup_memory_bytes", float64(g.vsize), "groupname", name, "memtype", "virtual")
		if g.count > 0 && !c.booted.IsZero() {
			out.Add("namedprocess_namegroup_oldest_start_time_seconds", c.started(g.start), "groupname", name)
		}
	}
	for _, n := range metric.SortedKeys(c.shown) {
		u := c.t.usage[n]
		out.Add("panoptes_agent_process_cpu_seconds_total", u.cpu, "name", n)
		out.Add("panoptes_agent_process_resident_bytes", float64(u.rss), "name", n)
		out.Add("panoptes_agent_process_read_bytes_total", u.read, "name", n)
		out.Add("panoptes_agent_process_written_bytes_total", u.written, "name", n)
		out.Add("panoptes_agent_process_count", float64(u.count), "name", n)
	}
}

func (c *Processes) started(ticks uint64) float64 {
	return float64(c.booted.Unix()) + float64(ticks)/userHZ
}

// Process is one process of a snapshot. There are no arguments in it: they
// may hold secrets.
type Process struct {
	PID      int       `json:"pid"`
	Name     string    `json:"name"`
	Program  string    `json:"program"`
	State    string    `json:"state"`
	UID      int       `json:"uid"`
	CPU      float64   `json:"cpu"`      // cores, since the round before
	Resident uint64    `json:"resident"` // bytes
	Threads  int       `json:"threads"`
	Started  time.Time `json:"started"`
}

// Top returns the n processes that used the most processor time since the
// last walk, and the n that hold the most memory, without doubles.
func (c *Processes) Top(ctx context.Context, n int) ([]Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, since := map[int]*proc{}, c.sum.at
	for pid, p := range c.t.procs {
		q := *p
		before[pid] = &q
	}
	// A table of its own, so that the deltas of the rounds stay whole.
	t := newTable(c.proc, nil)
	t.procs, t.walk, t.all = before, 2, true
	if err := t.update(func() bool { return ctx.Err() != nil }); err != nil {
		return nil, err
	}
	span := time.Since(since).Seconds()
	list := make([]*proc, 0, len(t.procs))
	for _, p := range t.procs {
		list = append(list, p)
	}
	if c.booted.IsZero() {
		c.booted = boot(&c.r, c.proc)
	}
	var out []Process
	taken := map[int]bool{}
	for _, key := range [...]func(*proc) uint64{func(p *proc) uint64 { return p.delta }, func(p *proc) uint64 { return p.rss }} {
		slices.SortFunc(list, func(a, b *proc) int { return cmp.Or(cmp.Compare(key(b), key(a)), cmp.Compare(a.pid, b.pid)) })
		for _, p := range list[:min(len(list), n)] {
			if key(p) == 0 || taken[p.pid] {
				continue
			}
			taken[p.pid] = true
			q := Process{PID: p.pid, Name: p.name, Program: t.program(p), State: string(rune(p.state)), UID: t.owner(p.pid),
				Resident: p.rss, Threads: p.threads}
			if !since.IsZero() && span > 0 {
				q.CPU = float64(p.delta) / userHZ / span
			}
			if !c.booted.IsZero() {
				q.Started = c.booted.Add(time.Duration(p.start) * time.Second / userHZ)
			}
			out = append(out, q)
		}
	}
	return out, nil
}

// owner is the user of a process, -1 when it is gone.
func (t *table) owner(pid int) int {
	b, err := t.r.ReadMax(t.file(pid, "status"), 64<<10)
	if err != nil {
		return -1
	}
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		if f := source.Fields(line, t.fields[:0]); len(f) > 2 && string(f[0]) == "Uid:" {
			n, err := strconv.Atoi(string(f[2]))
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// Package process counts processes and tells which use the most.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"panoptes/internal/agent/collect/source"
)

const (
	userHZ       = 100
	maxProcesses = 100000
	maxCommand   = 4096 // bytes of a command line that patterns see
)

// table follows the processes of a host from walk to walk.
type table struct {
	proc   source.Tree
	r      source.Reader
	names  source.Interner
	watch  []*regexp.Regexp
	page   uint64
	procs  map[int]*proc
	walk   uint64
	all    bool // procs holds all that ran at some walk: what is new began after it
	path   []byte
	fields [24][]byte
	usage  map[string]*usage // by name, counters since the first walk
	pids   []int
}

// proc is one process, known by its pid and start time.
type proc struct {
	pid     int
	start   uint64 // ticks after boot
	name    string
	groups  []int // of watch
	state   byte
	threads int
	ticks   uint64
	delta   uint64 // ticks since the look before
	owed    uint64 // ticks that the groups do not count yet
	rss     uint64
	vsize   uint64
	io      [2]uint64 // read, written
	hasIO   bool
	walk    uint64
}

// usage is what all processes of a name used since the first walk, those that
// have ended included.
type usage struct {
	cpu, read, written float64
	delta              uint64
	ioDelta            uint64
	rss                uint64
	count              int
	walk               uint64
}

func newTable(tree source.Tree, watch []*regexp.Regexp) *table {
	return &table{proc: tree, watch: watch, page: uint64(os.Getpagesize()), procs: map[int]*proc{}, usage: map[string]*usage{}}
}

// update walks the processes.
func (t *table) update(done func() bool) error {
	pids, err := t.list()
	if err != nil {
		return err
	}
	t.walk++
	for _, u := range t.usage {
		u.delta, u.ioDelta, u.rss, u.count = 0, 0, 0, 0
	}
	whole := true
	for _, pid := range pids {
		if done() {
			whole = false
			break
		}
		whole = t.one(pid) && whole
	}
	if !whole {
		slices.Sort(pids)
	}
	for pid, p := range t.procs {
		if p.walk == t.walk {
			continue
		}
		if !whole { // it may only have been missed
			if _, there := slices.BinarySearch(pids, pid); there {
				continue
			}
		}
		delete(t.procs, pid)
	}
	if len(pids) >= maxProcesses {
		t.all = false
	} else if whole {
		t.all = true
	}
	for name, u := range t.usage {
		if t.walk-u.walk > 40 {
			delete(t.usage, name)
		}
	}
	return nil
}

func (t *table) list() ([]int, error) {
	d, err := os.Open(t.proc.Root)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	t.pids = t.pids[:0]
	for len(t.pids) < maxProcesses {
		names, err := d.Readdirnames(1024)
		for _, n := range names {
			if n[0] >= '1' && n[0] <= '9' {
				if pid, err := strconv.Atoi(n); err == nil {
					t.pids = append(t.pids, pid)
				}
			}
		}
		if err != nil || len(names) == 0 {
			break
		}
	}
	if len(t.pids) == 0 {
		return nil, fmt.Errorf("%s has no processes", t.proc.Root)
	}
	return t.pids, nil
}

func (t *table) file(pid int, name string) string {
	b := append(t.path[:0], t.proc.Root...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(pid), 10)
	b = append(b, '/')
	t.path = append(b, name...)
	return string(t.path)
}

// one reads a process. One that ended meanwhile, or is not ours to see, is left
// out; false says that it is there and could not be read.
func (t *table) one(pid int) bool {
	b, err := t.r.ReadMax(t.file(pid, "stat"), 16<<10)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ESRCH)
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return true
	}
	f := source.Fields(b[end+1:], t.fields[:0])
	if len(f) < 22 || len(f[0]) != 1 {
		return true
	}
	num := func(i int) uint64 { n, _ := source.Uint(f[i]); return n }
	name := t.names.Get(b[open+1 : end])
	start, ticks := num(19), num(11)+num(12)
	p := t.procs[pid]
	fresh := p == nil || p.start != start
	if fresh {
		p = &proc{pid: pid, start: start}
		if t.all {
			p.delta = ticks // all of it was used since the walk before
		}
		t.procs[pid] = p
	} else {
		p.delta = ticks - min(ticks, p.ticks)
	}
	p.owed += p.delta
	p.state, p.threads, p.ticks = f[0][0], int(num(17)), ticks
	p.vsize, p.rss, p.walk = num(20), num(21)*t.page, t.walk
	if p.name != name {
		p.name = name
		p.groups = t.match(p)
	}
	u := t.usage[name]
	if u == nil {
		u = &usage{}
		t.usage[name] = u
	}
	u.walk = t.walk
	u.count++
	u.rss += p.rss
	u.delta += p.delta
	u.cpu += float64(p.delta) / userHZ
	// Whoever reads or writes uses some processor time, so the sleeping many
	// need no look.
	if p.delta > 0 || fresh {
		t.readIO(p, u, fresh)
	}
	return true
}

func (t *table) readIO(p *proc, u *usage, fresh bool) {
	b, err := t.r.ReadMax(t.file(p.pid, "io"), 4096)
	if err != nil {
		return // another user's, and we are not root
	}
	var now [2]uint64
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		if v, ok := bytes.CutPrefix(line, []byte("read_bytes: ")); ok {
			now[0], _ = source.Uint(v)
		} else if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			now[1], _ = source.Uint(v)
		}
	}
	if p.hasIO || (fresh && t.all) {
		r, w := now[0]-min(now[0], p.io[0]), now[1]-min(now[1], p.io[1])
		u.read += float64(r)
		u.written += float64(w)
		u.ioDelta += r + w
	}
	p.io, p.hasIO = now, true
}

// match says which patterns look for p.
func (t *table) match(p *proc) []int {
	if len(t.watch) == 0 {
		return nil
	}
	cmd := p.name
	if b, err := t.command(p.pid); err == nil && len(b) > 0 {
		cmd = string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
	}
	var groups []int
	for i, re := range t.watch {
		if re.MatchString(cmd) {
			groups = append(groups, i)
		}
	}
	return groups
}

func (t *table) command(pid int) ([]byte, error) {
	b, err := t.r.ReadMax(t.file(pid, "cmdline"), 4<<20)
	return b[:min(len(b), maxCommand)], err
}

// program is the first word of the command line: arguments may hold secrets
// and never leave the host.
func (t *table) program(p *proc) string {
	b, err := t.command(p.pid)
	if err != nil || len(b) == 0 {
		return p.name
	}
	first, _, _ := bytes.Cut(b, []byte{0})
	s, _, _ := strings.Cut(string(first), " ")
	return s
}

// files counts the open files of a process, -1 when we may not look.
func (t *table) files(pid int) int {
	d, err := os.Open(t.file(pid, "fd"))
	if err != nil {
		return -1
	}
	defer d.Close()
	n := 0
	for n < 1<<20 {
		names, err := d.Readdirnames(1024)
		n += len(names)
		if err != nil || len(names) == 0 {
			break
		}
	}
	return n
}

// boot reads when the host started.
func boot(r *source.Reader, proc source.Tree) time.Time {
	b, err := r.Read(proc.Path("stat"))
	if err != nil {
		return time.Time{}
	}
	if i := bytes.Index(b, []byte("\nbtime ")); i >= 0 {
		line, _ := source.Line(b[i+7:])
		if n, ok := source.Uint(line); ok {
			return time.Unix(int64(n), 0)
		}
	}
	return time.Time{}
}

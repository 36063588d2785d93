package disk

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Filesystems measures the mounted file systems. One that does not answer (a
// network file system whose server is gone) is reported as such and left
// alone until it does; one that answers late is reported a round later.
type Filesystems struct {
	proc, root    source.Tree
	mounts, types *regexp.Regexp
	wait          time.Duration
	statfs        func(path string, st *unix.Statfs_t) error
	r             source.Reader
	field         [64][]byte
	raw           []byte
	own           bool            // raw is the agent's list, not the host's
	list          []mount         // those of a network last: they may cost the time of the others
	answered      map[string]bool // by path: it did so before

	mu    sync.Mutex            // guards what follows
	stuck map[string]bool       // asked, and did not answer in time
	late  map[string]lateAnswer // what came after its time
}

type mount struct {
	device, point, fstype string
	major, minor          string
	readonly              bool
	path                  string // where it is seen from here
	remote                bool   // it hangs when somebody else does
}

const (
	maxMounts = 1000
	maxStuck  = 32 // then no others are asked but local ones that have answered before

	lateFirst = 10 * time.Minute // how old a late answer may be when it is reported first
	lateAgain = time.Minute      // and for how long again, while there is no newer one
)

// network are the types that hang when another machine or process does.
var network = regexp.MustCompile(`^(nfs|cifs|smb|ceph|fuse|9p|afs|lustre|glusterfs|beegfs|gpfs)`)

// NewFilesystems makes the collector "filesystem". Mount points and types
// that match the expressions are left out; nil leaves none out.
func NewFilesystems(proc, root source.Tree, mounts, types *regexp.Regexp) *Filesystems {
	return &Filesystems{proc: proc, root: root, mounts: mounts, types: types, wait: 500 * time.Millisecond,
		statfs: unix.Statfs, answered: map[string]bool{}, stuck: map[string]bool{}, late: map[string]lateAnswer{}}
}

// Name implements metric.Collector.
func (c *Filesystems) Name() string { return "filesystem" }

type answer struct {
	st  unix.Statfs_t
	err error
}

// lateAnswer is that of a file system that took longer than a round waits. The
// next round reports it.
type lateAnswer struct {
	answer
	at   time.Time
	took time.Duration
	used time.Time // when it was reported first
}

// Collect implements metric.Collector.
func (c *Filesystems) Collect(ctx context.Context, out *metric.Batch) error {
	if err := c.read(); err != nil {
		return err
	}
	for i := 0; i < len(c.list); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := c.ask(ctx, out, c.list[i:])
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// ask measures file systems from one goroutine until one does not answer, and
// returns how many are done with.
func (c *Filesystems) ask(ctx context.Context, out *metric.Batch, list []mount) (int, error) {
	todo, answers, quit := make(chan string), make(chan answer), make(chan struct{})
	defer close(quit)
	go c.serve(todo, answers, quit)
	timer := time.NewTimer(c.wait)
	defer timer.Stop()
	for i, m := range list {
		c.mu.Lock()
		stuck, many := c.stuck[m.path], len(c.stuck) >= maxStuck
		c.mu.Unlock()
		if a, ok := c.overdue(m.path); ok {
			c.answered[m.path] = true
			c.tell(out, m, &a.answer)
			if !stuck && !many && a.took >= c.wait {
				c.hung(m.path)
				go c.measure(m.path)
			}
			continue
		}
		if stuck || many && (m.remote || !c.answered[m.path]) {
			c.report(out, m, nil, "mountpoint timeout")
			continue
		}
		timer.Reset(c.wait)
		todo <- m.path
		select {
		case a := <-answers:
			c.answered[m.path] = true
			c.tell(out, m, &a)
		case <-timer.C:
			c.hung(m.path)
			c.report(out, m, nil, "mountpoint timeout")
			return i + 1, nil
		case <-ctx.Done():
			c.hung(m.path)
			return i + 1, ctx.Err()
		}
	}
	return len(list), nil
}

func (c *Filesystems) hung(path string) {
	c.mu.Lock()
	c.stuck[path] = true
	c.mu.Unlock()
}

// overdue is the late answer of a file system, unless it is too old. That of one
// that is slow stays until there is a newer one; one that was quick is asked
// again, and waited for, in the next round.
func (c *Filesystems) overdue(path string) (lateAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.late[path]
	if !ok {
		return a, false
	}
	fresh := time.Since(a.at) <= lateFirst
	if a.used.IsZero() {
		a.used = time.Now()
	} else {
		fresh = time.Since(a.used) <= lateAgain
	}
	if !fresh || a.took < c.wait {
		delete(c.late, path)
	} else {
		c.late[path] = a
	}
	return a, fresh
}

// measure asks a file system for which nobody waits.
func (c *Filesystems) measure(path string) {
	began := time.Now()
	var a answer
	a.err = c.statfs(path, &a.st)
	c.keep(path, a, began)
}

func (c *Filesystems) keep(path string, a answer, began time.Time) {
	now := time.Now()
	c.mu.Lock()
	delete(c.stuck, path)
	c.late[path] = lateAnswer{answer: a, at: now, took: now.Sub(began)}
	c.mu.Unlock()
}

func (c *Filesystems) serve(todo <-chan string, answers chan<- answer, quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case path := <-todo:
			began := time.Now()
			var a answer
			a.err = c.statfs(path, &a.st)
			select {
			case answers <- a:
			case <-quit: // too late: nobody waits any more
				c.keep(path, a, began)
				return
			}
		}
	}
}

func (c *Filesystems) tell(out *metric.Batch, m mount, a *answer) {
	if a.err != nil {
		c.report(out, m, nil, a.err.Error())
		return
	}
	c.report(out, m, &a.st, "")
}

func (c *Filesystems) report(out *metric.Batch, m mount, st *unix.Statfs_t, fault string) {
	kv := [...]string{"device", m.device, "fstype", m.fstype, "mountpoint", m.point, "device_error", fault}
	out.Bool("node_filesystem_device_error", fault != "", kv[:]...)
	// Not what statfs says: that is of the mount here, which is read-only for an
	// agent that is confined though the host writes to its own.
	out.Bool("node_filesystem_readonly", m.readonly, kv[:]...)
	out.Add("node_filesystem_mount_info", 1, "device", m.device, "major", m.major, "minor", m.minor, "mountpoint", m.point)
	if st == nil {
		return
	}
	size := float64(st.Bsize)
	out.Add("node_filesystem_size_bytes", float64(st.Blocks)*size, kv[:]...)
	out.Add("node_filesystem_free_bytes", float64(st.Bfree)*size, kv[:]...)
	out.Add("node_filesystem_avail_bytes", float64(st.Bavail)*size, kv[:]...)
	out.Add("node_filesystem_purgeable_bytes", 0, kv[:]...)
	out.Add("node_filesystem_files", float64(st.Files), kv[:]...)
	out.Add("node_filesystem_files_free", float64(st.Ffree), kv[:]...)
}

// read takes over the list of mounts when it has changed.
func (c *Filesystems) read() error {
	b, err := c.r.Read(c.proc.Path("1/mountinfo"))
	own := err != nil
	if own {
		// Without rights on process 1 our own view is what there is.
		if b, err = c.r.Read(c.proc.Path("self/mountinfo")); err != nil {
			return err
		}
	}
	if c.raw != nil && own == c.own && bytes.Equal(b, c.raw) {
		return nil
	}
	c.raw, c.own = append(c.raw[:0], b...), own
	c.list = c.list[:0]
	seen := map[[2]string]bool{}
	for len(b) > 0 && len(c.list) < maxMounts {
		var line []byte
		line, b = source.Line(b)
		m, ok := c.parse(line)
		if !ok || seen[[2]string{m.device, m.point}] {
			continue
		}
		seen[[2]string{m.device, m.point}] = true
		c.list = append(c.list, m)
	}
	slices.SortStableFunc(c.list, func(a, b mount) int {
		switch {
		case a.remote == b.remote:
			return 0
		case b.remote:
			return -1
		}
		return 1
	})
	before := c.answered
	c.answered = make(map[string]bool, len(c.list))
	there := make(map[string]bool, len(c.list))
	for _, m := range c.list {
		there[m.path] = true
		if before[m.path] {
			c.answered[m.path] = true
		}
	}
	c.mu.Lock()
	maps.DeleteFunc(c.late, func(path string, _ lateAnswer) bool { return !there[path] })
	c.mu.Unlock()
	if len(c.list) == 0 && len(c.raw) > 0 && !bytes.Contains(c.raw, []byte(" - ")) {
		c.raw = nil
		return fmt.Errorf("%s has no mounts", c.proc.Path("1/mountinfo"))
	}
	return nil
}

// parse reads a line such as
// 27 1 254:0 / /data rw,noatime shared:1 - ext4 /dev/vda rw,discard
func (c *Filesystems) parse(line []byte) (mount, bool) {
	f := source.Fields(line, c.field[:0])
	sep := -1
	for i := 6; i < len(f); i++ {
		if string(f[i]) == "-" {
			sep = i
			break
		}
	}
	if sep < 0 || len(f) < sep+3 {
		return mount{}, false
	}
	m := mount{fstype: string(f[sep+1]), device: unescape(f[sep+2]), path: unescape(f[4])}
	m.remote = network.MatchString(m.fstype)
	m.major, m.minor, _ = strings.Cut(string(f[2]), ":")
	m.readonly = !c.own && hasOption(f[5], "ro") ||
		len(f) > sep+3 && (hasOption(f[sep+3], "ro") || hasOption(f[sep+3], "emergency_ro"))
	m.point = m.path
	if root := strings.TrimSuffix(c.root.Root, "/"); root != "" {
		// Seen from a container, the host's mounts lie below the root, or the
		// list is the host's own and the root goes in front.
		if p, ok := strings.CutPrefix(m.path, root); ok && (p == "" || p[0] == '/') {
			m.point = "/" + strings.TrimPrefix(p, "/")
		} else {
			m.path = root + m.path
		}
	}
	if c.mounts != nil && c.mounts.MatchString(m.point) || c.types != nil && c.types.MatchString(m.fstype) {
		return mount{}, false
	}
	return m, true
}

func hasOption(options []byte, want string) bool {
	for o := range bytes.SplitSeq(options, []byte(",")) {
		if string(o) == want {
			return true
		}
	}
	return false
}

// unescape undoes the kernel's octal escapes for space, tab, newline and backslash.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && octal(b[i+1]) && octal(b[i+2]) && octal(b[i+3]) {
			out = append(out, (b[i+1]-'0')<<6|(b[i+2]-'0')<<3|(b[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, b[i])
	}
	return string(out)
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

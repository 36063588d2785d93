//go:build fault && linux

package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// setup says what a row needs.
type setup struct {
	regions []string // one server each, in this order
	disk    string   // size of each server's disk; default 2G
	env     []string // more settings of every server
	checks  int      // HTTP checks against targets of their own
	every   string   // interval of the checks; default 1s
	policy  string   // of the checks; default majority
}

var three = []string{"eu", "us", "ap"}

// cluster is a set of servers, each on a machine and a disk of its own.
type cluster struct {
	t     *testing.T
	row   string
	bin   string
	dir   string
	set   setup
	seed  int64
	rand  *rand.Rand
	net   *harness.Network
	world *world
	flags string // help of the server command
	mu    sync.Mutex
	nodes []*node // guarded by mu for writers; the row itself changes it
	began time.Time
	still *harness.Standstill // of the machine that runs all of it
}

// node is a server's machine.
type node struct {
	c            *cluster
	name, region string
	ip           string
	host         *harness.Host
	disk         *harness.Disk
	log          string
	args         []string
	proc         *process
	*client
}

// newCluster starts the servers and waits until they see each other.
func newCluster(t *testing.T, set setup) *cluster {
	t.Helper()
	c := &cluster{t: t, row: strings.TrimPrefix(t.Name(), "Test"), bin: harness.Binary(t), set: set, seed: options.seed, began: time.Now(), still: harness.NewStandstill(t)}
	c.rand = rand.New(rand.NewPCG(uint64(c.seed), 0))
	c.dir = scratch(t, c.row)
	t.Logf("%s: seed %d, regions %v, directory %s", c.row, c.seed, set.regions, c.dir)
	if c.set.disk == "" {
		c.set.disk = "3G"
	}
	help, err := exec.Command(c.bin, "server", "--help").CombinedOutput()
	require.NoError(t, err, "%s", help)
	c.flags = string(help)
	if len(set.regions) > 1 && !strings.Contains(c.flags, "--join") {
		t.Skip("skipped: this program has no cluster")
	}
	c.net = harness.NewNetwork(t)
	c.world = newWorld(t, c.dir)
	for i, region := range set.regions {
		c.add(fmt.Sprintf("n%d", i+1), region)
	}
	c.waitWhole(60 * time.Second)
	return c
}

// scratch makes a directory that outlives the test when it fails. Of those only
// the newest few are kept.
func scratch(t *testing.T, row string) string {
	base := os.Getenv("PANOPTES_FAULT_DIR")
	if base == "" {
		base = filepath.Join(os.TempDir(), "panoptes-fault")
	}
	require.NoError(t, os.MkdirAll(base, 0o755))
	old, err := filepath.Glob(filepath.Join(base, "2*"))
	require.NoError(t, err)
	slices.Sort(old)
	for len(old) > 4 {
		if free, err := hold(old[0]); err == nil { // not that of another run that goes on
			require.NoError(t, os.RemoveAll(old[0]))
			free()
		}
		old = old[1:]
	}
	dir, err := os.MkdirTemp(base, time.Now().Format("20060102-150405")+"-"+row+"-")
	require.NoError(t, err)
	free, err := hold(dir)
	require.NoError(t, err)
	t.Cleanup(func() {
		defer free()
		if t.Failed() || options.keep {
			t.Logf("disks (mount -o loop FILE.img DIR) and logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("remove %s: %s", dir, err)
		}
	})
	return dir
}

// hold keeps a directory from other runs until free, or the end of this process.
func hold(dir string) (free func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// add starts one more server on a new machine and waits until it is ready.
func (c *cluster) add(name, region string) *node {
	c.t.Helper()
	n := c.machine(name, region)
	n.start()
	n.waitReady(60 * time.Second)
	c.include(n)
	return n
}

// machine prepares a machine for a server that will join the others, or be the
// first.
func (c *cluster) machine(name, region string) *node {
	c.t.Helper()
	host := c.net.Host(name)
	n := &node{c: c, name: name, region: region, host: host, ip: host.IP,
		log:    filepath.Join(c.dir, fmt.Sprintf("%s-%s.log", name, host.IP)),
		disk:   harness.NewDisk(c.t, c.dir, fmt.Sprintf("disk-%s-%s", name, host.IP), c.set.disk),
		client: newClient("http://"+host.IP+":9700", 20*time.Second)}
	n.args = []string{"server", "--node", name, "--region", region, "--data-dir", filepath.Join(n.disk.Dir, "data")}
	if strings.Contains(c.flags, "--bind") {
		n.args = append(n.args, "--bind", n.ip)
	} else {
		n.args = append(n.args, "--listen", n.ip+":9700")
	}
	if peer := c.someone(); peer != nil {
		var token struct{ Token string }
		c.wait(30*time.Second, "no token", func() error {
			return peer.call(http.MethodPost, "/v1/tokens", map[string]any{"role": "server", "uses": 1, "ttl": "1h"}, &token)
		})
		n.args = append(n.args, "--join", peer.ip+":9701", "--token", token.Token)
	}
	c.t.Cleanup(func() {
		if n.proc != nil {
			n.proc.end(c.t, syscall.SIGKILL)
		}
		if c.t.Failed() {
			c.t.Logf("end of the log of %s (%s):\n%s", name, n.log, tail(n.log, 12))
		}
	})
	return n
}

// include makes a server one that clients know.
func (c *cluster) include(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
}

// members are the servers that clients know.
func (c *cluster) members() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// forget takes a machine out of the cluster's list.
func (c *cluster) forget(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(m *node) bool { return m == n })
}

// someone is a server that runs.
func (c *cluster) someone() *node {
	for _, n := range c.nodes {
		if n.up() {
			return n
		}
	}
	return nil
}

// start runs the server; it does not wait.
func (n *node) start() {
	n.c.t.Helper()
	p, err := start(n.host, n.log, n.c.bin, n.env(), n.args...)
	require.NoError(n.c.t, err)
	n.proc = p
	go func() {
		<-p.done
		if !p.wanted.Load() {
			n.c.t.Errorf("%s ended by itself:\n%s", n.name, tail(n.log, 30))
		}
	}()
}

// env is the environment of the server's commands.
func (n *node) env() []string {
	return append(append(os.Environ(),
		"PANOPTES_API_KEY="+harness.APIKey, "PANOPTES_ADMIN_PASSWORD="+harness.Password,
		"PANOPTES_STORAGE_MIN_FREE=192MB", "PANOPTES_STORAGE_CONTROL_RESERVE=128MB", "PANOPTES_INGEST_SERIES_PER_SOURCE=1000000"), n.c.set.env...)
}

// up reports whether the process runs (it may be paused or cut off).
func (n *node) up() bool { return n.proc != nil && n.proc.running() && !n.proc.wanted.Load() }

func (n *node) waitReady(limit time.Duration) {
	n.c.t.Helper()
	n.c.wait(limit, n.name+" is not ready", func() error {
		if !n.proc.running() {
			return fmt.Errorf("%w: %s", errEnded, tail(n.log, 30))
		}
		return n.call(http.MethodGet, "/-/ready", nil, nil)
	})
}

// kill ends the process at once. The file system keeps what was written.
func (n *node) kill() {
	n.c.t.Helper()
	n.c.note("kill -9 %s", n.name)
	n.proc.end(n.c.t, syscall.SIGKILL)
}

// stop ends the process in good order.
func (n *node) stop() {
	n.c.t.Helper()
	n.c.note("stop %s", n.name)
	n.proc.end(n.c.t, syscall.SIGTERM)
}

// restart starts servers that were ended and waits until they are ready.
func (c *cluster) restart(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		c.note("start %s", n.name)
		n.start()
	}
	for _, n := range nodes {
		n.waitReady(60 * time.Second)
	}
}

// split cuts a server off from the other servers; the world still reaches it.
func (c *cluster) split(n *node) (heal func()) {
	c.t.Helper()
	a, b := addresses(n), addresses(c.others(n)...)
	c.note("cut %s | %v", n.name, b)
	c.net.Cut(a, b)
	return func() {
		c.t.Helper()
		c.note("healed")
		c.net.Heal(a, b)
	}
}

// others are all servers but one.
func (c *cluster) others(n *node) []*node {
	return slices.DeleteFunc(c.members(), func(m *node) bool { return m == n })
}

// pick is a server chosen by the seed.
func (c *cluster) pick() *node { return c.nodes[c.rand.IntN(len(c.nodes))] }

// follower is a server that does not lead the configuration store.
func (c *cluster) follower() *node {
	c.t.Helper()
	rest := c.others(c.leader())
	return rest[c.rand.IntN(len(rest))]
}

// cutPower stops the disks of all given machines, then their processes, and
// makes the disks usable again.
func (c *cluster) cutPower(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		c.note("power cut of %s", n.name)
		n.proc.wanted.Store(true)
		n.disk.Cut()
	}
	for _, n := range nodes {
		// It may have ended on the first error of its disk.
		_ = n.proc.cmd.Process.Signal(syscall.SIGKILL)
	}
	for _, n := range nodes {
		n.proc.end(c.t, syscall.SIGKILL)
		n.disk.Remount()
	}
}

// addresses of machines, for cuts.
func addresses(nodes ...*node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.ip)
	}
	return out
}

// note writes a line with the time since the start into the test's log.
func (c *cluster) note(format string, args ...any) {
	c.t.Helper()
	c.t.Logf("%7.2fs  %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// errEnded says that waiting is in vain.
var errEnded = errors.New("the process ended")

// wait asks until the answer is nil or the limit is over.
func (c *cluster) wait(limit time.Duration, what string, ask func() error) time.Duration {
	c.t.Helper()
	begin := time.Now()
	passed := func() time.Duration { // without the time in which this machine stood still
		now := time.Now()
		return max(0, now.Sub(begin)-c.still.Between(begin, now))
	}
	for {
		err := ask()
		if err == nil {
			return passed()
		}
		if passed() > limit || errors.Is(err, errEnded) {
			require.FailNow(c.t, what, "after %s: %s", time.Since(begin).Round(time.Millisecond), err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// hold lets a fault last.
func (c *cluster) hold(d time.Duration) { <-time.After(d) }

//go:build fault && linux

package fault

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a writer may have to wait when a server goes: DESIGN promises 5 s for
// samples and 3 s for configuration; a client notices a dead connection at
// once but a silent one only after its own 3 s.
const (
	sampleLimit    = 5 * time.Second
	recordLimit    = 3 * time.Second
	clientPatience = 3 * time.Second
	checkLimit     = 5*time.Second + time.Second // take-over, and the interval
)

// lasts is how long a fault lasts: shorter in the set that every change must pass.
func lasts(short, long time.Duration) time.Duration {
	if testing.Short() {
		return short
	}
	return long
}

// One server is killed under load and comes back.
func TestKill1(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	n := c.follower()
	n.kill()
	c.hold(lasts(5*time.Second, 20*time.Second))
	c.restart(n)
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit, checkGap: checkLimit})
}

// The leader of the configuration store is killed, twice.
func TestKillLeader(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	var from time.Time
	for range 2 {
		n := c.leader()
		n.kill()
		c.hold(10 * time.Second)
		c.restart(n)
		from = time.Now()
		c.waitWhole(60 * time.Second)
		l.more(20, 30*time.Second)
	}
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit, checkGap: checkLimit})
}

// A server hangs and wakes up again: its work is done elsewhere, and it neither
// decides nor notifies on what it knew before.
func TestPause60(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	n := c.leader()
	c.note("pause %s", n.name)
	n.proc.pause()
	c.hold(lasts(15*time.Second, 60*time.Second))
	c.note("resume %s", n.name)
	n.proc.resume()
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit + clientPatience, recordGap: recordLimit + clientPatience, checkGap: checkLimit})
}

// The power of one server fails: late samples and all.
func TestPowerCut1(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	n := c.pick()
	c.cutPower(n)
	c.hold(lasts(3*time.Second, 10*time.Second))
	c.restart(n)
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit + time.Second, checkGap: checkLimit})
}

// The power of all servers fails at the same moment.
func TestPowerCutAll(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	l.more(int(lasts(30, 300)), 90*time.Second)
	c.cutPower(c.nodes...)
	from := time.Now()
	c.restart(c.nodes...)
	ready := time.Since(from)
	c.note("all ready after %s", ready.Round(10*time.Millisecond))
	require.Less(t, ready, 30*time.Second)
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from})
}

// All servers are killed while an alert is active: it is not told again.
func TestKillAll(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	c.world.set(true, 1)
	c.wait(20*time.Second, "nobody was told", func() error { return c.heard("CheckDown", "firing", checkName(1), 1) })
	for _, n := range c.nodes {
		n.kill()
	}
	from := time.Now()
	c.restart(c.nodes...)
	ready := time.Since(from)
	c.note("all ready after %s", ready.Round(10*time.Millisecond))
	require.Less(t, ready, 30*time.Second)
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	c.hold(15 * time.Second)
	require.Len(t, c.world.got("CheckDown", "firing", checkName(1)), 1, "told again after the restart")
	c.world.set(false, 1)
	c.wait(20*time.Second, "nobody was told of the end", func() error { return c.heard("CheckDown", "resolved", checkName(1), 1) })
	l.verify(expect{from: from, down: []string{checkName(1)}})
}

// A server that ran checks dies: each of its checks runs elsewhere within 5 s.
func TestWorkerDeath(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu", "eu", "eu"}, checks: 30})
	l := c.startLoad()
	n := c.follower()
	n.kill()
	c.hold(15 * time.Second)
	c.restart(n)
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit, checkGap: checkLimit})
}

// Every server is restarted in turn, as in an upgrade.
func TestRollingRestart(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu", "eu", "eu"}, checks: 20})
	l := c.startLoad()
	var from time.Time
	for _, n := range c.members() {
		n.stop()
		c.restart(n)
		from = time.Now()
		require.Less(t, c.waitWhole(60*time.Second), time.Minute)
		l.more(20, 30*time.Second)
	}
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit, checkGap: checkLimit})
}

//go:build fault && linux

package fault

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// leave takes a server out of the cluster in good order.
func (c *cluster) leave(n *node) {
	c.t.Helper()
	c.note("%s leaves", n.name)
	rest := c.others(n)
	require.NoError(c.t, rest[0].call(http.MethodPost, "/v1/nodes/"+n.name+"/drain", map[string]any{"draining": true}, nil))
	n.stop()
	c.remove(n)
}

// remove takes a server that does not run any more out of the cluster.
func (c *cluster) remove(n *node) {
	c.t.Helper()
	c.forget(n)
	peer := c.someone()
	c.wait(30*time.Second, n.name+" cannot be removed", func() error {
		return peer.call(http.MethodDelete, "/v1/nodes/"+n.name, nil, nil)
	})
	list, err := peer.view()
	require.NoError(c.t, err)
	for _, v := range list {
		require.NotEqual(c.t, n.name, v.Name, "removed, but still there: %+v", v)
	}
	c.note("%s removed", n.name)
}

// complete waits until a server that joined says that it has copied everything.
func (c *cluster) complete(limit time.Duration) {
	c.t.Helper()
	took := c.wait(limit, "a server is not complete", func() error {
		for _, n := range c.members() {
			list, err := n.view()
			if err != nil {
				return err
			}
			for _, v := range list {
				if v.Behind || v.Copy.Copying || !v.Copy.Complete {
					return fmt.Errorf("%s sees %+v", n.name, v)
				}
			}
		}
		return nil
	})
	c.note("nobody is behind after %s", took.Round(10*time.Millisecond))
}

// A cluster grows under load and shrinks again.
func TestJoinLeave(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu"}, checks: 5})
	l := c.startLoad()
	l.more(50, 30*time.Second)
	c.grow("n2", "us")
	c.grow("n3", "ap")
	c.waitWhole(60 * time.Second)
	c.complete(60 * time.Second)
	l.more(20, 30*time.Second)
	if !testing.Short() {
		c.grow("n4", "eu")
		c.grow("n5", "us")
		c.waitWhole(60 * time.Second)
		c.complete(60 * time.Second)
		l.more(20, 30*time.Second)
		c.leave(c.nodes[4])
		l.more(20, 30*time.Second)
		c.leave(c.nodes[0])
	}
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit + clientPatience, recordGap: recordLimit + clientPatience})
	c.unrepaired()
}

// unrepaired checks that all that the servers took came to the others by
// itself: what a comparison had to carry over was lost on the way.
func (c *cluster) unrepaired() {
	c.t.Helper()
	var page struct {
		Items []struct{ Code, Subject, Message string }
	}
	require.NoError(c.t, c.someone().get("/v1/events?kind=node&limit=1000&from="+c.began.UTC().Format("2006-01-02T15:04:05Z"), &page))
	copied := 0
	for _, e := range page.Items {
		switch e.Code {
		case "store.copied":
			copied++
		case "history.repaired", "store.repaired":
			c.t.Errorf("%s: %s", e.Subject, e.Message)
		}
	}
	if copied == 0 {
		c.t.Error("no server told that it copied what was there before it joined")
	}
}

func (c *cluster) grow(name, region string) *node {
	c.t.Helper()
	c.note("%s joins", name)
	began := time.Now()
	n := c.add(name, region)
	c.note("%s is ready after %s", name, time.Since(began).Round(10*time.Millisecond))
	return n
}

// A machine is lost for good and replaced by one of the same name.
func TestReplaceMachine(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	l.more(50, 30*time.Second)
	n := c.follower()
	n.kill()
	c.hold(6 * time.Second) // until everybody knows that it is dead
	c.remove(n)
	l.more(20, 30*time.Second)
	c.grow(n.name, n.region)
	from := time.Now()
	c.waitWhole(60 * time.Second)
	c.complete(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit})
}

// A server dies in the middle of joining and joins again with the same token.
func TestKillWhileJoining(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu"}, checks: 5})
	l := c.startLoad()
	l.more(20, 30*time.Second)
	for i, region := range []string{"us", "ap"} {
		n := c.machine(fmt.Sprintf("n%d", i+2), region)
		for range 3 {
			n.start()
			c.hold(time.Duration(100+c.rand.IntN(1500)) * time.Millisecond)
			n.kill()
		}
		n.start()
		n.waitReady(60 * time.Second)
		c.include(n)
	}
	from := time.Now()
	c.waitWhole(60 * time.Second)
	c.complete(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit + clientPatience, recordGap: recordLimit + clientPatience})
}

// Two of three servers are lost for good: the last one watches and warns at
// once, and one command makes its configuration writable.
func TestLostMajority(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu", "eu", "eu"}, checks: 10})
	l := c.startLoad()
	last := c.pick()
	l.more(20, 30*time.Second)
	// What only the lost servers have is lost: let the last one hear of all.
	l.quiesce()
	c.hold(2 * time.Second)
	lost := c.others(last)
	for _, n := range lost {
		n.kill()
		c.forget(n)
	}
	c.wait(15*time.Second, "changes are not refused", last.refusesChanges)
	c.wait(15*time.Second, "does not watch", last.watches)
	c.wait(15*time.Second, "takes no samples", last.takes)
	c.world.set(true, 1)
	c.wait(20*time.Second, "nobody was told", func() error { return c.heard("CheckDown", "firing", checkName(1), 1) })
	c.note("the survivor watches and warns")

	last.stop()
	args := append([]string{"recover", "--yes"}, last.args[1:]...)
	p, err := start(last.host, last.log, c.bin, last.env(), args...)
	require.NoError(t, err)
	p.wanted.Store(true)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.end(t, syscall.SIGKILL)
	}
	require.True(t, p.cmd.ProcessState.Success(), "recover: %s", tail(last.log, 10))
	c.restart(last)
	from := time.Now()
	c.wait(30*time.Second, "changes are not taken", func() error {
		return last.call(http.MethodPost, "/v1/checks", map[string]any{"name": "recovered", "type": "tcp", "target": "192.0.2.1:1", "paused": true}, nil)
	})
	c.note("writable %s after the recovered server was ready", time.Since(from).Round(10*time.Millisecond))
	for _, n := range lost {
		// Its record may be gone with the old cluster.
		code, body, err := last.do(http.MethodDelete, "/v1/nodes/"+n.name+"?force=true", nil)
		require.NoError(t, err)
		require.Contains(t, []int{http.StatusNoContent, http.StatusNotFound}, code, "%s", body)
	}
	c.grow("n4", "eu")
	c.grow("n5", "eu")
	c.waitWhole(60 * time.Second)
	l.verify(expect{from: from, down: []string{checkName(1)}})
}

// The command line does what the API does.
func TestCommands(t *testing.T) {
	c := newCluster(t, setup{regions: three})
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(c.bin, args...)
		cmd.Env = append(cmd.Environ(), "PANOPTES_SERVER="+c.nodes[1].url, "PANOPTES_API_KEY="+harness.APIKey)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	list := run("node", "list")
	for _, n := range c.nodes {
		require.Contains(t, list, n.name)
	}
	require.Contains(t, run("node", "show", "n3"), "ap")
	require.Contains(t, run("token", "create", "--role", "server"), "pnp1.")
	require.NotEmpty(t, run("token", "list"))
	leader := c.leader()
	next := c.others(leader)[0]
	run("node", "leader", next.name)
	c.wait(10*time.Second, "the leader does not change", func() error {
		if got := c.leader(); got != next {
			return fmt.Errorf("it is %s", got.name)
		}
		return nil
	})
	run("node", "drain", "n3")
	require.Contains(t, strings.ToLower(run("node", "list")), "drain")
	run("node", "drain", "n3", "--undo")
	run("node", "check")
	run("node", "ca", "status")
	run("status")
}

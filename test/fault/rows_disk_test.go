//go:build fault && linux

package fault

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// full checks that a server answers 507 or 503 to samples.
func (n *node) full() error {
	s := samples{perSeries: 1}
	code, body, err := n.do(http.MethodPost, "/api/v1/write", s.encodeAs("taken", 0, batch{first: time.Now().UnixMilli()}),
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
	if err != nil {
		return err
	}
	if code != http.StatusInsufficientStorage && code != http.StatusServiceUnavailable {
		return fmt.Errorf("%s answered %d %s to samples", n.name, code, clip(body))
	}
	return nil
}

// changes checks that a server takes changes of configuration.
func (n *node) changes(name string) error {
	code, body, err := n.do(http.MethodPost, "/v1/checks", map[string]any{"name": name, "type": "tcp", "target": "192.0.2.1:1", "paused": true})
	if err != nil {
		return err
	}
	if code != http.StatusCreated && code != http.StatusConflict {
		return fmt.Errorf("%s answered %d %s to a change", n.name, code, clip(body))
	}
	return nil
}

// The disk of one server fills up: clients do not notice, and when there is
// space again it takes what it missed without a restart.
func TestDiskFull1(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10, disk: "2G"})
	l := c.startLoad()
	n := c.pick()
	c.note("disk of %s is full", n.name)
	n.disk.Fill(0)
	c.wait(30*time.Second, "samples are not refused", n.full)
	c.hold(lasts(10*time.Second, 30*time.Second))
	require.NoError(t, n.full())
	v, err := n.query(sampleMetric, time.Now())
	require.NoError(t, err, "reading goes on")
	require.NotEmpty(t, v)
	n.disk.Unfill()
	c.note("space is free again")
	from := time.Now()
	c.wait(60*time.Second, "takes no samples", n.takes)
	c.note("takes samples again after %s", time.Since(from).Round(10*time.Millisecond))
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit + clientPatience, recordGap: recordLimit + 2*clientPatience, checkGap: checkLimit})
}

// All disks fill up: writes are refused with a reason, reading and warning go
// on, and everything is taken again without a restart. Then the power fails.
func TestDiskFullAll(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10, disk: "2G"})
	l := c.startLoad()
	for _, n := range c.nodes {
		c.note("disk of %s is full", n.name)
		n.disk.Fill(0)
	}
	for _, n := range c.nodes {
		c.wait(30*time.Second, "samples are not refused", n.full)
		v, err := n.query(sampleMetric, time.Now())
		require.NoError(t, err, "reading goes on")
		require.NotEmpty(t, v)
	}
	c.world.set(true, 1)
	c.wait(30*time.Second, "nobody was told", func() error { return c.heard("CheckDown", "firing", checkName(1), 1) })
	c.note("people are told although all disks are full")
	c.hold(lasts(5*time.Second, 20*time.Second))
	for _, n := range c.nodes {
		n.disk.Unfill()
	}
	c.note("space is free again")
	from := time.Now()
	for _, n := range c.nodes {
		c.wait(60*time.Second-time.Since(from), "takes no samples", n.takes)
		c.wait(60*time.Second-time.Since(from), "takes no changes", func() error { return n.changes("after-full-" + n.name) })
	}
	c.note("all take everything again after %s", time.Since(from).Round(10*time.Millisecond))
	l.more(20, 30*time.Second)
	c.cutPower(c.nodes...)
	c.restart(c.nodes...)
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, down: []string{checkName(1)}})
}

// A server is away for longer than the others keep what it misses: it copies
// from one of them.
func TestLateReturn(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 5, env: []string{"PANOPTES_RELAY_MAX_AGE=1m"}})
	l := c.startLoad()
	n := c.follower()
	n.kill()
	peer := c.someone()
	c.wait(10*time.Minute, "nobody drops what the absent server misses", func() error {
		list, err := peer.view()
		if err != nil {
			return err
		}
		for _, v := range list {
			for _, r := range v.Relay {
				if r.Dropped && r.To == n.name {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", list)
	})
	c.note("the others have dropped something")
	l.more(50, 30*time.Second)
	c.restart(n)
	from := time.Now()
	c.waitWhole(60 * time.Second)
	c.complete(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit, recordGap: recordLimit})
}

//go:build fault && linux

package fault

import (
	"testing"
	"time"

	"panoptes/test/harness"
)

// Faults drawn from the seed, one after another or two at once, for as long as
// -fault.duration says.
func TestRandomFaults(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10, disk: "3G"})
	l := c.startLoad()
	second := func(low, high int) time.Duration {
		return time.Duration(low*1000+c.rand.IntN((high-low)*1000)) * time.Millisecond
	}
	faults := []struct {
		name string
		run  func(n *node)
	}{
		{"kill", func(n *node) { n.kill(); c.hold(second(0, 15)); c.restart(n) }},
		{"stop", func(n *node) { n.stop(); c.hold(second(0, 10)); c.restart(n) }},
		{"pause", func(n *node) { n.proc.pause(); c.hold(second(1, 20)); n.proc.resume() }},
		{"power", func(n *node) { c.cutPower(n); c.hold(second(0, 10)); c.restart(n) }},
		{"power of all", func(*node) { c.cutPower(c.nodes...); c.restart(c.nodes...) }},
		{"kill all", func(*node) {
			for _, n := range c.nodes {
				n.kill()
			}
			c.restart(c.nodes...)
		}},
		{"split", func(n *node) { heal := c.split(n); c.hold(second(1, 30)); heal() }},
		{"one way", func(n *node) {
			to := c.others(n)[c.rand.IntN(2)]
			c.net.CutOneWay(addresses(n), addresses(to))
			c.hold(second(1, 20))
			c.net.HealOneWay(addresses(n), addresses(to))
		}},
		{"uplink", func(n *node) {
			others := append(addresses(c.others(n)...), harness.World)
			c.net.Cut(addresses(n), others)
			c.hold(second(1, 20))
			c.net.Heal(addresses(n), others)
		}},
		{"flap", func(n *node) {
			for range 4 {
				heal := c.split(n)
				c.hold(second(0, 3))
				heal()
				c.hold(second(0, 3))
			}
		}},
		{"disk full", func(n *node) { n.disk.Fill(0); c.hold(second(1, 15)); n.disk.Unfill() }},
		{"split and kill", func(n *node) {
			heal := c.split(n)
			c.hold(second(1, 10))
			other := c.others(n)[c.rand.IntN(2)]
			other.kill()
			c.hold(second(1, 10))
			heal()
			c.restart(other)
		}},
		{"pause and power", func(n *node) {
			other := c.others(n)[c.rand.IntN(2)]
			n.proc.pause()
			c.hold(second(1, 8))
			c.cutPower(other)
			n.proc.resume()
			c.restart(other)
		}},
	}
	deadline := time.Now().Add(options.duration)
	var from time.Time
	for i := 1; time.Now().Before(deadline) && !t.Failed(); i++ {
		f, n := faults[c.rand.IntN(len(faults))], c.pick()
		c.note("fault %d: %s (%s)", i, f.name, n.name)
		f.run(n)
		from = time.Now()
		c.waitWhole(60 * time.Second)
		l.more(10, 30*time.Second)
		c.hold(second(0, 5))
	}
	l.verify(expect{from: from})
}

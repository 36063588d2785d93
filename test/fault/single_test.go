//go:build fault && linux

package fault

import (
	"testing"
	"time"
)

// One server alone: the load, the power cut and the checks on all of it.
func TestSingle(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu"}, checks: 5})
	l := c.startLoad()
	n := c.nodes[0]
	n.kill()
	c.restart(n)
	l.more(10, 30*time.Second)
	n.proc.pause()
	c.hold(2 * time.Second)
	n.proc.resume()
	l.more(10, 30*time.Second)
	c.cutPower(n)
	healed := time.Now()
	c.restart(n)
	l.more(10, 30*time.Second)
	l.verify(expect{from: healed})
}

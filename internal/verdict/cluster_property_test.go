package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// chaos breaks the network and the servers at random and heals them again; the
// world between is up to the step.
func (c *cluster) chaos(r *rand.Rand, steps int, step func()) {
	pairs := [][]string{{"n1", "n2"}, {"n1", "n3"}, {"n2", "n3"}}
	paused, lost := "", ""
	for range steps {
		switch r.IntN(7) {
		case 0, 1:
			c.cut(true, pairs[r.IntN(3)]...)
		case 2, 3:
			c.cut(false, pairs[r.IntN(3)]...)
		case 4:
			if paused == "" {
				paused = c.names[r.IntN(3)]
				c.pause(paused)
			} else {
				c.nodes[paused].resume()
				paused = ""
			}
		case 5:
			if lost == "" {
				lost = regionOf[c.names[r.IntN(3)]]
				c.lose(lost, true)
			} else {
				c.lose(lost, false)
				lost = ""
			}
		case 6:
			c.gossip()
		}
		if step != nil {
			step()
		}
		c.wait(time.Duration(r.IntN(40_000)) * time.Millisecond)
	}
	if paused != "" {
		c.nodes[paused].resume()
	}
	if lost != "" {
		c.lose(lost, false)
	}
	for _, p := range pairs {
		c.cut(false, p...)
	}
}

func seeds(t *testing.T, n int, f func(*testing.T, *rand.Rand)) {
	for i := range n {
		seed := uint64(i + 1)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { f(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

// Whatever happens to us, healthy targets are never reported.
func TestFaultsOfOursAreNoFaultsOfTargets(t *testing.T) {
	seeds(t, 8, func(t *testing.T, r *rand.Rand) {
		servers(t, many(8), func(c *cluster) {
			c.wait(45 * time.Second)
			require.Empty(t, c.news())
			c.chaos(r, 15, nil)
			c.wait(3 * time.Minute)
			require.Empty(t, c.news())
			for _, k := range c.checks {
				c.agree(k.ID, model.StatusUp)
			}
			for name, n := range c.nodes {
				for _, p := range n.engine.Regions() {
					require.False(t, p.Impaired, "%s of %s: %s", p.Name, name, p.Reason)
				}
			}
		})
	})
}

// Whatever happens, once all is well between us all servers show what the
// policy says of the targets.
func TestServersAgreeInTheEnd(t *testing.T) {
	seeds(t, 8, func(t *testing.T, r *rand.Rand) {
		servers(t, many(8), func(c *cluster) {
			c.wait(45 * time.Second)
			c.chaos(r, 15, func() {
				id := c.checks[r.IntN(len(c.checks))].ID
				switch r.IntN(4) {
				case 0:
					c.set(id, "timeout")
				case 1:
					c.set(id+"/"+regionOf[c.names[r.IntN(3)]], "timeout")
				default:
					c.mu.Lock()
					clear(c.fails)
					c.mu.Unlock()
				}
			})
			c.wait(4 * time.Minute)
			for _, k := range c.checks {
				n := 0
				for _, region := range three {
					_, all := c.fails[k.ID]
					if _, one := c.fails[k.ID+"/"+region]; all || one {
						n++
					}
				}
				c.agree(k.ID, []model.Status{model.StatusUp, model.StatusDegraded, model.StatusDown, model.StatusDown}[n])
			}
		})
	})
}

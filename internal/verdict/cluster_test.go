package verdict_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
)

func TestAllServersShowWhatTheOwnerDecides(t *testing.T) {
	servers(t, many(20), func(c *cluster) {
		c.wait(45 * time.Second)
		require.Len(t, c.transitions(), 20)
		require.Empty(t, c.news())
		for _, k := range many(20) {
			c.agree(k.ID, model.StatusUp)
		}
		for _, k := range many(20) {
			c.set(k.ID, "timeout")
		}
		c.wait(25 * time.Second)
		told := c.news()
		require.Len(t, told, 20)
		for _, s := range told {
			node, move, _ := strings.Cut(s, " ")
			id, _, _ := strings.Cut(move, " ")
			require.Equal(t, c.owner(id), node)
		}
		for _, n := range c.nodes {
			s, _ := n.engine.State("c7")
			require.Equal(t, model.StatusDown, s.Status)
			require.Contains(t, s.Message, "regions fail (")
			require.Equal(t, model.StatusDown, s.Regions["us"].Status)
			require.Len(t, s.Regions, 3)
		}
		// Each state is a sample once.
		samples := 0
		for _, n := range c.nodes {
			samples += len(n.engine.Collect(time.Now()))
		}
		require.Equal(t, 20, samples)
	})
}

// The owner dies after the first failure, before the others have voted.
func TestTheNextOwnerDecidesWhatTheLastOneBegan(t *testing.T) {
	for _, retries := range []int{0, 2} {
		servers(t, many(1, func(c *model.Check) { c.Retries = retries }), func(c *cluster) {
			c.wait(45 * time.Second)
			first := c.owner("c0")
			var at time.Time
			for range retries {
				c.set("c0", "timeout")
				c.wait(20 * time.Second)
			}
			require.Empty(t, c.news())
			region := regionOf[c.others(first)[0]]
			// One region sees it; the owner is gone when it wants to ask.
			if retries == 0 {
				c.set("c0/"+region, "timeout")
			}
			c.set("c0/"+region, "timeout")
			for len(c.nodes[first].failing("c0", region)) == 0 {
				c.wait(5 * time.Millisecond)
			}
			c.kill(first)
			c.set("c0", "timeout")
			at = time.Now()
			for len(c.transitions()) == 0 {
				c.wait(100 * time.Millisecond)
				// 3 s until gossip knows, 5 s timeout; with retries the next turn.
				require.Less(t, time.Since(at), []time.Duration{10 * time.Second, 0, 25 * time.Second}[retries])
			}
			c.wait(time.Minute)
			told := c.news()
			require.Len(t, told, 1)
			require.Contains(t, told[0], "up>down")
			require.NotContains(t, told[0], first)
			c.agree("c0", model.StatusDown)
		})
	}
}

// failing gives the region when its vote has arrived as a failure.
func (n *node) failing(id, region string) string {
	if s, _ := n.engine.State(id); s.Regions[region].Status == model.StatusDown {
		return region
	}
	return ""
}

func TestOwnerChangesSayNothing(t *testing.T) {
	checks := many(30)
	servers(t, checks, func(c *cluster) {
		for _, k := range checks[:10] {
			c.set(k.ID, "timeout")
		}
		for _, k := range checks[10:15] {
			c.set(k.ID+"/us", "timeout")
		}
		c.wait(45 * time.Second)
		require.Len(t, c.news(), 15)
		for i := range 12 {
			// Gossip changes its mind, the world does not: all still hear all.
			n := c.nodes[c.names[i%3]]
			for _, o := range c.nodes {
				o.mu.Lock()
				view := slices.Clone(o.view)
				if o != n {
					o.view = slices.DeleteFunc(view, func(w schedule.Worker) bool { return w.ID == n.name })
				}
				o.mu.Unlock()
				o.engine.OwnersChanged()
			}
			c.wait(2 * time.Second)
			c.gossip()
			c.wait(7 * time.Second)
		}
		require.Empty(t, c.transitions())
		for i, k := range checks {
			switch {
			case i < 10:
				c.agree(k.ID, model.StatusDown)
			case i < 15:
				c.agree(k.ID, model.StatusDegraded)
			default:
				c.agree(k.ID, model.StatusUp)
			}
		}
	})
}

// Both sides of a split go on judging what they reach.
func TestASplitIsJudgedOnBothSides(t *testing.T) {
	checks := many(30)
	servers(t, checks, func(c *cluster) {
		c.wait(45 * time.Second)
		c.news()
		c.cut(true, "n1", "n3", "n2", "n3")
		c.wait(2 * time.Minute)
		require.Empty(t, c.news(), "no check is unknown because of it")
		// A server that sees no other is no judge of where they stand.
		require.Equal(t, []string{"ap region.impaired vanished"}, c.regions())
		// What really happens is told on both sides, each with what it knows.
		c.set("c3", "timeout")
		c.wait(time.Minute)
		told := c.news()
		require.Len(t, told, 2)
		require.ElementsMatch(t, []string{"c3 up>down", "c3 up>degraded"}, []string{told[0][3:], told[1][3:]})
		s, _ := c.nodes["n3"].engine.State("c3")
		require.Contains(t, s.Message, "1 of 3 regions fails (ap: timeout), which is below the quorum; eu, us are impaired and do not vote")
		s, _ = c.nodes["n1"].engine.State("c3")
		require.Contains(t, s.Message, "2 of 3 regions fail (eu: timeout; us: timeout); ap is impaired and does not vote")
		require.Contains(t, s.Regions["ap"].Message, "no worker there is alive")

		c.cut(false, "n1", "n3", "n2", "n3")
		c.wait(time.Minute)
		for _, k := range checks {
			if k.ID != "c3" {
				c.agree(k.ID, model.StatusUp)
			}
		}
		c.agree("c3", model.StatusDown)
		for _, n := range c.news() {
			require.Contains(t, n, "c3 degraded>down", "the sides agree on down")
		}
		require.Equal(t, []string{"ap region.impaired vanished", "ap region.recovered "}, c.regions())
		for _, r := range c.nodes["n2"].engine.Regions() {
			require.False(t, r.Impaired)
		}
		c.set("c3", "")
		c.wait(time.Minute)
		c.agree("c3", model.StatusUp)
		require.Len(t, c.news(), 1)
	})
}

func TestARegionLosesItsUplink(t *testing.T) {
	checks := many(100)
	f := func(modest, cut bool, cause string) {
		t.Helper()
		servers(t, checks, func(c *cluster) {
			c.modest = modest
			c.wait(45 * time.Second)
			c.news()
			c.lose("us", true)
			if cut {
				c.cut(true, "n1", "n2", "n2", "n3")
			}
			lost := time.Now()
			for len(c.regions()) == 0 {
				c.wait(time.Second)
				require.Less(t, time.Since(lost), time.Minute)
			}
			c.wait(4 * time.Minute)
			require.Equal(t, []string{"us region.impaired " + cause}, c.regions())
			require.Empty(t, c.transitions())
			c.lose("us", false)
			if cut {
				c.cut(false, "n1", "n2", "n2", "n3")
			}
			c.wait(2 * time.Minute)
			require.Equal(t, []string{"us region.impaired " + cause, "us region.recovered "}, c.regions())
			require.Empty(t, c.transitions())
			for _, k := range checks {
				c.agree(k.ID, model.StatusUp)
			}
			// And what it sees counts again.
			c.set("c9/us", "timeout")
			c.wait(40 * time.Second)
			c.agree("c9", model.StatusDegraded)
			require.Len(t, c.news(), 1)
		})
	}
	f(true, false, "cut_off") // the worker abstains, its server hears the others
	f(true, true, "vanished") // the server is cut off too and decides nothing
	f(false, false, "alone")  // the worker does not know it
}

func TestAPausedServerWakesUp(t *testing.T) {
	checks := many(12)
	f := func(paused time.Duration) {
		t.Helper()
		servers(t, checks, func(c *cluster) {
			c.wait(45 * time.Second)
			c.news()
			for _, k := range checks[:4] {
				c.set(k.ID, "timeout")
			}
			c.wait(6 * time.Second) // some have failed first, and are being confirmed
			c.pause("n1")
			c.wait(paused)
			for _, k := range checks[:4] {
				c.agreeBut("n1", k.ID, model.StatusDown)
			}
			for _, k := range checks[:2] {
				c.set(k.ID, "")
			}
			for _, k := range checks[4:6] {
				c.set(k.ID, "timeout")
			}
			c.wait(30 * time.Second)
			told := c.news()
			require.Len(t, told, 8, "4 down, 2 of them up again, 2 more down: %v", told)
			c.nodes["n1"].resume()
			c.wait(2 * time.Minute)
			require.Empty(t, c.transitions())
			for i, k := range checks {
				want := model.StatusUp
				if i >= 2 && i < 6 {
					want = model.StatusDown
				}
				c.agree(k.ID, want)
			}
		})
	}
	f(60 * time.Second)
	f(25 * time.Second)
}

func (c *cluster) agreeBut(name, id string, want model.Status) {
	c.t.Helper()
	for _, o := range c.others(name) {
		s, _ := c.nodes[o].engine.State(id)
		require.Equal(c.t, want, s.Status, "%s on %s: %s", id, o, s.Message)
	}
}

func TestOneRegionFailsAlone(t *testing.T) {
	checks := many(20, func(c *model.Check) { c.Policy = "majority" })
	checks = append(checks, check(func(c *model.Check) { c.ID, c.Name, c.Policy = "any", "any", "any" }))
	servers(t, checks, func(c *cluster) {
		c.wait(45 * time.Second)
		c.news()
		c.set("c5/us", "timeout")
		c.set("any/us", "timeout")
		c.wait(40 * time.Second)
		c.agree("c5", model.StatusDegraded)
		c.agree("any", model.StatusDown)
		require.Len(t, c.news(), 2)
		require.Empty(t, c.regions())
		s, _ := c.nodes["n3"].engine.State("c5")
		require.Equal(t, "1 of 3 regions fails (us: timeout)", s.Message)
	})
}

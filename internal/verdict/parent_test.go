package verdict_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// downs gives the checks that went down since the last call, in order; those
// that were suppressed with an s.
func (w *world) downs() (out []string) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.seen {
		if t.To == model.StatusDown {
			id := t.Check.ID
			if t.Suppressed {
				id += " s"
			}
			out = append(out, id)
		}
	}
	w.seen = nil
	return out
}

func lineage(w *world) {
	w.engine.Update([]model.Check{
		check(func(c *model.Check) { c.ID, c.Name, c.Parent = "c1", "shop", "router" }),
		check(func(c *model.Check) { c.ID, c.Name, c.Parent = "p1", "router", "uplink" }),
		check(func(c *model.Check) { c.ID, c.Name = "g1", "uplink" }),
	}, nil)
	for _, id := range []string{"g1", "p1", "c1"} {
		w.report(id, w.regions...)
	}
	require.Empty(w.t, w.downs())
}

func TestOneCauseIsToldOnceThoughTheChildIsHeardFirst(t *testing.T) {
	for _, regions := range [][]string{{"eu"}, three} {
		scene(t, regions, func(w *world) {
			lineage(w)
			for _, r := range regions {
				w.set("c1/"+r, "timeout")
				w.set("p1/"+r, "timeout")
			}
			w.report("c1", regions...)
			w.report("p1", regions...)
			w.wait(5 * time.Second)
			require.Equal(t, []string{"p1", "c1 s"}, w.downs())
			s, _ := w.engine.State("g1")
			require.Equal(t, model.StatusUp, s.Status)
		})
		// The parents' own turn comes much later: they are asked.
		scene(t, regions, func(w *world) {
			lineage(w)
			for _, r := range regions {
				w.set(r, "timeout")
			}
			w.report("c1", regions[0])
			w.wait(8 * time.Second)
			require.Equal(t, []string{"g1", "p1 s", "c1 s"}, w.downs())
		})
	}
}

func TestRetriesDoNotForgetTheParent(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		parent := check(func(c *model.Check) { c.ID, c.Name = "p1", "router" })
		child := check(func(c *model.Check) { c.Parent, c.Retries = "router", 2 })
		w.engine.Update([]model.Check{child, parent}, nil)
		w.report("p1", "eu")
		w.report("c1", "eu")
		w.set("c1/eu", "timeout")
		for range 2 {
			w.report("c1", "eu")
			w.report("p1", "eu")
			w.wait(20 * time.Second)
		}
		require.Empty(t, w.downs())
		w.set("p1/eu", "timeout") // when the child failed first, it was well
		w.report("c1", "eu")
		w.wait(5 * time.Second)
		require.Equal(t, []string{"p1", "c1 s"}, w.downs())
	})
}

func TestAHealthyParentDelaysNothing(t *testing.T) {
	scene(t, three, func(w *world) {
		lineage(w)
		for _, r := range three {
			w.set("c1/"+r, "timeout")
		}
		w.report("c1", "eu")
		require.Len(t, w.asks(), 2+3, "the child in the other regions, the parent in all, at once")
		w.wait(50 * time.Millisecond)
		require.Equal(t, []string{"c1"}, w.downs())
	})
}

func TestManyChildrenAskTheParentOnce(t *testing.T) {
	scene(t, three, func(w *world) {
		list := []model.Check{check(func(c *model.Check) { c.ID, c.Name = "p1", "router" })}
		for i := range 50 {
			list = append(list, check(func(c *model.Check) { c.ID, c.Name, c.Parent = fmt.Sprint("c", i), fmt.Sprint("shop", i), "router" }))
		}
		w.engine.Update(list, nil)
		for _, c := range list {
			w.report(c.ID, three...)
		}
		for _, c := range list[1:] {
			for _, r := range three {
				w.set(c.ID+"/"+r, "timeout")
			}
		}
		w.downs()
		for _, c := range list[1:] {
			w.report(c.ID, "eu")
			w.wait(15 * time.Millisecond)
		}
		w.wait(time.Second)
		require.Len(t, w.downs(), 50)
		require.Len(t, w.asks(), 50*2+3)
	})
}

func TestTheWaitForAParentEnds(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		lineage(w)
		w.hang["p1"] = true
		w.set("c1/eu", "timeout")
		w.report("c1", "eu") // decided 2 s later
		w.wait(11 * time.Second)
		require.Empty(t, w.downs())
		w.wait(2500 * time.Millisecond)
		require.Equal(t, []string{"c1"}, w.downs())
	})
	// A child that comes back meanwhile was never down.
	scene(t, []string{"eu"}, func(w *world) {
		lineage(w)
		w.hang["p1"] = true
		w.set("c1/eu", "timeout")
		w.report("c1", "eu")
		w.wait(5 * time.Second)
		w.set("c1/eu", "")
		w.report("c1", "eu")
		w.wait(20 * time.Second)
		require.Empty(t, w.downs())
	})
	// Two that name each other do not wait for ever.
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{
			check(func(c *model.Check) { c.ID, c.Name, c.Parent = "a", "a", "b" }),
			check(func(c *model.Check) { c.ID, c.Name, c.Parent = "b", "b", "a" }),
		}, nil)
		w.set("eu", "timeout")
		w.report("a", "eu")
		w.report("b", "eu")
		w.wait(15 * time.Second)
		require.Len(t, w.downs(), 2)
	})
}

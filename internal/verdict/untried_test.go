package verdict_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// untried is what a worker reports that may not run the check.
func (w *world) untried(region string) model.Result {
	r := w.result("c1", region)
	r.Prober, r.Success, r.Untried, r.Message = "agent-"+region, false, true, "cannot run: there is no type http"
	return r
}

func TestWhoCannotTryVotesNotAtAll(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		// Another worker of the region is asked, and its word counts.
		for range 10 {
			w.engine.Observe(w.untried("eu"))
			w.wait(20 * time.Second)
			require.Equal(t, []string{"eu"}, w.asks())
		}
		w.expect("pending>up")
		w.set("eu", "timeout")
		w.engine.Observe(w.untried("eu"))
		w.wait(10 * time.Second)
		w.expect("up>down+")
		require.Len(t, w.asks(), 3, "confirmed as any failure is")
		w.set("eu", "")
		w.engine.Observe(w.untried("eu"))
		w.wait(10 * time.Second)
		w.expect("down>up+")

		// Nobody is there who could: nothing is known.
		w.gone["eu"] = true
		for range 3 {
			w.engine.Observe(w.untried("eu"))
			w.wait(20 * time.Second)
		}
		w.expect("up>unknown+")
		s, _ := w.engine.State("c1")
		require.Equal(t, "1 of 1 regions is silent (eu: could not try: cannot run: there is no type http)", s.Message)
		require.Equal(t, "its worker could not try: cannot run: there is no type http", s.Regions["eu"].Message)
	})
}

func TestNobodyWhoCouldTryIsUnknownOnce(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Inverted = true })}, nil)
		for _, r := range three {
			w.gone[r] = true
		}
		for range 4 {
			for _, r := range three {
				w.engine.Observe(w.untried(r))
			}
			w.wait(20 * time.Second)
		}
		w.expect("pending>unknown+")
		require.Len(t, w.asks(), 4*3, "each is asked once for each time")
	})
}

package verdict_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// After any sequence of results, gaps, regions that vanish and targets that
// change, once all is quiet the state is what the policy says of the last votes.
func TestAnySequenceEndsAsThePolicySays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]string{"majority", "any", "all", "2", "60%", "eu=2,us=1>=2"}).Draw(rt, "policy")
		type step struct {
			region string
			fails  bool
			pause  time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{rapid.SampledFrom(three).Draw(t, "region"), rapid.Bool().Draw(t, "fails"), time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Second}
		}), 1, 25).Draw(rt, "steps")
		gone := rapid.SliceOfDistinct(rapid.SampledFrom(three), rapid.ID[string]).Draw(rt, "gone")

		scene(t, three, func(w *world) {
			w.engine.Update([]model.Check{check(func(c *model.Check) { c.Policy = policy })}, nil)
			for _, s := range steps {
				if s.fails {
					w.set(s.region, "timeout")
				} else {
					w.set(s.region, "")
				}
				w.report("c1", s.region)
				w.wait(s.pause)
			}
			for _, r := range gone {
				w.mu.Lock()
				w.gone[r] = true
				w.mu.Unlock()
			}
			alive := slices.DeleteFunc(slices.Clone(three), func(r string) bool { return slices.Contains(gone, r) })
			for range 3 { // long enough for the votes of those that left to expire
				w.report("c1", alive...)
				w.wait(20 * time.Second)
			}
			w.report("c1", alive...)
			w.wait(12 * time.Second)

			p, err := verdict.ParsePolicy(policy)
			require.NoError(t, err)
			var tally verdict.Tally
			w.mu.Lock()
			for _, r := range three {
				tally.Total += p.Weight(r)
				_, fails := w.fails[r]
				switch {
				case slices.Contains(gone, r):
					tally.Missing += p.Weight(r)
				case fails:
					tally.Failing += p.Weight(r)
				}
			}
			seen := slices.Clone(w.seen)
			w.mu.Unlock()
			s, _ := w.engine.State("c1")
			require.Equal(t, p.Decide(tally), s.Status, "policy %s, tally %+v, message %s", policy, tally, s.Message)

			// Every transition begins where the one before ended.
			last := model.StatusPending
			for _, tr := range seen {
				require.Equal(t, last, tr.From)
				last = tr.To
			}
			require.Equal(t, s.Status, last)
			synctest.Wait()
		})
	})
}

package verdict_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

func TestSilentFromTheStartBecomesUnknown(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.wait(30 * time.Second)
		w.expect()
		w.wait(10 * time.Second)
		w.expect("pending>unknown+")
	})
}

func TestRetriesCountDecisionsNotResults(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Retries = 2; c.RecoverAfter = 2 })}, nil)
		w.report("c1", three...)
		w.expect("pending>up")
		for _, r := range three {
			w.set(r, "timeout")
		}
		w.wait(20 * time.Second)
		w.report("c1", three...) // first
		w.wait(20 * time.Second)
		w.report("c1", three...) // second
		w.expect()
		w.wait(20 * time.Second)
		w.report("c1", "eu") // third: down
		w.expect("up>down+")
		w.report("c1", "us", "ap")

		for _, r := range three {
			w.set(r, "")
		}
		w.wait(20 * time.Second)
		w.report("c1", three...)
		w.wait(time.Second)
		w.expect()
		w.wait(19 * time.Second)
		w.report("c1", three...)
		w.wait(time.Second)
		w.expect("down>up+")
	})
}

func TestAFailureStartsRecoveryAnew(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.RecoverAfter = 2 })}, nil)
		w.set("eu", "timeout")
		w.report("c1", "eu")
		w.wait(3 * time.Second)
		w.expect("pending>down+")
		for range 3 {
			w.set("eu", "")
			w.wait(20 * time.Second)
			w.report("c1", "eu")
			w.set("eu", "timeout")
			w.wait(20 * time.Second)
			w.report("c1", "eu")
		}
		w.expect()
	})
}

func TestInvertedDegradedAndAbstaining(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Inverted = true })}, nil)
		for _, r := range three {
			w.set(r, "connection refused")
		}
		w.report("c1", three...)
		w.expect("pending>up")
		for _, r := range three {
			w.set(r, "")
		}
		w.wait(time.Second)
		w.report("c1", "eu")
		w.wait(time.Second)
		w.expect("up>down+")
		s, _ := w.engine.State("c1")
		require.Contains(t, s.Message, "eu: succeeds, though it should not: 200 OK")
	})
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		r := w.result("c1", "eu")
		r.Start = r.Start.Add(time.Millisecond)
		r.Degraded, r.Message = true, "slow"
		w.engine.Observe(r)
		w.expect("pending>up", "up>degraded+")
		s, _ := w.engine.State("c1")
		require.Equal(t, "works with faults (eu: slow)", s.Message)

		for _, region := range []string{"eu", "us"} {
			w.wait(time.Second)
			r := w.result("c1", region)
			r.Success, r.Abstain, r.Message = false, true, "no route"
			w.engine.Observe(r)
		}
		synctest.Wait()
		w.expect("degraded>up+") // eu's fault no longer counts; what it sees now is neither down nor a reason to ask
		require.Empty(t, w.asks())
		s, _ = w.engine.State("c1")
		require.Equal(t, model.StatusUnknown, s.Regions["eu"].Status)
		require.Contains(t, s.Regions["eu"].Message, "no route")
	})
}

func TestOldResultsAreIgnored(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.set("eu", "timeout")
		w.set("us", "timeout")
		old := []model.Result{w.result("c1", "eu"), w.result("c1", "us")}
		w.set("eu", "")
		w.set("us", "")
		w.wait(time.Second)
		w.report("c1", three...)
		w.expect("pending>up")
		w.engine.Observe(old[0]) // out of order
		w.wait(time.Hour)
		w.expect("up>unknown+")
		w.engine.Observe(old[0]) // back-filled
		w.engine.Observe(old[1])
		synctest.Wait()
		w.expect()
		require.Empty(t, w.asks())
	})
}

func TestOneConfirmationAtATime(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		w.slow = 4 * time.Second
		for _, r := range three {
			w.set(r, "timeout")
		}
		w.report("c1", "eu")
		w.report("c1", "us")
		w.report("c1", "ap")
		w.wait(5 * time.Second)
		require.Len(t, w.asks(), 2)
		w.expect("pending>up", "up>down+")
	})
}

func TestPausedAndBack(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", "eu")
		w.set("eu", "timeout")
		w.report("c1", "eu")
		w.wait(3 * time.Second)
		w.expect("pending>up", "up>down+")
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Paused = true })}, nil)
		w.wait(time.Minute)
		w.expect("down>paused")
		w.set("eu", "")
		w.engine.Update([]model.Check{check()}, nil)
		w.wait(time.Second)
		w.report("c1", "eu")
		w.expect("paused>pending", "pending>up+") // people were told of down, so they hear of the recovery
	})
}

func window(start time.Time, d time.Duration) model.Maintenance {
	return model.Maintenance{Name: "patches", Checks: []string{"shop"}, Start: start.Format(time.RFC3339), End: start.Add(d).Format(time.RFC3339)}
}

func TestRecoveryDuringMaintenanceIsTold(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.set("eu", "timeout")
		w.engine.Update([]model.Check{check()}, []model.Maintenance{window(time.Now().Add(time.Minute), time.Minute)})
		w.report("c1", "eu")
		w.wait(3 * time.Second)
		w.expect("pending>down+")
		for i := range 6 {
			w.wait(20 * time.Second)
			w.report("c1", "eu")
			if i == 2 {
				w.set("eu", "") // inside the window
			}
		}
		w.expect("down>maintenance", "maintenance>up+")
	})
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check()}, []model.Maintenance{window(time.Now().Add(time.Minute), time.Minute)})
		for i := range 7 {
			if i == 4 {
				w.set("eu", "timeout") // breaks while nobody is to be told, stays broken
			}
			w.report("c1", "eu")
			w.wait(20 * time.Second)
		}
		w.expect("pending>up", "up>maintenance", "maintenance>down+")
	})
}

// What fails in a window is not confirmed then: before people hear of it at the
// end all regions look again.
func TestWhatFailedInMaintenanceIsConfirmedAtItsEnd(t *testing.T) {
	for _, regions := range [][]string{{"eu"}, three} {
		for _, back := range []bool{true, false} {
			scene(t, regions, func(w *world) {
				minute := func(c *model.Check) { c.Interval, c.RecoverAfter = model.Duration(time.Minute), 2 }
				w.engine.Update([]model.Check{check(minute)}, []model.Maintenance{window(time.Now().Add(time.Minute), 2*time.Minute)})
				w.report("c1", regions...)
				for range 2 {
					w.wait(time.Minute)
					w.report("c1", regions...)
				}
				w.expect("pending>up", "up>maintenance")
				for _, r := range regions {
					w.set(r, "connection refused")
				}
				w.wait(time.Second)
				w.report("c1", regions...)
				if back {
					for _, r := range regions {
						w.set(r, "")
					}
				}
				w.wait(57 * time.Second)
				w.expect()
				require.Empty(t, w.asks(), "nobody is asked in the window")
				w.wait(10 * time.Second)
				if back {
					w.expect("maintenance>up")
					require.ElementsMatch(t, regions, w.asks())
					return
				}
				w.expect("maintenance>down+")
				if len(regions) == 1 {
					require.Len(t, w.asks(), 3, "and twice more where nobody else can confirm")
				} else {
					require.ElementsMatch(t, regions, w.asks())
				}
			})
		}
	}
}

func family(w *world) {
	parent := check(func(c *model.Check) { c.ID, c.Name = "p1", "router" })
	child := check(func(c *model.Check) { c.Parent = "router" })
	w.engine.Update([]model.Check{parent, child}, nil)
	w.report("p1", "eu")
	w.report("c1", "eu")
	w.expect("pending>up", "pending>up")
	w.set("eu", "timeout")
	w.report("p1", "eu")
	w.wait(3 * time.Second)
	w.expect("up>down+")
	w.report("c1", "eu")
	w.wait(3 * time.Second)
	w.expect("up>down+s")
}

func TestChildStaysQuietAndRecoversQuietly(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		family(w)
		w.set("eu", "")
		w.wait(10 * time.Second)
		w.report("p1", "eu")
		w.wait(3 * time.Second)
		w.expect("down>up+", "down>up") // asked at once, healthy, nothing to tell
	})
}

func TestChildThatStaysDownIsToldWhenTheParentRecovers(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		family(w)
		w.wait(10 * time.Second)
		good := w.result("p1", "eu")
		good.Success, good.Message = true, "200 OK"
		w.engine.Observe(good)
		w.wait(3 * time.Second)
		w.expect("down>up+", "down>down+")
	})
}

func TestRestoreNeverTellsButADifferentDecisionDoes(t *testing.T) {
	var kept model.Event
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		for _, r := range three {
			w.set(r, "timeout")
		}
		w.report("c1", "eu")
		w.wait(time.Second)
		w.mu.Lock()
		tr := w.seen[len(w.seen)-1]
		w.mu.Unlock()
		w.expect("pending>down+")
		e, err := verdict.Event(tr, check())
		require.NoError(t, err)
		require.Equal(t, "check/c1", e.Subject)
		require.Equal(t, "check.down", e.Code)
		require.Equal(t, "critical", e.Severity)
		back, err := verdict.FromEvent(e)
		require.NoError(t, err)
		require.Equal(t, tr.Regions, back.Regions)
		kept = e
	})
	for _, first := range []string{"restore", "update"} {
		scene(t, three, func(w *world) {
			if first == "update" {
				w.engine.Update([]model.Check{check()}, nil)
			}
			w.engine.Restore(map[string]model.Event{kept.Subject: kept})
			if first == "restore" {
				w.engine.Update([]model.Check{check()}, nil)
			}
			w.wait(5 * time.Second)
			s, _ := w.engine.State("c1")
			require.Equal(t, model.StatusDown, s.Status)
			require.Equal(t, kept.Time, s.Since)
			for _, r := range three {
				w.set(r, "timeout")
			}
			w.report("c1", three...)
			w.wait(5 * time.Second)
			w.expect() // the same as before: no word
			for _, r := range three {
				w.set(r, "")
			}
			w.report("c1", three...)
			w.wait(time.Second)
			synctest.Wait()
			w.mu.Lock()
			last := w.seen[len(w.seen)-1]
			w.mu.Unlock()
			require.Equal(t, model.StatusUp, last.To)
			require.True(t, last.Notify)
		})
	}
}

func TestLosingACheckSaysNothing(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		w.expect("pending>up")
		w.engine.Update(nil, nil)
		w.wait(time.Minute)
		w.expect()
		_, ok := w.engine.State("c1")
		require.False(t, ok)
		require.Empty(t, w.engine.States())
	})
}

func TestObserveNeverBlocks(t *testing.T) {
	e, err := verdict.New(verdict.Config{QueueSize: 4}, verdict.Deps{Regions: func() []string { return three }})
	require.NoError(t, err)
	for range 1000 { // nobody takes them: Run was not called
		e.Observe(model.Result{CheckID: "c1", Region: "eu"})
	}
}

func TestCollect(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Labels = map[string]string{"team": "web"} })}, nil)
		w.report("c1", three...)
		b := w.engine.Collect(time.UnixMilli(5))
		require.Len(t, b, 1)
		require.Equal(t, `{__name__="panoptes_check_status", check="shop", team="web"}`, b[0].Labels.String())
		require.Equal(t, 1.0, b[0].V)
		require.EqualValues(t, 5, b[0].T)
		require.Equal(t, `avg by (region) (avg_over_time(probe_success{check="shop"}[1d]))`, verdict.ReachabilityQuery(check(), 24*time.Hour))
		w.expect("pending>up")
	})
}

package verdict_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestRecoverAfterHoldsThroughUnknown(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.RecoverAfter = 3 })}, nil)
		w.set("eu", "timeout")
		w.report("c1", "eu")
		w.wait(3 * time.Second)
		w.expect("pending>down+")
		w.wait(time.Minute)
		w.expect("down>unknown+")
		w.set("eu", "")
		for range 2 {
			w.report("c1", "eu")
			w.wait(20 * time.Second)
		}
		w.expect()
		s, _ := w.engine.State("c1")
		require.Equal(t, model.StatusUnknown, s.Status)
		require.Contains(t, s.Message, "succeed again")
		w.report("c1", "eu")
		w.expect("unknown>up+")

		// Without an outage before it, one result ends the silence.
		w.wait(time.Minute)
		w.expect("up>unknown+")
		w.report("c1", "eu")
		w.expect("unknown>up+")
	})
}

// say has one copy of eu report.
func (w *world) say(prober string, ok bool, mod ...func(*model.Result)) {
	w.wait(time.Millisecond)
	r := model.Result{CheckID: "c1", Region: "eu", Prober: prober, Start: time.Now(), Success: ok, Message: prober}
	for _, m := range mod {
		m(&r)
	}
	w.engine.Observe(r)
	w.wait(0)
}

func TestTheMajorityOfTheCopiesSpeaksForARegion(t *testing.T) {
	f := func(copies int, want model.Status, say func(*world)) {
		t.Helper()
		scene(t, []string{"eu"}, func(w *world) {
			w.gone["eu"] = true // nobody but the copies themselves
			w.engine.Update([]model.Check{check(func(c *model.Check) { c.Copies = copies })}, nil)
			for i := range copies {
				w.say(fmt.Sprintf("w%d", i), true)
			}
			say(w)
			w.wait(4 * time.Second)
			s, _ := w.engine.State("c1")
			require.Equal(t, want, s.Status, s.Message)
		})
	}
	f(3, model.StatusUp, func(w *world) { w.say("w0", false) })
	f(3, model.StatusDown, func(w *world) { w.say("w0", false); w.say("w2", false) })
	f(2, model.StatusDegraded, func(w *world) { w.say("w0", false) })
	f(2, model.StatusDown, func(w *world) { w.say("w0", false); w.say("w1", false) })
	f(4, model.StatusDegraded, func(w *world) { w.say("w0", false); w.say("w1", false) })
	f(5, model.StatusUp, func(w *world) { w.say("w0", false); w.say("w1", false) })
	// A copy that moved to another worker leaves a vote behind. It must not count.
	f(3, model.StatusDown, func(w *world) { w.say("w1", false); w.say("w8", true); w.say("w9", false) })
	f(1, model.StatusDown, func(w *world) { w.say("w9", false) })
	// One that is cut off does not vote.
	f(3, model.StatusUp, func(w *world) {
		w.say("w0", false)
		w.say("w1", false, func(r *model.Result) { r.Abstain = true })
		w.say("w2", true)
		w.say("w0", true)
	})
}

func TestEvidenceOfATransition(t *testing.T) {
	evidence := func(n int) json.RawMessage {
		return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`)
	}
	f := func(e json.RawMessage, kept bool) {
		t.Helper()
		scene(t, []string{"eu"}, func(w *world) {
			w.gone["eu"] = true
			w.engine.Update([]model.Check{check()}, nil)
			with := func(r *model.Result) { r.Evidence = e }
			w.say("w0", true, with)
			w.say("w0", false, with)
			w.wait(4 * time.Second)
			w.say("w0", true, with)
			w.mu.Lock()
			seen := w.seen
			w.mu.Unlock()
			require.Len(t, seen, 3)
			require.Empty(t, seen[0].Evidence, "of a success nothing is kept")
			require.Equal(t, model.StatusDown, seen[1].To)
			if kept {
				require.JSONEq(t, string(e), string(seen[1].Evidence["eu"]))
			} else {
				require.Empty(t, seen[1].Evidence)
			}
			require.Empty(t, seen[2].Evidence)
		})
	}
	f(json.RawMessage(`{"status":500}`), true)
	f(evidence(64<<10), true)
	f(evidence(64<<10+1), false)
	f(json.RawMessage(`{"broken`), false)

	// Many regions together do not make an event that nobody can store.
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("r%02d", i))
	}
	scene(t, many, func(w *world) {
		w.engine.Update([]model.Check{check(func(c *model.Check) { c.Policy = "all" })}, nil)
		for _, region := range many {
			w.gone[region] = true
		}
		for _, region := range many {
			r := w.result("c1", region)
			r.Success, r.Evidence = false, evidence(60<<10)
			w.engine.Observe(r)
		}
		w.wait(4 * time.Second)
		w.mu.Lock()
		last := w.seen[len(w.seen)-1]
		w.mu.Unlock()
		require.Equal(t, model.StatusDown, last.To)
		require.Len(t, last.Evidence, 4)
		b, err := json.Marshal(last.Evidence)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), 257<<10)
	})
}

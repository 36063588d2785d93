package app

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// book keeps what the alerting part would know: names of the alerts that fire.
type book map[string]bool

func (b book) put(_ context.Context, list ...alert.Alert) error {
	for _, a := range list {
		if a.EndsAt.Before(a.StartsAt) {
			continue // it is refused
		}
		if a.EndsAt.After(time.Now()) {
			b[a.Labels["alertname"]] = true
		} else {
			delete(b, a.Labels["alertname"])
		}
	}
	return nil
}

// A check has one alert at most, and one that begins anew after a restart has
// the same as before.
func TestOneAlertPerCheckAlsoAfterRestart(t *testing.T) {
	check := model.Check{ID: "1", Name: "shop", Severity: "critical", Labels: map[string]string{"team": "web"}}
	step := func(from, to model.Status, notify, suppressed bool) verdict.Transition {
		return verdict.Transition{Check: check, From: from, To: to, At: time.Now().Add(-time.Second), Message: string(to), Notify: notify, Suppressed: suppressed}
	}
	const up, down, degraded, unknown, maintenance, paused = model.StatusUp, model.StatusDown, model.StatusDegraded, model.StatusUnknown, model.StatusMaintenance, model.StatusPaused
	f := func(want string, steps ...verdict.Transition) {
		t.Helper()
		fires := book{}
		b := newBridge(nil, slog.New(slog.DiscardHandler))
		b.put = fires.put
		for _, s := range steps {
			b.take(s)
		}
		expect := book{}
		if want != "" {
			expect[want] = true
		}
		require.Equal(t, expect, fires)

		again := book{}
		b = newBridge(nil, slog.New(slog.DiscardHandler))
		b.put = again.put
		b.restore(check, steps)
		require.Equal(t, expect, again, "after a restart")
	}
	f("", step(model.StatusPending, up, false, false))
	f("CheckDown", step(up, down, true, false))
	f("", step(up, down, true, false), step(down, up, true, false))
	f("", step(up, down, true, true))
	f("CheckDown", step(up, down, true, true), step(down, down, true, false))
	f("CheckDown", step(up, down, true, false), step(down, unknown, true, false))
	f("CheckDown", step(up, down, true, false), step(down, unknown, true, false), step(unknown, down, false, false))
	f("CheckDown", step(up, down, true, false), step(down, maintenance, false, false))
	f("", step(up, down, true, false), step(down, maintenance, false, false), step(maintenance, up, true, false))
	f("CheckUnknown", step(up, unknown, true, false))
	f("CheckDown", step(up, unknown, true, false), step(unknown, down, true, false))
	f("CheckDegraded", step(up, down, true, false), step(down, degraded, true, false))
	f("", step(up, down, true, false), step(down, paused, false, false))
}

// A record that changes its labels ends the alert under the old ones.
func TestAlertFollowsTheRecord(t *testing.T) {
	var ended, firing []alert.Alert
	b := newBridge(nil, slog.New(slog.DiscardHandler))
	b.put = func(_ context.Context, list ...alert.Alert) error {
		for _, a := range list {
			if a.EndsAt.After(time.Now()) {
				firing = append(firing, a)
			} else {
				ended = append(ended, a)
			}
		}
		return nil
	}
	c := model.Check{ID: "1", Name: "shop", Severity: "critical"}
	b.take(verdict.Transition{Check: c, From: model.StatusUp, To: model.StatusDown, At: time.Now(), Notify: true})
	c.Name = "store"
	b.setChecks(map[string]model.Check{"1": c})
	require.Len(t, ended, 1)
	require.Equal(t, "shop", ended[0].Labels["check"])
	b.resend()
	require.Equal(t, "store", firing[len(firing)-1].Labels["check"])
	b.setChecks(nil)
	require.Len(t, ended, 2)
	require.Equal(t, "store", ended[1].Labels["check"])
}

// What happened long ago, and what happened to a check that is not known yet,
// raises nothing by itself; in the end the check has the alert that follows.
func TestLateAndEarlyStatesRaiseNoStrayAlert(t *testing.T) {
	check := model.Check{ID: "1", Name: "shop", Type: "http", Severity: "critical"}
	var known bool
	var past []verdict.Transition
	var raised []alert.Alert
	b := newBridge(nil, slog.New(slog.DiscardHandler))
	b.seen = func(t verdict.Transition) { past = append(past, t) }
	b.lookup = func(string) (model.Check, bool) { return check, known }
	b.past = func(context.Context, string) ([]verdict.Transition, error) { return past, nil }
	b.put = func(_ context.Context, list ...alert.Alert) error { raised = append(raised, list...); return nil }
	now := time.Now()
	told := func(id string, from, to model.Status, at time.Time) {
		b.follow(id, verdict.Transition{ID: id, Check: model.Check{ID: "1", Name: "shop"}, From: from, To: to, At: at, Notify: true})
	}

	told("a", model.StatusUp, model.StatusDown, now.Add(-time.Second))
	b.settleLate(t.Context(), now.Add(time.Minute))
	require.Empty(t, raised, "its record is not here")
	known = true
	b.settleLate(t.Context(), now.Add(time.Minute))
	require.Len(t, raised, 1)
	require.Equal(t, "critical", raised[0].Labels["severity"])
	require.Equal(t, "http", raised[0].Labels["type"])

	told("b", model.StatusDown, model.StatusUp, now)
	require.Len(t, raised, 2)
	require.False(t, raised[1].EndsAt.After(time.Now()), "it has ended")

	raised, past = nil, nil
	told("c", model.StatusUp, model.StatusDown, now.Add(-time.Hour))
	told("d", model.StatusDown, model.StatusUp, now.Add(-50*time.Minute))
	told("d", model.StatusDown, model.StatusUp, now.Add(-50*time.Minute))
	require.Len(t, past, 2, "each once")
	b.settleLate(t.Context(), now.Add(time.Minute))
	require.Empty(t, raised, "it was down and up again while this server was away")
}

package app

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// The end of an alert is an end also where the clock is behind that of the
// server that decided, however short the alert was.
func TestAnEndOfAClockAheadIsAnEnd(t *testing.T) {
	check := model.Check{ID: "1", Name: "shop", Severity: "critical"}
	now := time.Now()
	down := verdict.Transition{Check: check, From: model.StatusUp, To: model.StatusDown, At: now.Add(10 * time.Second), Notify: true}
	up := verdict.Transition{Check: check, From: model.StatusDown, To: model.StatusUp, At: now.Add(time.Minute), Notify: true}
	fires := book{}
	b := newBridge(nil, slog.New(slog.DiscardHandler))
	b.put = fires.put

	b.take(down)
	require.Len(t, fires, 1)
	b.take(up)
	require.Empty(t, fires)

	b.take(down)
	require.Len(t, fires, 1)
	b.restore(check, []verdict.Transition{down, up})
	require.Empty(t, fires)

	r := newRegionAlerts(nil, slog.New(slog.DiscardHandler))
	r.put = fires.put
	r.take(verdict.RegionTransition{ID: "a", Region: "eu", Impaired: true, At: now.Add(10 * time.Second)})
	require.Len(t, fires, 1)
	r.take(verdict.RegionTransition{ID: "b", Region: "eu", At: now.Add(time.Minute)})
	require.Empty(t, fires)

	// A rule that is evaluated where it is a minute later.
	there := now.Add(time.Minute)
	bodies, err := alertBodies([]alert.Alert{
		{Labels: map[string]string{"alertname": "Over"}, StartsAt: there.Add(-time.Second), EndsAt: there},
		{Labels: map[string]string{"alertname": "On"}, StartsAt: there, EndsAt: there.Add(alertLife)},
	}, there)
	require.NoError(t, err)
	require.Len(t, bodies, 1)
	var told []toldAlert
	require.NoError(t, json.Unmarshal(bodies[0], &told))
	heard := heardAlerts(told)
	require.NoError(t, fires.put(t.Context(), heard...))
	require.Equal(t, book{"On": true}, fires)
	for _, a := range heard {
		require.False(t, a.EndsAt.Before(a.StartsAt), "such an alert is refused: %v", a)
	}
}

package alert_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
)

// An alert of a series with as many labels as the store takes is taken; texts
// that are too long are cut, and the alert goes out.
func TestLargeAlertsAreTaken(t *testing.T) {
	r := start(t, t.TempDir())
	wide := map[string]string{"alertname": "Wide"}
	for i := range 1100 {
		wide[fmt.Sprintf("label_%04d", i)] = strings.Repeat("v", 100)
	}
	texts := map[string]string{"summary": "three words only", "description": strings.Repeat("日本", 50_000), "broken": "a\xffb"}
	require.NoError(t, r.Put(t.Context(),
		alert.Alert{Labels: wide, Annotations: texts, EndsAt: time.Now().Add(time.Hour)},
		alert.Alert{Labels: map[string]string{"alertname": "Long", "value": strings.Repeat("v", 64<<10)}, EndsAt: time.Now().Add(time.Hour)}))
	list, err := r.Alerts(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	list, err = r.Alerts(t.Context(), `alertname="Wide"`)
	require.NoError(t, err)
	require.Equal(t, wide, list[0].Labels)
	got := list[0].Annotations
	require.Equal(t, "three words only", got["summary"])
	require.Equal(t, "a\ufffdb", got["broken"])
	require.True(t, strings.HasSuffix(got["description"], " […]"), "the cut is visible")
	require.True(t, utf8.ValidString(got["description"]))
	require.Greater(t, len(got["description"]), 10<<10)
	require.Less(t, len(got["description"]), 32<<10)

	events := r.events.of(model.EventAlert)
	require.Len(t, events, 2)
	require.NoError(t, model.ValidateEvents(events))
}

// Cutting what was cut changes nothing: the servers hand it to each other.
func TestFitIsStable(t *testing.T) {
	n := alert.Alert{Labels: map[string]string{"alertname": "X"}, Annotations: map[string]string{}}
	for i := range 64 {
		n.Annotations[fmt.Sprintf("text_%d", i)] = strings.Repeat("é", 1000*i)
	}
	once := n.Fit()
	require.Equal(t, once, once.Fit())
	require.Len(t, once.Annotations, 64)
}

// What is too large to be an alert is refused by name, and its neighbours are taken.
func TestEndlessLabelsAreRefused(t *testing.T) {
	r := start(t, t.TempDir())
	err := r.Put(t.Context(),
		alert.Alert{Labels: map[string]string{"alertname": "Endless", "value": strings.Repeat("v", 300<<10)}},
		alert.Alert{Labels: map[string]string{"alertname": "Fine"}})
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	require.Equal(t, "alerts[0]", inv[0].Field)
	require.Contains(t, inv[0].Msg, "alert Endless has 2 labels of")
	list, err := r.Alerts(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
}

// Labels may have any name that a series may have: their alerts are routed,
// grouped and silenced by them.
func TestNamesInUTF8(t *testing.T) {
	h := newHook(t)
	r := start(t, t.TempDir())
	route := routeTo("hook")
	route.Matchers, route.GroupBy = []string{`"service.name"="shop"`}, []string{"service.name"}
	require.NoError(t, r.Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{route}, nil, nil))
	labels := map[string]string{"alertname": "Down", "service.name": "shop"}
	require.NoError(t, r.Put(t.Context(), alert.Alert{Labels: labels, EndsAt: time.Now().Add(time.Hour)}))
	require.Eventually(t, func() bool { return len(h.messages()) == 1 }, soon, 5*time.Millisecond)
	require.Equal(t, labels, h.messages()[0].Alerts[0].Labels)
	_, err := r.SetSilence(t.Context(), alert.Silence{Matchers: []string{`"service.name"=shop`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "alice", Comment: "works"})
	require.NoError(t, err)
	list, err := r.Alerts(t.Context(), `"service.name"=~"sh.*"`)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "suppressed", list[0].Status)
}

package rules_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/rules"
)

const boundGroup = `[{"name":"g","interval":"10s","rules":[
	{"record":"all:load:sum","expr":"sum(load)"},
	{"record":"renamed","expr":"label_replace(load, \"team\", \"b\", \"\", \"\")"},
	{"alert":"High","expr":"load > 1","for":"20s","annotations":{"all":"{{ with query \"sum(load)\" }}{{ . | first | value }}{{ end }}"}},
	{"alert":"Other","expr":"load{team=\"b\"} > 1"}]}]`

// A record that is bound sees nothing but what it is bound to, and nothing that
// it makes leaves it.
func TestMatchersBindARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var a, b atomic.Int64
		a.Store(5)
		b.Store(70)
		w.feed(&a, "__name__", "load", "team", "a")
		w.feed(&b, "__name__", "load", "team", "b")
		rec := record(t, "mine", boundGroup)
		spec, err := rules.Normalize(json.RawMessage(`{"name":"mine","matchers":["team=\"a\""],"groups":`+boundGroup+`}`), nil)
		require.NoError(t, err)
		rec.Spec = spec
		s := w.start("n1", rules.Config{}, rec)
		time.Sleep(45 * time.Second)
		require.Equal(t, map[string]float64{`{__name__="all:load:sum", team="a"}`: 5}, w.samples(`{__name__="all:load:sum"}`))
		require.Equal(t, map[string]float64{`{__name__="renamed", team="a"}`: 5}, w.samples("renamed"))
		list := w.firings("High")
		require.Len(t, list, 1)
		require.Equal(t, "a", list[0].Labels["team"])
		require.Equal(t, "5", list[0].Annotations["all"])
		require.Empty(t, w.firings("Other"))
		require.Equal(t, "mine", s.Groups()[0].Source)

		// Another server goes on with the alert; bound otherwise it is another one.
		s2 := w.start("n2", rules.Config{}, rec)
		w.own("n2")
		s.stop()
		time.Sleep(30 * time.Second)
		require.Len(t, w.firings("High"), 1, "it began once")
		rec.Spec = json.RawMessage(`{"name":"mine","matchers":["team=b"],"groups":` + boundGroup + `}`)
		require.NoError(t, s2.Update([]model.Record{rec}))
		time.Sleep(45 * time.Second)
		require.Contains(t, w.samples("all:load:sum"), `{__name__="all:load:sum", team="b"}`)
		require.NotEmpty(t, w.firings("Other"))

		// What is tried is bound as well.
		g, err := rules.ParseGroup(json.RawMessage(boundGroup[1 : len(boundGroup)-1]))
		require.NoError(t, err)
		trial, err := s2.Try(rules.Bind(context.Background(), labels.FromStrings("team", "a")), g, time.Now().Add(-time.Minute), time.Now())
		require.NoError(t, err)
		require.Equal(t, 1, trial.Rules[1].Series)
		require.Len(t, trial.Rules[2].Firings, 1)
		require.Equal(t, map[string]string{"alertname": "High", "team": "a"}, trial.Rules[2].Firings[0].Labels)
		require.Equal(t, "5", trial.Rules[2].Firings[0].Value)
		require.Empty(t, trial.Rules[3].Firings)
	})
}

func TestMatchersAreChecked(t *testing.T) {
	for spec, field := range map[string]string{
		`{"name":"r","matchers":["team"],"groups":[{"name":"g","rules":[]}]}`:                                                                "matchers[0]",
		`{"name":"r","matchers":["team=~\"a|b\""],"groups":[{"name":"g","rules":[]}]}`:                                                       "matchers[0]",
		`{"name":"r","matchers":["team=a"],"labels":{"team":"b"},"groups":[{"name":"g","rules":[]}]}`:                                        "labels.team",
		`{"name":"r","matchers":["team=a"],"groups":[{"name":"g","labels":{"team":"b"},"rules":[]}]}`:                                        "groups[0].labels.team",
		`{"name":"r","matchers":["team=a"],"groups":[{"name":"g","rules":[{"alert":"A","expr":"up","labels":{"team":"{{ $labels.x }}"}}]}]}`: "groups[0].rules[0].labels.team",
	} {
		_, err := rules.Normalize(json.RawMessage(spec), nil)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, spec)
		require.Equal(t, field, inv[0].Field, err)
	}
	_, err := rules.Normalize(json.RawMessage(`{"name":"r","matchers":["team=a"],"labels":{"team":"a"},"groups":[{"name":"g","rules":[]}]}`), nil)
	require.NoError(t, err)
}

// A trial that takes too long says how far it came.
func TestTrialsAreBoundedInTime(t *testing.T) {
	w := newWorld(t)
	w.add(time.Now(), 1, "__name__", "load")
	s := w.start("n1", rules.Config{TryTimeout: time.Nanosecond})
	g, err := rules.ParseGroup(json.RawMessage(`{"name":"slow","rules":[{"alert":"A","expr":"load"},{"alert":"B","expr":"load"}]}`))
	require.NoError(t, err)
	trial, err := s.Try(context.Background(), g, time.Now().Add(-time.Hour), time.Now())
	require.NoError(t, err)
	require.True(t, trial.Capped)
	require.Contains(t, trial.Note, "A was tried up to")
	require.Len(t, trial.Rules, 2)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = s.Try(ctx, g, time.Now().Add(-time.Hour), time.Now())
	require.ErrorIs(t, err, context.Canceled)
}

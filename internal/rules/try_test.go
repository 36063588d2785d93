package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/rules"
)

const tryGroup = `{"name":"g","interval":"30s","limit":50,"labels":{"team":"web"},"rules":[
	{"record":"job:load:avg","expr":"avg by (job) (load)","labels":{"kind":"avg"}},
	{"alert":"High","expr":"job:load:avg > 0.5","for":"2m","keep_firing_for":"1m","labels":{"severity":"warning"},"annotations":{"summary":"{{ $labels.job }} at {{ $value | printf \"%.2f\" }}"}},
	{"alert":"Level","expr":"load > 0.8","labels":{"level":"{{ if gt $value 0.9 }}high{{ else }}middle{{ end }}"}},
	{"alert":"Rising","expr":"avg_over_time(job:load:avg[5m]) > 0.6","for":"1m"},
	{"alert":"Ends","expr":"max_over_time(load[2m] @ end()) > 0.95"}]}`

// What Try says would have fired is what the engine's own rules fire when they
// are evaluated at the same instants over the same samples.
func TestTryAgreesWithTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begin := time.Now().Add(time.Minute)
		for i := range 55 * 4 { // the store takes what the engine evaluates afterwards for an hour
			at := begin.Add(time.Duration(i) * 15 * time.Second)
			for job, phase := range map[string]float64{"a": 0, "b": 1.7, "c": 3.1} {
				if job == "c" && i%70 > 50 {
					continue // it comes and goes
				}
				// The store takes no samples from the future: the clock follows.
				w.add(at, 0.5+0.5*math.Sin(float64(i)/9+phase), "__name__", "load", "job", job)
			}
			time.Sleep(15 * time.Second)
		}
		s := w.start("n1", rules.Config{})
		g, err := rules.ParseGroup(json.RawMessage(tryGroup))
		require.NoError(t, err)
		from, to := begin.Add(15*time.Minute).Truncate(30*time.Second), begin.Add(54*time.Minute)
		trial, err := s.Try(context.Background(), g, from, to)
		require.NoError(t, err)
		require.False(t, trial.Capped, trial.Note)
		require.Empty(t, w.told, "nobody is told")
		require.Empty(t, w.samples("job:load:avg"), "nothing is written")

		want := byEngine(t, w, begin.Truncate(30*time.Second), from, to)
		got := map[string]string{}
		for _, r := range trial.Rules {
			require.Empty(t, r.Error, r.Name)
			require.NotZero(t, r.Samples, r.Name)
			for _, f := range r.Firings {
				if f.Earlier {
					require.True(t, f.FiredAt.Equal(from))
					continue
				}
				end := "-"
				if !f.ResolvedAt.IsZero() {
					end = fmt.Sprint(f.ResolvedAt.Unix())
				}
				got[fmt.Sprint(labels.FromMap(f.Labels), " ", f.FiredAt.Unix())] = end + " " + labels.FromMap(f.Annotations).String()
			}
		}
		require.Greater(t, len(want), 20)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-engine +try:\n%s", diff)
		}
	})
}

// byEngine evaluates the group with the engine alone and notes from when to
// when each alert fired.
func byEngine(t *testing.T, w *world, begin, from, to time.Time) map[string]string {
	m := engine.NewManager(&engine.ManagerOptions{
		QueryFunc: engine.EngineQueryFunc(w.query.Engine(), w.store), Appendable: w.store, Queryable: w.store, Context: context.Background(),
		NotifyFunc: func(context.Context, string, ...*engine.Alert) {},
	})
	path := t.TempDir() + "/g.yml"
	writeFile(t, path, `{"groups":[`+tryGroup+`]}`)
	groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, path)
	require.Empty(t, errs)
	out := map[string]string{}
	for _, g := range groups {
		type open struct {
			key, text string
			earlier   bool
		}
		fires := map[string]open{}
		for now := begin; !now.After(to); now = now.Add(30 * time.Second) {
			g.Eval(context.Background(), now)
			seen := map[string]bool{}
			for _, ar := range g.AlertingRules() {
				require.NoError(t, ar.LastError())
				for _, a := range ar.ActiveAlerts() {
					if a.State != engine.StateFiring {
						continue
					}
					id := a.Labels.String()
					seen[id] = true
					if _, ok := fires[id]; !ok {
						fires[id] = open{fmt.Sprint(a.Labels, " ", now.Unix()), a.Annotations.String(), now.Before(from)}
					}
				}
			}
			for id, o := range fires {
				if !seen[id] {
					if !o.earlier {
						out[o.key] = fmt.Sprint(now.Unix()) + " " + o.text
					}
					delete(fires, id)
				}
			}
		}
		for _, o := range fires {
			if o.earlier {
				continue
			}
			out[o.key] = "- " + o.text
		}
	}
	return out
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// A trial has limits, and says when it met one.
func TestTryLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now()
		for i := range 600 {
			w.add(now.Add(time.Duration(i)*time.Second), 0, "__name__", "up", "job", "a")
		}
		time.Sleep(10 * time.Minute)
		s := w.start("n1", rules.Config{MaxTrySamples: 30})
		g, err := rules.ParseGroup(json.RawMessage(`{"name":"g","interval":"1s","rules":[{"alert":"A","expr":"up == 0","for":"5s"}]}`))
		require.NoError(t, err)
		trial, err := s.Try(context.Background(), g, now, now.Add(5*time.Minute))
		require.NoError(t, err)
		require.True(t, trial.Capped)
		require.Equal(t, "more than 30 samples", trial.Note)

		f := func(from, to time.Time, want string) {
			t.Helper()
			_, err := s.Try(context.Background(), g, from, to)
			var inv model.Invalid
			require.ErrorAs(t, err, &inv)
			require.ErrorContains(t, err, want)
		}
		f(now, now, "must be before to")
		f(now.Add(-40*24*time.Hour), now, "not be more than 31d")
		f(now.Add(-7*24*time.Hour), now, "the group would be evaluated 604800 times, once in 1s; 200000 are allowed")

		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = s.Try(ctx, g, now, now.Add(time.Minute))
		require.ErrorIs(t, err, context.Canceled)
	})
}

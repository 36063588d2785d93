package rules_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/query"
	"panoptes/internal/rules"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// world is one store that several servers share, as copies of each other do.
type world struct {
	t      *testing.T
	store  *store.Store
	query  *query.Query
	owner  atomic.Value // string: who owns all groups
	behind atomic.Bool  // the store is catching up
	puts   atomic.Bool  // the alerting parts refuse

	mu   sync.Mutex
	told []told
	all  map[string]*server
}

type told struct {
	at   time.Time
	node string
	rules.Alert
}

type server struct {
	*rules.Rules
	stop func()
}

func newWorld(t *testing.T) *world {
	s, stop := storetest.Start(t, store.Config{}, store.Deps{})
	t.Cleanup(stop)
	q, err := query.New(query.Config{}, query.Deps{Storage: s, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	w := &world{t: t, store: s, query: q, all: map[string]*server{}}
	w.owner.Store("n1")
	return w
}

// start runs a server; it is killed by its stop, at the latest at the end.
func (w *world) start(node string, cfg rules.Config, records ...model.Record) *server {
	w.t.Helper()
	cfg.Node = node
	r, err := rules.New(cfg, rules.Deps{
		Queryable: w.query.Queryable(), Engine: w.query.Engine(), Appendable: w.store, Registerer: prometheus.NewRegistry(),
		Owns: func(string) bool { return w.owner.Load() == node }, Current: func() bool { return !w.behind.Load() },
		ExternalURL: &url.URL{Scheme: "https", Host: "watch.example"},
		Put: func(_ context.Context, list ...rules.Alert) error {
			if w.puts.Load() {
				return errors.New("nobody answers")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, a := range list {
				w.told = append(w.told, told{time.Now(), node, a})
			}
			return nil
		},
	})
	require.NoError(w.t, err)
	require.NoError(w.t, r.Update(records))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	s := &server{Rules: r, stop: sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})}
	w.t.Cleanup(s.stop)
	w.mu.Lock()
	w.all[node] = s
	w.mu.Unlock()
	return s
}

// own gives all groups to another server.
func (w *world) own(node string) {
	w.owner.Store(node)
	for _, s := range w.all {
		s.OwnersChanged()
	}
}

// feed stores a series every five seconds until the test ends.
func (w *world) feed(value *atomic.Int64, lset ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			w.add(time.Now(), float64(value.Load()), lset...)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) add(at time.Time, v float64, lset ...string) {
	app := w.store.Appender(context.Background())
	_, err := app.Append(0, labels.FromStrings(lset...), at.UnixMilli(), v)
	require.NoError(w.t, err)
	require.NoError(w.t, app.Commit())
}

// firings are the alerts told, the latest word of each beginning.
func (w *world) firings(name string) []told {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []told
	seen := map[string]bool{}
	for _, a := range w.told {
		key := fmt.Sprint(a.Labels, a.StartsAt)
		if a.Labels["alertname"] == name && !seen[key] {
			seen[key] = true
			out = append(out, a)
		}
	}
	return out
}

func (w *world) samples(expr string) map[string]float64 {
	w.t.Helper()
	list, err := w.query.Instant(context.Background(), expr, time.Now())
	require.NoError(w.t, err)
	out := map[string]float64{}
	for _, s := range list {
		out[s.Labels.String()] = s.V
	}
	return out
}

func record(t testing.TB, name, groups string) model.Record {
	t.Helper()
	spec, err := rules.Normalize(json.RawMessage(fmt.Sprintf(`{"name":%q,"groups":%s}`, name, groups)), nil)
	require.NoError(t, err)
	return model.Record{Kind: model.KindRules, ID: "id-" + name, Name: name, Spec: spec}
}

const downGroup = `[{"name":"g","interval":"10s","rules":[
	{"record":"job:up:min","expr":"min by (job) (up)"},
	{"alert":"Down","expr":"up == 0","for":"1m","labels":{"severity":"critical"},"annotations":{"summary":"{{ $labels.job }} is {{ $value }}"}}]}]`

// An undisturbed server, and the same rule when its server is killed while the
// alert is pending and another takes over 5 s later: the same alert, with the
// same beginning, told once, not later than two intervals.
func TestTakeOverWhilePending(t *testing.T) {
	run := func(t *testing.T, killAfter time.Duration) (w *world, first told) {
		w = newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		n1 := w.start("n1", rules.Config{}, record(t, "basics", downGroup))
		w.start("n2", rules.Config{}, record(t, "basics", downGroup))
		if killAfter > 0 {
			time.Sleep(killAfter)
			n1.stop()
			time.Sleep(5 * time.Second)
			w.own("n2")
		}
		time.Sleep(3*time.Minute - killAfter)
		list := w.firings("Down")
		require.Len(t, list, 1, "one beginning, whoever tells it: %v", list)
		return w, list[0]
	}
	var calm told
	synctest.Test(t, func(t *testing.T) {
		var w *world
		w, calm = run(t, 0)
		require.Equal(t, "n1", calm.node)
		require.Equal(t, map[string]string{"alertname": "Down", "job": "a", "severity": "critical"}, calm.Labels)
		require.Equal(t, map[string]string{"summary": "a is 0"}, calm.Annotations)
		require.Contains(t, calm.GeneratorURL, "https://watch.example/graph?g0.expr=up+%3D%3D+0")
		require.Equal(t, map[string]float64{`{__name__="job:up:min", job="a"}`: 0}, w.samples("job:up:min"))
	})
	for _, after := range []time.Duration{12 * time.Second, 31 * time.Second, 39 * time.Second, 58 * time.Second, 66 * time.Second, 69 * time.Second, 100 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, got := run(t, after)
				require.Equal(t, calm.Labels, got.Labels)
				require.True(t, got.StartsAt.Equal(calm.StartsAt), "began %s, undisturbed %s", got.StartsAt, calm.StartsAt)
				require.Same(t, time.UTC, got.StartsAt.Location(), "in whatever zone the server is")
				t.Logf("told %s after the undisturbed server", got.at.Sub(calm.at).Round(time.Millisecond))
				require.LessOrEqual(t, got.at.Sub(calm.at), 20*time.Second, "told too late")
			})
		})
	}
}

// A server that leaves in order writes no markers that would end what the next
// one goes on with.
func TestHandOverInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		rec := record(t, "basics", downGroup)
		w.start("n1", rules.Config{}, rec)
		w.start("n2", rules.Config{}, rec)
		time.Sleep(40 * time.Second)
		w.behind.Store(true) // the next one cannot begin at once
		w.own("n2")
		time.Sleep(30 * time.Second)
		require.Empty(t, w.firings("Down"), "nothing is evaluated while samples are missing")
		require.Len(t, w.samples("ALERTS_FOR_STATE"), 1, "a marker ended the alert")
		w.behind.Store(false)
		time.Sleep(25 * time.Second)
		list := w.firings("Down")
		require.Len(t, list, 1)
		require.Equal(t, "n2", list[0].node)
		require.Len(t, w.all["n2"].RuleGroups(), 1)
		require.Empty(t, w.all["n1"].RuleGroups())

		// Gone for good: then the series end.
		for _, s := range w.all {
			require.NoError(t, s.Update(nil))
		}
		time.Sleep(30 * time.Second)
		require.Empty(t, w.samples("ALERTS_FOR_STATE"))
		require.Empty(t, w.samples("job:up:min"))
	})
}

// A store that never gets complete does not make rules blind.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		w.behind.Store(true)
		w.start("n1", rules.Config{}, record(t, "basics", downGroup))
		time.Sleep(10 * time.Minute)
		require.Empty(t, w.samples("job:up:min"))
		time.Sleep(2 * time.Minute)
		require.Len(t, w.firings("Down"), 1)
	})
}

// Both sides of a split evaluate at different instants: no two values for one.
func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		rec := record(t, "basics", downGroup)
		n1 := w.start("n1", rules.Config{}, rec)
		w.owner.Store("n2")
		n2 := w.start("n2", rules.Config{}, rec)
		time.Sleep(time.Minute)
		require.Len(t, n2.Groups(), 1)
		at2 := n2.RuleGroups()[0].GetLastEvalTimestamp()
		w.owner.Store("n1")
		n1.OwnersChanged()
		time.Sleep(time.Minute)
		at1 := n1.RuleGroups()[0].GetLastEvalTimestamp()
		require.NotEqual(t, at1.UnixMilli()%10_000, at2.UnixMilli()%10_000)
		require.Len(t, rules.Merge(n1.Groups(), n2.Groups()), 1, "shown once")
	})
}

// Changing a group keeps the time that its alerts have been pending.
func TestReloadKeepsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		s := w.start("n1", rules.Config{}, record(t, "basics", downGroup))
		began := time.Now()
		for i := range 6 {
			time.Sleep(9 * time.Second)
			more := fmt.Sprintf(`[{"name":"g","interval":"10s","rules":[
				{"alert":"Down","expr":"up == 0","for":"1m","labels":{"severity":"critical"},"annotations":{"summary":"change %d"}},
				{"alert":"More","expr":"up == %d"}]}]`, i, i)
			require.NoError(t, s.Update([]model.Record{record(t, "basics", more)}))
		}
		time.Sleep(time.Minute)
		list := w.firings("Down")
		require.Len(t, list, 1)
		require.LessOrEqual(t, list[0].at.Sub(began), 90*time.Second)
		require.Equal(t, "change 5", list[0].Annotations["summary"])

		// A record that does not load keeps what it was.
		bad := model.Record{Name: "basics", Spec: json.RawMessage(`{"name":"basics","groups":[{"name":"g","rules":[{"alert":"X","expr":"up =="}]}]}`)}
		require.ErrorContains(t, s.Update([]model.Record{bad}), "basics")
		time.Sleep(15 * time.Second)
		require.Len(t, s.AlertingRules(), 2)
		require.Contains(t, s.Status().Faults["basics"], "expr")
	})
}

// stale counts the markers that end the series of a metric.
func (w *world) stale(name string) (n int) {
	w.t.Helper()
	q, err := w.store.Querier(0, time.Now().UnixMilli())
	require.NoError(w.t, err)
	defer q.Close()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			if _, v := it.At(); value.IsStaleNaN(v) {
				n++
			}
		}
	}
	require.NoError(w.t, set.Err())
	return n
}

// Changing a group leaves no gap in what its alerts write: who takes it over a
// moment later would find that they had ended.
func TestReloadEndsNoAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		s := w.start("n1", rules.Config{}, record(t, "basics", downGroup))
		w.start("n2", rules.Config{}, record(t, "basics", downGroup))
		time.Sleep(3 * time.Minute)
		list := w.firings("Down")
		require.Len(t, list, 1)
		ends := w.stale("ALERTS")
		changed := strings.Replace(downGroup, `{"alert":"Down"`, `{"alert":"New","expr":"up == 7"},{"alert":"Down"`, 1)
		for _, s := range w.all {
			require.NoError(t, s.Update([]model.Record{record(t, "basics", changed)}))
		}
		require.Eventually(t, func() bool { return len(s.AlertingRules()) == 2 }, time.Minute, time.Second)
		time.Sleep(12 * time.Second) // one evaluation
		w.own("n2")
		time.Sleep(2 * time.Minute)
		require.Equal(t, ends, w.stale("ALERTS"))
		require.Zero(t, w.stale("ALERTS_FOR_STATE"))
		require.Len(t, w.firings("Down"), 1, "one beginning")
	})
}

// What fires is told again, what ends is told with its end, and an alerting
// part that is away for a while misses nothing.
func TestTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		w.puts.Store(true)
		w.start("n1", rules.Config{}, record(t, "basics", `[{"name":"g","interval":"10s","rules":[{"alert":"Down","expr":"up == 0"}]}]`))
		time.Sleep(40 * time.Second)
		require.Empty(t, w.firings("Down"))
		w.puts.Store(false)
		time.Sleep(2 * time.Second)
		list := w.firings("Down")
		require.Len(t, list, 1)
		require.True(t, list[0].EndsAt.After(time.Now().Add(2*time.Minute)), "firing")
		time.Sleep(3 * time.Minute)
		w.mu.Lock()
		n := len(w.told)
		w.mu.Unlock()
		require.Greater(t, n, 2, "told again each minute")
		up.Store(1)
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		last := w.told[len(w.told)-1]
		w.mu.Unlock()
		require.False(t, last.EndsAt.After(time.Now()), "ended")
		require.True(t, last.StartsAt.Equal(list[0].StartsAt))
	})
}

// Groups of several servers are shown as if they were one's own.
func TestView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		up2 := &atomic.Int64{}
		w.feed(up2, "__name__", "up", "job", "b")
		s := w.start("n1", rules.Config{}, record(t, "basics", downGroup))
		time.Sleep(2 * time.Minute)
		b, err := json.Marshal(s.Groups())
		require.NoError(t, err)
		var sent []rules.GroupState
		require.NoError(t, json.Unmarshal(b, &sent))
		v := rules.ViewOf(sent)
		require.Len(t, v.RuleGroups(), 1)
		require.Len(t, v.AlertingRules(), 1)
		got, want := v.AlertingRules()[0], s.AlertingRules()[0]
		require.Equal(t, want.String(), got.String())
		require.Equal(t, want.State(), got.State())
		require.Equal(t, want.Health(), got.Health())
		list := map[string]string{}
		for _, a := range want.ActiveAlerts() {
			list[a.Labels.String()] = fmt.Sprint(a.State, a.ActiveAt.UTC(), a.Value, a.Annotations)
		}
		require.Len(t, list, 2)
		other := maps.Clone(list)
		clear(other)
		for _, a := range got.ActiveAlerts() {
			other[a.Labels.String()] = fmt.Sprint(a.State, a.ActiveAt.UTC(), a.Value, a.Annotations)
		}
		require.Equal(t, list, other)
	})
}

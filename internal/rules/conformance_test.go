package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/stretchr/testify/require"

	"panoptes/internal/rules"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

const conformGroup = `{"name":"g","interval":"15s","rules":[
	{"record":"job:load:sum","expr":"sum by (job) (load)"},
	{"record":"job:load:sum:max5m","expr":"max_over_time(job:load:sum[5m])","labels":{"of":"max"}},
	{"alert":"High","expr":"job:load:sum > 0.6","for":"1m","keep_firing_for":"45s","labels":{"severity":"{{ if gt $value 0.9 }}critical{{ else }}warning{{ end }}"},"annotations":{"a":"{{ $value | humanizePercentage }} of {{ with query \"sum(load)\" }}{{ . | first | value | printf \"%.1f\" }}{{ end }}"}},
	{"alert":"Any","expr":"absent(load{job=\"z\"})"}]}`

// What a server writes – recorded series, ALERTS, ALERTS_FOR_STATE, markers of
// the end – is what the engine writes when it evaluates the same rules at the
// same instants on its own.
func TestWritesWhatTheEngineWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other, stop := storetest.Start(t, store.Config{}, store.Deps{})
		t.Cleanup(stop)
		path := t.TempDir() + "/g.yml"
		writeFile(t, path, `{"groups":[`+conformGroup+`]}`)
		m := engine.NewManager(&engine.ManagerOptions{
			QueryFunc: engine.EngineQueryFunc(w.query.Engine(), other), Appendable: other, Queryable: other, Context: context.Background(),
			NotifyFunc: func(context.Context, string, ...*engine.Alert) {},
		})
		groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, path)
		require.Empty(t, errs)
		s := w.start("n1", rules.Config{}, record(t, "r", "["+conformGroup+"]"))
		last := time.Time{}
		for i := range 20 * 12 {
			at := time.Now()
			for job, phase := range map[string]float64{"a": 0, "b": 2} {
				v := 0.5 + 0.5*math.Sin(float64(i)/15+phase)
				w.add(at, v, "__name__", "load", "job", job)
				app := other.Appender(context.Background())
				_, err := app.Append(0, labels.FromStrings("__name__", "load", "job", job), at.UnixMilli(), v)
				require.NoError(t, err)
				require.NoError(t, app.Commit())
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for _, g := range s.RuleGroups() {
				if now := g.GetLastEvalTimestamp(); now.After(last) {
					last = now
					for _, bare := range groups {
						for _, ar := range bare.AlertingRules() {
							ar.SetRestored(true)
						}
						bare.Eval(context.Background(), now)
					}
				}
			}
		}
		got, want := dump(t, w.store), dump(t, other)
		require.Greater(t, len(want), 10)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-engine +ours:\n%s", diff)
		}
	})
}

// dump lists every sample of a store by series.
func dump(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	q, err := s.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	out := map[string]string{}
	for set.Next() {
		var b strings.Builder
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			at, v := it.At()
			if value.IsStaleNaN(v) {
				fmt.Fprintf(&b, "%d:stale ", at)
			} else {
				fmt.Fprintf(&b, "%d:%g ", at, v)
			}
		}
		out[set.At().Labels().String()] = b.String()
	}
	require.NoError(t, set.Err())
	return out
}

// What the engine's loader takes and refuses, we take and refuse.
func TestLoadsWhatTheEngineLoads(t *testing.T) {
	dir := promtoolFiles(t)
	var paths []string
	for _, pattern := range []string{"rules*.yml", "../../../rules/fixtures/*.yaml", "../../../model/rulefmt/testdata/*.yaml", "bad-rules*.yml", "prometheus-rules.lint.yml"} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		paths = append(paths, list...)
	}
	require.Greater(t, len(paths), 20)
	bad := 0
	for _, path := range paths {
		name := filepath.Base(path)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		_, errs := rulefmt.Parse(data, false, pm.UTF8Validation)
		_, err = rules.ParseFile(data)
		if len(errs) > 0 {
			bad++
			require.Error(t, err, "%s: the engine says %v", name, errs)
			continue
		}
		if err != nil {
			// Stricter on purpose: limits, and an empty set does nothing.
			require.Regexp(t, "at least one group|1000 are allowed", err.Error(), name)
		}
	}
	require.Greater(t, bad, 5)
}

// A server that starts again goes on with what fired: no second beginning, and
// the end is told.
func TestRestartWhileFiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		rec := record(t, "basics", downGroup)
		n1 := w.start("n1", rules.Config{}, rec)
		time.Sleep(2 * time.Minute)
		require.Len(t, w.firings("Down"), 1)
		n1.stop()
		time.Sleep(10 * time.Minute) // nobody watches; it goes on
		w.start("n1", rules.Config{}, rec)
		time.Sleep(30 * time.Second)
		require.Len(t, w.firings("Down"), 1, "it fires since then")
		w.mu.Lock()
		last := w.told[len(w.told)-1]
		w.mu.Unlock()
		require.WithinDuration(t, time.Now(), last.at, 31*time.Second, "told again at once")
		up.Store(1)
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		last = w.told[len(w.told)-1]
		w.mu.Unlock()
		require.False(t, last.EndsAt.After(time.Now()))
		require.Empty(t, w.samples("ALERTS"))
	})
}

// Time in which nobody watched does not count for an alert that was pending,
// and one that ended before begins anew.
func TestRestartWhilePending(t *testing.T) {
	run := func(t *testing.T, ended bool) time.Duration {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		long := strings.Replace(downGroup, `"for":"1m"`, `"for":"10m"`, 1)
		require.True(t, json.Valid([]byte(long)))
		n1 := w.start("n1", rules.Config{}, record(t, "basics", long))
		time.Sleep(6 * time.Minute)
		if ended {
			up.Store(1)
			time.Sleep(30 * time.Second)
			up.Store(0)
		}
		n1.stop()
		time.Sleep(20 * time.Minute)
		again := time.Now()
		w.start("n1", rules.Config{}, record(t, "basics", long))
		for range 15 * 12 {
			time.Sleep(5 * time.Second)
			if list := w.firings("Down"); len(list) > 0 {
				return list[0].at.Sub(again)
			}
		}
		return 0
	}
	synctest.Test(t, func(t *testing.T) {
		require.InDelta(t, 4*time.Minute, run(t, false), float64(30*time.Second), "six of ten minutes were seen")
	})
	synctest.Test(t, func(t *testing.T) {
		require.InDelta(t, 10*time.Minute, run(t, true), float64(30*time.Second))
	})
}

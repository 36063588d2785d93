package query_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cortexproject/promqlsmith"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	mathrand "math/rand"

	"panoptes/internal/query"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// past is a store with samples of the last 40 hours.
type past struct {
	*store.Store
	t     testing.TB
	now   time.Time
	every time.Duration
}

func newPast(t testing.TB) *past {
	p := &past{Store: storetest.New(t, store.Config{}), t: t, now: time.Now().Truncate(time.Minute), every: 2 * time.Minute}
	app := p.Appender(context.Background())
	_, err := app.Append(0, labels.FromStrings("__name__", "begin"), p.now.UnixMilli(), 1)
	require.NoError(t, err)
	require.NoError(t, app.Commit())
	p.add(p.now.Add(-40*time.Hour), p.now, 1)
	return p
}

// add stores samples of all series; some have gaps, resets and an end.
func (p *past) add(from, to time.Time, seed float64) {
	app := p.Appender(context.Background())
	for i := range 8 {
		ls := labels.FromStrings("__name__", "m"+strconv.Itoa(i%2), "a", strconv.Itoa(i%4), "b", strconv.Itoa(i))
		for n, at := 0, from; at.Before(to); n, at = n+1, at.Add(p.every) {
			k := at.Unix() / int64(p.every.Seconds())
			if (k/90+int64(i))%5 == 0 || i == 7 && p.now.Sub(at) < 20*time.Hour { // gaps, and a series that ends
				continue
			}
			_, err := app.Append(0, ls, at.UnixMilli(), seed*float64(k%97)*1.25+float64(i))
			require.NoError(p.t, err)
		}
	}
	for at := from; at.Before(to); at = at.Add(p.every) {
		k := uint64(at.Unix() / int64(p.every.Seconds()) % 1000)
		_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "h", "a", "1", "b", "h"), at.UnixMilli(), &histogram.Histogram{
			Count: 3 + 2*k, Sum: seed * float64(k), PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{int64(k) + 1, 1}}, nil)
		require.NoError(p.t, err)
	}
	require.NoError(p.t, app.Commit())
}

type rangeQuery struct {
	expr       string
	start, end time.Time
	step       time.Duration
}

func (r rangeQuery) form() url.Values {
	return url.Values{"query": {r.expr}, "start": {fmt.Sprintf("%.3f", float64(r.start.UnixMilli())/1000)},
		"end": {fmt.Sprintf("%.3f", float64(r.end.UnixMilli())/1000)}, "step": {fmt.Sprint(r.step.Seconds())}}
}

func (r rangeQuery) String() string { return r.form().Encode() + " " + r.expr }

// answer is what the API says, decoded.
type answer struct {
	Status, ErrorType, Error string
	Warnings                 []string
	Data                     struct {
		ResultType string
		Result     []struct {
			Metric     map[string]string
			Values     [][2]any
			Histograms [][2]any
		}
	}
	raw string
}

func ask(t testing.TB, h http.Handler, r rangeQuery) answer {
	t.Helper()
	w := do(h, http.MethodPost, "/api/v1/query_range", r.form())
	a := answer{raw: w.Body.String()}
	require.NoError(t, json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&a), "%d %s", w.Code, w.Body)
	return a
}

// same compares two answers; numbers may differ in their last digits, since
// sums depend on the order of their terms.
func same(a, b answer) error {
	if a.Status != b.Status || a.ErrorType != b.ErrorType || (len(a.Warnings) == 0) != (len(b.Warnings) == 0) || a.Data.ResultType != b.Data.ResultType {
		return fmt.Errorf("%.300s\nis not\n%.300s", a.raw, b.raw)
	}
	if len(a.Data.Result) != len(b.Data.Result) {
		return fmt.Errorf("%d series are not %d", len(a.Data.Result), len(b.Data.Result))
	}
	for i := range a.Data.Result {
		x, y := a.Data.Result[i], b.Data.Result[i]
		if fmt.Sprint(x.Metric) != fmt.Sprint(y.Metric) || len(x.Values) != len(y.Values) || len(x.Histograms) != len(y.Histograms) {
			return fmt.Errorf("series %v with %d+%d points is not %v with %d+%d", x.Metric, len(x.Values), len(x.Histograms), y.Metric, len(y.Values), len(y.Histograms))
		}
		for j := range x.Values {
			if x.Values[j][0] != y.Values[j][0] || !near(x.Values[j][1].(string), y.Values[j][1].(string)) {
				return fmt.Errorf("series %v: %v is not %v", x.Metric, x.Values[j], y.Values[j])
			}
		}
		for j := range x.Histograms {
			p, q := x.Histograms[j][1].(map[string]any), y.Histograms[j][1].(map[string]any)
			if x.Histograms[j][0] != y.Histograms[j][0] || !near(p["count"].(string), q["count"].(string)) || !near(p["sum"].(string), q["sum"].(string)) {
				return fmt.Errorf("series %v: %v is not %v", x.Metric, p, q)
			}
		}
	}
	return nil
}

func near(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
}

// querySeed can be given to look for more, or again: sums are not exact, so that
// a comparison of two of them may differ once in a great while.
var querySeed = flag.Uint64("query.seed", 1, "where the random queries begin; 0 takes one from the clock")

// TestKeptAnswersAreRight asks random queries of an engine that keeps answers
// and of one that does not, while samples come late, are deleted, and become
// blocks in between.
func TestKeptAnswersAreRight(t *testing.T) {
	p := newPast(t)
	reg := prometheus.NewRegistry()
	kept := newQuery(t, query.Config{CacheBytes: 1 << 20}, query.Deps{Storage: p, Versions: p, Registerer: reg}).Handler()
	plain := newQuery(t, query.Config{}, query.Deps{Storage: p}).Handler()
	seed := *querySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	exprs := []string{
		"m0", "rate(m0[10m])", "sum by (a) (rate(m0[5m]))", "topk(2, m0)", "m0 offset 3h", "avg_over_time(m1[1h:7m])", "h", "histogram_quantile(0.9, rate(h[10m]))",
		"m0 @ end()", "m0 offset -5m", "max_over_time(rate(m0[10m])[2h:5m] offset 1h)", "count_values(\"v\", m0)", "absent(m0{b=\"0\"})", "m0 + on(a) group_left m1", "time() - timestamp(m0)",
		"sum(m0) / count(m0)", "quantile_over_time(0.5, m1[30m])", "label_replace(m0, \"c\", \"$1\", \"b\", \"(.*)\")", "scalar(sum(m0))", "sum(m0 @ 1600000000)", "no_such", "rate(m0[1h]) > 0.01",
	}
	var smithSeries []labels.Labels
	for i := range 8 {
		smithSeries = append(smithSeries, labels.FromStrings("__name__", "m"+strconv.Itoa(i%2), "a", strconv.Itoa(i%4), "b", strconv.Itoa(i)))
	}
	smith := promqlsmith.New(mathrand.New(mathrand.NewSource(int64(seed))), smithSeries, promqlsmith.WithEnableOffset(true), promqlsmith.WithEnableAtModifier(true), promqlsmith.WithAtModifierMaxTimestamp(p.now.UnixMilli()))
	for range 25 {
		if e := smith.WalkRangeQuery().String(); len(e) < 200 && strings.Count(e, ":") < 2 && !strings.Contains(e, "topk") && !strings.Contains(e, "bottomk") && !strings.Contains(e, "limit") && !strings.Contains(e, "count_values") {
			// Nested subqueries take minutes, among equals any may be the first,
			// and a sum's last digit, which depends on the order of its terms,
			// would become a label.
			exprs = append(exprs, e)
		}
	}
	steps := []time.Duration{30 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 90 * time.Second}
	refused := 0
	for round := range 250 {
		step := steps[rnd.IntN(len(steps))]
		start := p.now.Add(-time.Duration(rnd.Int64N(int64(44 * time.Hour))))
		if rnd.IntN(3) > 0 {
			start = start.Truncate(step) // as dashboards do
		}
		end := start.Add(time.Duration(rnd.Int64N(int64(46 * time.Hour))))
		if rnd.IntN(2) > 0 && end.After(p.now) {
			end = p.now.Truncate(step)
		}
		end = slices.MinFunc([]time.Time{end, start.Add(1500 * step)}, time.Time.Compare)
		if end.Before(start) {
			end = start
		}
		r := rangeQuery{exprs[rnd.IntN(len(exprs))], start, end, step}
		want := ask(t, plain, r)
		if want.Status != "success" {
			refused++
		}
		// What never meets in one part is not refused for being alike.
		if strings.Contains(want.Error, "same labelset") || strings.Contains(want.Error, "many-to-many") || strings.Contains(want.Error, "duplicate") {
			continue
		}
		for again := range 2 {
			got := ask(t, kept, r)
			require.NoError(t, same(want, got), "round %d, asked %d times: %s", round, again+1, r)
		}
		switch rnd.IntN(12) {
		case 0: // one series' samples come late
			app := p.Appender(context.Background())
			at := p.now.Add(-time.Duration(rnd.Int64N(int64(40 * time.Hour))))
			for range 20 {
				at = at.Add(13 * time.Second)
				_, err := app.Append(0, labels.FromStrings("__name__", "m0", "a", "1", "b", "5"), at.UnixMilli(), rnd.Float64()*100)
				require.NoError(t, err)
			}
			require.NoError(t, app.Commit())
		case 1:
			at := p.now.Add(-time.Duration(rnd.Int64N(int64(40 * time.Hour)))).UnixMilli()
			require.NoError(t, p.Delete(context.Background(), at, at+int64(30*time.Minute/time.Millisecond), labels.MustNewMatcher(labels.MatchEqual, "b", strconv.Itoa(rnd.IntN(8)))))
		case 2:
			if rnd.IntN(3) == 0 {
				require.NoError(t, p.Compact(context.Background()))
			}
		}
	}
	// Chance may not have asked again about a time whose samples have changed.
	late := rangeQuery{"sum(m0)", p.now.Add(-20 * time.Hour), p.now, time.Minute}
	require.NoError(t, same(ask(t, plain, late), ask(t, kept, late)))
	app := p.Appender(context.Background())
	_, err := app.Append(0, labels.FromStrings("__name__", "m0", "a", "1", "b", "5"), p.now.Add(-10*time.Hour).UnixMilli()+1, 1e6)
	require.NoError(t, err)
	require.NoError(t, app.Commit())
	require.NoError(t, same(ask(t, plain, late), ask(t, kept, late)))
	t.Logf("%.0f steps kept, %.0f computed, %d queries refused alike", counter(t, reg, "panoptes_query_cache_steps_hit_total"), counter(t, reg, "panoptes_query_cache_steps_missed_total"), refused)
	require.Greater(t, counter(t, reg, "panoptes_query_cache_steps_hit_total"), 10_000.0)
	require.Positive(t, counter(t, reg, "panoptes_query_cache_outdated_total"))
	require.LessOrEqual(t, counter(t, reg, "panoptes_query_cache_bytes"), float64(1<<20))
}

// counter reads a counter or gauge.
func counter(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		if f.GetName() == name {
			m := f.Metric[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(t, "no metric "+name)
	return 0
}

func TestWhatIsKeptAndWhatNot(t *testing.T) {
	p := newPast(t)
	reg := prometheus.NewRegistry()
	why := ""
	bound := labels.EmptyLabels()
	q := newQuery(t, query.Config{CacheBytes: 8 << 20}, query.Deps{Storage: p, Versions: p, Registerer: reg,
		Incomplete: func() string { return why }, Bound: func(context.Context) labels.Labels { return bound }})
	hits := func(r rangeQuery) (steps float64, a answer) {
		t.Helper()
		before := counter(t, reg, "panoptes_query_cache_steps_hit_total")
		a = ask(t, q.Handler(), r)
		require.Equal(t, "success", a.Status, a.Error)
		return counter(t, reg, "panoptes_query_cache_steps_hit_total") - before, a
	}
	r := rangeQuery{"sum(m0)", p.now.Add(-30 * time.Hour), p.now, time.Minute}
	n, _ := hits(r)
	require.Zero(t, n)
	n, _ = hits(r)
	require.InDelta(t, 30*60, n, 7, "all but the last five minutes")
	r.start, r.end = r.start.Add(2*time.Minute), r.end.Add(2*time.Minute)
	n, _ = hits(r)
	require.InDelta(t, 30*60, n, 9, "a dashboard moves on")

	r = rangeQuery{"sum(m1)", p.now.Add(-30 * time.Hour), p.now, time.Minute}
	why = "another server has samples"
	n, a := hits(r)
	require.Zero(t, n)
	require.Len(t, a.Warnings, 1)
	why = ""
	n, _ = hits(r)
	require.Zero(t, n, "what may lack something is not kept")
	why = "another server has samples"
	n, a = hits(r)
	require.Zero(t, n, "what is kept has no warning")
	require.Len(t, a.Warnings, 1)
	why = ""

	bound = labels.FromStrings("a", "1")
	n, a = hits(r)
	require.Zero(t, n, "another's answers are not shown")
	bound = labels.EmptyLabels()
	_, all := hits(r)
	require.NotEqual(t, a.raw, all.raw)

	off := newQuery(t, query.Config{CacheBytes: 1}, query.Deps{Storage: p, Versions: p}).Handler()
	require.NoError(t, same(ask(t, off, r), all), "no room for anything")
}

func TestLongRangesNeedLittleMemory(t *testing.T) {
	p := newPast(t)
	r := rangeQuery{"m0", p.now.Add(-40 * time.Hour), p.now, 5 * time.Minute}
	// 4 series, 480 steps: the answer has less than 2000 points; reading it at
	// once takes more than a part of it does.
	whole := newQuery(t, query.Config{MaxSamples: 1300}, query.Deps{Storage: p}).Handler()
	require.Equal(t, "execution", ask(t, whole, r).ErrorType)
	parts := newQuery(t, query.Config{MaxSamples: 1300, CacheBytes: 1 << 20}, query.Deps{Storage: p, Versions: p}).Handler()
	a := ask(t, parts, r)
	require.Equal(t, "execution", a.ErrorType, "the limit holds for the answer, too")
	require.Contains(t, a.Error, "too many samples")
}

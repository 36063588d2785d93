package promql

import (
	"context"
	"flag"
	"math/rand"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cortexproject/promqlsmith"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// shortQueries keeps the test short.
const shortQueries = 400

var (
	queries = flag.Int("promql.queries", shortQueries, "random queries to compare")
	seed    = flag.Int64("promql.seed", 1, "where the random queries begin; another one asks others")
)

const (
	randomSpan = 6 * time.Hour
	randomStep = 30 * time.Second
)

// randomSeries are the series of random queries.
func randomSeries() (out []labels.Labels) {
	for i := range 12 {
		out = append(out, labels.FromStrings("__name__", []string{"requests_total", "load"}[i%2], "job", "j"+strconv.Itoa(i%3), "instance", "i"+strconv.Itoa(i)))
	}
	return append(out, labels.FromStrings("__name__", "latency", "job", "j0", "instance", "h"))
}

// writeRandom appends samples of those series between two times: counters with
// resets, gauges, gaps, and a native histogram.
func writeRandom(t testing.TB, app storage.Appender, from, to time.Time) {
	rnd := rand.New(rand.NewSource(1))
	list := randomSeries()
	value := make([]float64, len(list))
	count := int64(0)
	for at := from; at.Before(to); at = at.Add(randomStep) {
		for i, ls := range list[:len(list)-1] {
			switch {
			case i%2 == 1:
				value[i] = rnd.NormFloat64() * 10
			case rnd.Intn(200) == 0:
				value[i] = 0
			default:
				value[i] += rnd.Float64() * 5
			}
			if rnd.Intn(30) == 0 || at.Unix()/3600%5 == int64(i) {
				continue
			}
			_, err := app.Append(0, ls, at.UnixMilli(), value[i])
			require.NoError(t, err)
		}
		count++
		_, err := app.AppendHistogram(0, list[len(list)-1], at.UnixMilli(), &histogram.Histogram{Count: uint64(2*count + 1), Sum: float64(count), PositiveSpans: []histogram.Span{{Length: 2}},
			PositiveBuckets: []int64{count, 1}}, nil)
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
}

// randomQuery makes one that does not take long, and whose answer does not
// depend on the order in which series come.
func randomQuery(s *promqlsmith.PromQLSmith) string {
	for {
		q := s.WalkRangeQuery().String()
		bad := len(q) > 300 || strings.Count(q, ":") > 1
		for _, word := range []string{"topk", "bottomk", "limit", "count_values", "time()", "timestamp"} {
			bad = bad || strings.Contains(q, word)
		}
		if !bad {
			return q
		}
	}
}

func newSmith(rnd *rand.Rand, max time.Time) *promqlsmith.PromQLSmith {
	return promqlsmith.New(rnd, randomSeries(), promqlsmith.WithEnableOffset(true), promqlsmith.WithEnableAtModifier(true),
		promqlsmith.WithAtModifierMaxTimestamp(max.UnixMilli()))
}

// TestRandomQueries asks random queries of a server and of Prometheus' engine
// over a plain database.
func TestRandomQueries(t *testing.T) {
	t.Logf("seed %d", *seed)
	p := oneServer(t)
	defer func() { require.NoError(t, p.Close()) }()
	to := time.Now().Truncate(time.Hour)
	from := to.Add(-randomSpan)
	writeRandom(t, p.Appender(context.Background()), from, to)
	rnd := rand.New(rand.NewSource(*seed))
	smith := newSmith(rnd, to)
	c := newChecking()
	refused, empty := 0, 0
	for i := range *queries {
		text := randomQuery(smith)
		start := from.Add(time.Duration(rnd.Int63n(int64(randomSpan))))
		end := start.Add(time.Duration(rnd.Int63n(int64(randomSpan))))
		step := []time.Duration{30 * time.Second, time.Minute, 7 * time.Minute}[rnd.Intn(3)]
		start, end = start.Truncate(time.Millisecond), end.Truncate(time.Millisecond)
		if i%3 > 0 { // as dashboards do
			start, end = start.Truncate(step), end.Truncate(step)
		}
		n, err := c.once(p, text, start, end, step)
		require.NoError(t, err, "query %d of seed %d: %s", i, *seed, text)
		switch n {
		case -1:
			refused++
		case 0:
			empty++
		}
	}
	t.Logf("%d random queries agree, %d of them refused alike, %d without series", *queries, refused, empty)
	require.Less(t, refused+empty, *queries*3/4, "most queries must say something")
}

// once compares one range query. It returns the number of series, -1 when the
// query was refused by both.
func (c *checking) once(p *pair, text string, start, end time.Time, step time.Duration) (int, error) {
	ctx := context.Background()
	form := url.Values{"query": {text}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)}}
	qry, err := c.plain.NewRangeQuery(ctx, p, nil, text, start, end, step)
	if err != nil {
		return -1, c.compare(p, text, "/api/v1/query_range", form, nil, err)
	}
	defer qry.Close()
	res := qry.Exec(ctx)
	if res.Err != nil && parted(res.Err) {
		return -1, nil
	}
	if err := c.compare(p, text, "/api/v1/query_range", form, res, res.Err); err != nil {
		return 0, err
	}
	if m, ok := res.Value.(promql.Matrix); ok {
		return len(m), nil
	}
	return -1, nil
}

// parted reports whether an error may depend on how a range is divided: series
// that become alike are refused only when they meet in one part.
func parted(err error) bool {
	for _, s := range []string{"same labelset", "many-to-many", "duplicate", "multiple matches"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

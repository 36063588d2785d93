package query_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/query"
)

func TestHostileQueriesEndSoon(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	q := newQuery(t, query.Config{Timeout: 2 * time.Second, CacheBytes: 1 << 20}, query.Deps{Storage: db})
	deep := 8000
	for name, c := range map[string]struct {
		expr  string
		codes []int
	}{
		"parentheses":           {strings.Repeat("(", deep) + "up" + strings.Repeat(")", deep), []int{422}},
		"open parentheses":      {strings.Repeat("(", 60_000), []int{422}},
		"most parentheses":      {strings.Repeat("(", 32_000) + "up" + strings.Repeat(")", 32_000), []int{422}},
		"enough parentheses":    {strings.Repeat("(", 200) + "up" + strings.Repeat(")", 200), []int{200}},
		"beside each other":     {strings.Repeat("(up) + ", 400) + "up", []int{200, 400, 422}},
		"minus signs":           {strings.Repeat("-", 60_000) + "1", []int{200, 400, 422}},
		"functions":             {strings.Repeat("abs(", deep) + "up" + strings.Repeat(")", deep), []int{200, 422, 503}},
		"many operands":         {"1" + strings.Repeat("+1", 30_000), []int{200, 422, 503}},
		"braces":                {strings.Repeat("{", 60_000), []int{400}},
		"long regexp":           {`up{job=~"` + strings.Repeat("a", 5000) + `"}`, []int{422}},
		"regexp that explodes":  {`up{job=~"(((a{1,100}){1,100}){1,100}){1,100}"}`, []int{400, 422}},
		"regexp in a function":  {`label_replace(up, "x", "$1", "job", "(((a{1,100}){1,100}){1,100})")`, []int{400, 422, 200}},
		"all series":            {`{__name__=~".+"}`, []int{200}},
		"nested subqueries":     {strings.Repeat("max_over_time(", 6) + "up" + strings.Repeat("[1h:1ms])", 6), []int{422, 503}},
		"long range small step": {"max_over_time(vector(1)[100y:1ms])", []int{422, 503}},
		"a megabyte":            {"up" + strings.Repeat(" ", 900_000), []int{422}},
		"more than a megabyte":  {"up" + strings.Repeat(" ", 2<<20), []int{413}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/api/v1/query", "/api/v1/query_range", "/api/v1/parse_query", "/api/v1/format_query", "/v1/explain"} {
				form := url.Values{"query": {c.expr}}
				if path == "/api/v1/query_range" {
					form = url.Values{"query": {c.expr}, "start": {strconv.FormatInt(now.Unix()-3600, 10)}, "end": {strconv.FormatInt(now.Unix(), 10)}, "step": {"1"}}
				}
				method := http.MethodPost
				if path == "/v1/explain" {
					method = http.MethodGet
				}
				began := time.Now()
				w := do(q.Handler(), method, path, form)
				require.Less(t, time.Since(began), 20*time.Second, path) // the limit is 2 s; the machine may be busy
				for try := 0; try < 4 && w.Code == http.StatusServiceUnavailable && !slices.Contains(c.codes, w.Code); try++ {
					w = do(q.Handler(), method, path, form) // it stood still
				}
				if strings.HasPrefix(path, "/api/v1/query") {
					require.Contains(t, c.codes, w.Code, "%s: %.300s", path, w.Body)
				}
				require.NotEqual(t, 500, w.Code, "%s: %.300s", path, w.Body)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	db, now := openDB(t), time.Now().Truncate(time.Second)
	fill(t, db, now)
	q := newQuery(t, query.Config{CacheBytes: 1 << 20, MaxSeries: 3}, query.Deps{Storage: db, Versions: still(now)})
	explain := func(form url.Values) (e query.Explanation) {
		t.Helper()
		w := do(q.Handler(), http.MethodGet, "/v1/explain", form)
		require.Equal(t, 200, w.Code, w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		return e
	}
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	form := url.Values{"query": {`rate(up{instance="a"}[5m] offset 1m) + on() max_over_time(sum(up)[10m:1m])`}, "start": {at(-72 * time.Hour)}, "end": {at(0)}, "step": {"1h"}}
	e := explain(form)
	require.Equal(t, int64(73), e.Steps)
	require.Equal(t, "vector", e.Type)
	require.Empty(t, e.Whole)
	require.Positive(t, e.Parts)
	require.Zero(t, e.Cached)
	require.Len(t, e.Selectors, 2)
	require.Equal(t, `up{instance="a"} offset 1m`, e.Selectors[0].Selector)
	require.Equal(t, 1, e.Selectors[0].Series)
	require.WithinDuration(t, now.Add(-72*time.Hour-6*time.Minute), e.Selectors[0].From, time.Second)
	require.WithinDuration(t, now.Add(-time.Minute), e.Selectors[0].To, time.Second)
	require.Equal(t, 2, e.Selectors[1].Series)
	require.WithinDuration(t, now.Add(-72*time.Hour-15*time.Minute), e.Selectors[1].From, time.Second)
	require.Contains(t, string(e.Tree), "binaryExpr")
	require.Empty(t, e.Warnings)

	require.Equal(t, 200, do(q.Handler(), http.MethodGet, "/api/v1/query_range", form).Code)
	e = explain(form)
	require.Greater(t, e.Cached, 0.9)

	form.Set("query", "up @ end()")
	require.Contains(t, explain(form).Whole, "@")
	e = explain(url.Values{"query": {"no_such"}})
	require.Contains(t, e.Warnings[0], "no series")
	e = explain(url.Values{"query": {"up + up"}})
	require.Contains(t, e.Warnings[0], "4 series, 3 are allowed")

	for field, form := range map[string]url.Values{
		"query": {"query": {"up{"}}, "step": {"query": {"up"}, "start": {"0"}, "end": {"1"}, "step": {"x"}}, "end": {"query": {"up"}, "start": {"2"}, "end": {"1"}, "step": {"1"}}, "start": {"query": {"up"}, "start": {"yesterday"}},
	} {
		w := do(q.Handler(), http.MethodGet, "/v1/explain", form)
		require.Equal(t, 422, w.Code, w.Body)
		require.Contains(t, w.Body.String(), fmt.Sprintf(`"field":%q`, field))
	}
}

// still says that nothing ever changes.
type still time.Time

func (s still) Settled() int64                    { return time.Time(s).UnixMilli() }
func (still) Version(int64, int64) (uint64, bool) { return 1, true }

func TestSlowQueries(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	user, admin := "ann", false
	q := newQuery(t, query.Config{SlowQuery: time.Nanosecond, Server: "n1"}, query.Deps{Storage: db,
		User: func(context.Context) string { return user }, SeesAll: func(context.Context) bool { return admin },
		OtherSlow: func(context.Context) []query.Slow {
			return []query.Slow{{Query: "elsewhere", User: "bob", At: now.Add(time.Hour), Server: "n2"}}
		}})
	list := func() []query.Slow {
		t.Helper()
		w := do(q.Handler(), http.MethodGet, "/v1/slow-queries", nil)
		require.Equal(t, 200, w.Code)
		var out struct{ Items []query.Slow }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		require.NotNil(t, out.Items)
		return out.Items
	}
	require.Empty(t, list())
	do(q.Handler(), http.MethodGet, "/api/v1/query", url.Values{"query": {"up"}})
	user = "bob"
	do(q.Handler(), http.MethodPost, "/api/v1/query_range", url.Values{"query": {"rate(up[1m])"}, "start": {strconv.FormatInt(now.Unix()-60, 10)}, "end": {strconv.FormatInt(now.Unix(), 10)}, "step": {"30"}})
	got := list()
	require.Len(t, got, 2, "one's own, of all servers")
	require.Equal(t, "elsewhere", got[0].Query)
	require.Equal(t, "rate(up[1m])", got[1].Query)
	require.Equal(t, "n1", got[1].Server)
	require.Equal(t, 30.0, got[1].Step)
	require.Equal(t, 60.0, got[1].Range)
	require.Positive(t, got[1].Samples)
	require.Positive(t, got[1].Peak)
	require.Equal(t, int64(2), got[1].Series)
	require.Equal(t, 200, got[1].Code)
	admin = true
	require.Len(t, list(), 3)
	for range 300 {
		do(q.Handler(), http.MethodGet, "/api/v1/query", url.Values{"query": {`up{job="` + strings.Repeat("x", 4000) + `"}`}})
	}
	got = q.SlowQueries()
	require.Len(t, got, 200)
	require.Less(t, len(got[0].Query), 3000)
}

// Every query is in the log with what it cost: at the level debug, or, when it
// took long, at info.
func TestLogOfQueries(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	for limit, want := range map[time.Duration]string{time.Hour: "DEBUG query", time.Nanosecond: "INFO slow query"} {
		var out bytes.Buffer
		q := newQuery(t, query.Config{SlowQuery: limit}, query.Deps{Storage: db, User: func(context.Context) string { return "ann" },
			Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		do(q.Handler(), http.MethodGet, "/api/v1/query", url.Values{"query": {"sum(up)"}})
		var line struct {
			Level, Msg, Query, User string
			Code, Series            int
			Samples, Seconds        float64
		}
		require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
		require.Equal(t, want, line.Level+" "+line.Msg)
		require.Equal(t, "sum(up) ann 200 2", fmt.Sprint(line.Query, " ", line.User, " ", line.Code, " ", line.Series))
		require.Positive(t, line.Samples)
		require.Positive(t, line.Seconds)
		require.Len(t, q.SlowQueries(), map[bool]int{true: 1}[limit == time.Nanosecond])
	}
}

func FuzzDoor(f *testing.F) {
	db := openDB(f)
	fill(f, db, time.Now())
	h := newQuery(f, query.Config{Timeout: time.Second, CacheBytes: 1 << 16, MaxSamples: 10_000}, query.Deps{Storage: db, Versions: still(time.Now())}).Handler()
	for _, s := range []string{"query=up&start=0&end=100&step=10", "query=rate(up[5m])&start=2026-01-01T00:00:00Z&end=1e300&step=NaN", "query=up&start=-9e18&end=9e18&step=9e18", "query=up @ start()&start=1&end=2&step=0.0001&lookback_delta=-1&limit=-1&stats=all", "match[]={__name__=~\".*\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, path := range []string{"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/v1/explain", "/v1/slow-queries"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.URL.RawQuery = raw
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code == 500 {
				t.Fatalf("%s?%s: %s", path, raw, w.Body)
			}
		}
	})
}

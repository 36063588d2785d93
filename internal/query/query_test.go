package query_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/query"
)

// stats gives the database the one method that only a server has.
type stats struct{ *tsdb.DB }

func (s stats) Stats(name string, limit int) (*tsdb.Stats, error) {
	return s.Head().Stats(name, limit), nil
}
func (s stats) BlockMetas() ([]tsdb.BlockMeta, error)        { return s.DB.BlockMetas(), nil }
func (stats) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }

func openDB(t testing.TB) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 100
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// fill stores up{job="node",instance="a|b"} and a few others around now.
func fill(t testing.TB, db *tsdb.DB, now time.Time) {
	t.Helper()
	app := db.Appender(context.Background())
	for i := range 5 {
		ts := now.Add(time.Duration(i-4) * 15 * time.Second).UnixMilli()
		for j, inst := range []string{"a", "b"} {
			_, err := app.Append(0, labels.FromStrings("__name__", "up", "job", "node", "instance", inst), ts, float64(j))
			require.NoError(t, err)
		}
	}
	ts := now.UnixMilli()
	_, err := app.Append(0, labels.FromStrings("__name__", "gone"), ts, float64frombits(value.StaleNaN))
	require.NoError(t, err)
	_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "lat"), ts, &histogram.Histogram{
		Count: 2, Sum: 3, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{2}}, nil)
	require.NoError(t, err)
	_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "custom"), ts, &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 3, CustomValues: []float64{1, 2},
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}, nil)
	require.NoError(t, err)
	ref, err := app.Append(0, labels.FromStrings("__name__", "traced"), ts, 1)
	require.NoError(t, err)
	_, err = app.AppendExemplar(ref, labels.FromStrings("__name__", "traced"), exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "t1"), Value: 1, Ts: ts, HasTs: true})
	require.NoError(t, err)
	require.NoError(t, app.Commit())
}

func newQuery(t testing.TB, cfg query.Config, deps query.Deps) *query.Query {
	t.Helper()
	q, err := query.New(cfg, deps)
	require.NoError(t, err)
	return q
}

func do(h http.Handler, method, target string, form url.Values) *httptest.ResponseRecorder {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else if form != nil {
		target += "?" + form.Encode()
	}
	r := httptest.NewRequest(method, target, body)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEndpoints(t *testing.T) {
	db, now := openDB(t), time.Now().Truncate(time.Second)
	fill(t, db, now)
	q := newQuery(t, query.Config{}, query.Deps{
		Storage: db, Stats: stats{db}, Registerer: prometheus.NewRegistry(),
		ConfigText: func() string { return "ours: true\n" },
		Flags:      map[string]string{"a": "b"},
	})
	at := fmt.Sprint(now.Unix())
	f := func(path string, form url.Values, want string) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if method == http.MethodPost && form == nil {
				continue
			}
			w := do(q.Handler(), method, path, form)
			require.Equal(t, 200, w.Code, "%s %s: %s", method, path, w.Body)
			var got, expect any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), w.Body)
			require.NoError(t, json.Unmarshal([]byte(want), &expect), want)
			if diff := cmp.Diff(expect, got.(map[string]any)["data"]); diff != "" {
				t.Fatalf("%s %s (-want +got):\n%s", method, path, diff)
			}
			require.Equal(t, "success", got.(map[string]any)["status"])
		}
	}
	a, b := `{"__name__":"up","instance":"a","job":"node"}`, `{"__name__":"up","instance":"b","job":"node"}`
	f("/api/v1/query", url.Values{"query": {"up"}, "time": {at}},
		`{"resultType":"vector","result":[{"metric":`+a+`,"value":[`+at+`,"0"]},{"metric":`+b+`,"value":[`+at+`,"1"]}]}`)
	f("/api/v1/query", url.Values{"query": {"1+1"}, "time": {at}}, `{"resultType":"scalar","result":[`+at+`,"2"]}`)
	f("/api/v1/query_range", url.Values{"query": {`up{instance="b"}`}, "start": {fmt.Sprint(now.Unix() - 15)}, "end": {at}, "step": {"15"}},
		fmt.Sprintf(`{"resultType":"matrix","result":[{"metric":%s,"values":[[%d,"1"],[%s,"1"]]}]}`, b, now.Unix()-15, at))
	f("/api/v1/series", url.Values{"match[]": {"up"}}, `[`+a+`,`+b+`]`)
	f("/api/v1/labels", url.Values{"match[]": {"up"}}, `["__name__","instance","job"]`)
	f("/api/v1/label/instance/values", nil, `["a","b"]`)
	f("/api/v1/format_query", url.Values{"query": {"sum(up)by(job)"}}, `"sum by (job) (up)"`)
	f("/api/v1/query_exemplars", url.Values{"query": {"traced"}, "start": {fmt.Sprint(now.Unix() - 60)}, "end": {at}},
		`[{"seriesLabels":{"__name__":"traced"},"exemplars":[{"labels":{"trace_id":"t1"},"value":"1","timestamp":`+at+`}]}]`)
	f("/api/v1/metadata", nil, `{}`)
	f("/api/v1/rules", nil, `{"groups":[]}`)
	f("/api/v1/alerts", nil, `{"alerts":[]}`)
	f("/api/v1/alertmanagers", nil, `{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`)
	f("/api/v1/scrape_pools", nil, `{"scrapePools":[]}`)
	f("/api/v1/targets", nil, `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`)
	f("/api/v1/status/config", nil, `{"yaml":"ours: true\n"}`)
	f("/api/v1/status/flags", nil, `{"a":"b"}`)
	f("/api/v1/status/walreplay", nil, `{"min":0,"max":0,"current":0}`)
	f("/api/v1/status/tsdb/blocks", nil, `{"blocks":[]}`)
	f("/api/v1/notifications", nil, `[]`)
	for path, has := range map[string]string{
		"/api/v1/parse_query?query=up":     `"type":"vectorSelector"`,
		"/api/v1/status/tsdb":              `"numSeries":6`,
		"/api/v1/status/runtimeinfo":       `"GOMAXPROCS"`,
		"/api/v1/status/buildinfo":         `"goVersion":"go`,
		"/api/v1/features":                 `"promql"`,
		"/api/v1/query?query=up&stats=all": `"totalQueryableSamplesPerStep"`,
	} {
		w := do(q.Handler(), http.MethodGet, path, nil)
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		require.Contains(t, w.Body.String(), has, path)
	}
	for _, path := range []string{"/api/v1/write", "/api/v1/otlp/v1/metrics", "/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/delete_series"} {
		require.Equal(t, 404, do(q.Handler(), http.MethodPost, path, nil).Code, path)
	}
	require.Equal(t, 405, do(q.Handler(), http.MethodDelete, "/api/v1/series?match[]=up", nil).Code)
}

func float64frombits(b uint64) float64 { return math.Float64frombits(b) }

func TestLimits(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	q := newQuery(t, query.Config{MaxSeries: 1, MaxRegexp: 5, MaxQueryLength: 100}, query.Deps{Storage: db})
	f := func(method, path string, form url.Values, code int, says string) {
		t.Helper()
		w := do(q.Handler(), method, path, form)
		require.Equal(t, code, w.Code, "%s: %s", path, w.Body)
		require.Contains(t, w.Body.String(), says, path)
	}
	get := http.MethodGet
	f(get, "/api/v1/query", url.Values{"query": {`up{instance="a"}`}}, 200, "success")
	f(get, "/api/v1/query", url.Values{"query": {"up"}}, 422, "more than 1 series")
	f(get, "/api/v1/query", url.Values{"query": {`up{instance="a"} + on() up{instance="b"}`}}, 422, "more than 1 series")
	f(get, "/api/v1/series", url.Values{"match[]": {"up"}}, 422, "more than 1 series")
	f(get, "/federate", url.Values{"match[]": {"up"}}, 422, "more than 1 series")
	f(get, "/api/v1/query", url.Values{"query": {`up{job=~"aaaaaa"}`}}, 422, "regular expression")
	f(get, "/api/v1/labels", url.Values{"match[]": {`up{job=~"aaaaaa"}`}}, 422, "regular expression")
	f(get, "/api/v1/label/job/values", url.Values{"match[]": {`up{job=~"aaaaaa"}`}}, 422, "regular expression")
	f(get, "/api/v1/query_exemplars", url.Values{"query": {`up{job=~"aaaaaa"}`}}, 422, "regular expression")
	f(get, "/api/v1/query", url.Values{"query": {strings.Repeat("(", 101)}}, 422, "100 are allowed")
	f(http.MethodPost, "/api/v1/query", url.Values{"query": {strings.Repeat("(", 2<<20)}}, 413, "larger")
	f(get, "/api/v1/query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"12000"}, "step": {"1"}}, 400, "11,000")
	f(get, "/federate", nil, 400, "match[]")
	f(get, "/federate", url.Values{"match[]": {"up{"}}, 400, "match[]")

	_, err := q.Instant(context.Background(), "up", now)
	require.ErrorIs(t, err, model.ErrLimit)
	_, err = q.Range(context.Background(), "1", now.Add(-24*time.Hour), now, time.Second)
	require.ErrorIs(t, err, model.ErrLimit)

	few := newQuery(t, query.Config{MaxSamples: 3}, query.Deps{Storage: db})
	w := do(few.Handler(), get, "/api/v1/query", url.Values{"query": {"up[5m]"}})
	require.Equal(t, 422, w.Code)
	require.Contains(t, w.Body.String(), "too many samples")
}

func TestInstantAndRange(t *testing.T) {
	db, now := openDB(t), time.Now().Truncate(time.Second)
	fill(t, db, now)
	q := newQuery(t, query.Config{Dir: t.TempDir()}, query.Deps{Storage: db})
	got, err := q.Instant(context.Background(), `up{instance="b"}`, now)
	require.NoError(t, err)
	require.Equal(t, []model.Sample{{Labels: labels.FromStrings("__name__", "up", "instance", "b", "job", "node"), T: now.UnixMilli(), V: 1}}, got)
	got, err = q.Instant(context.Background(), "42", now)
	require.NoError(t, err)
	require.Equal(t, 42.0, got[0].V)
	series, err := q.Range(context.Background(), "sum(up)", now.Add(-time.Minute), now, 30*time.Second)
	require.NoError(t, err)
	require.Len(t, series, 1)
	require.Len(t, series[0].Points, 3)
	_, err = q.Instant(context.Background(), "up{", now)
	require.ErrorContains(t, err, "parse")
}

func TestFederate(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	q := newQuery(t, query.Config{ExternalLabels: labels.FromStrings("replica", "n1")}, query.Deps{Storage: db})
	fetch := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, `/federate?match[]={__name__=~".%2B"}&match[]=up`, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		q.Handler().ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body)
		return w
	}
	w := fetch("text/plain")
	p := expfmt.NewTextParser(pm.UTF8Validation)
	fams, err := p.TextToMetricFamilies(bytes.NewReader(w.Body.Bytes()))
	require.NoError(t, err, w.Body)
	require.Len(t, fams, 3, "stale and native series have no place: %s", w.Body)
	require.Len(t, fams["up"].Metric, 2, "selected twice, shown once")
	m := fams["up"].Metric[0]
	require.Equal(t, 0.0, m.Untyped.GetValue())
	require.Equal(t, now.UnixMilli(), m.GetTimestampMs(), "the sample's own time")
	got := map[string]string{}
	for _, l := range m.Label {
		got[l.GetName()] = l.GetValue()
	}
	require.Equal(t, map[string]string{"instance": "a", "job": "node", "replica": "n1"}, got)
	require.Equal(t, 3.0, float64(fams["custom"].Metric[0].Histogram.GetSampleCount()))

	w = fetch("application/openmetrics-text;version=1.0.0")
	require.Contains(t, w.Header().Get("Content-Type"), "openmetrics")
	require.True(t, strings.HasSuffix(w.Body.String(), "# EOF\n"), w.Body)

	w = fetch(string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	dec := expfmt.NewDecoder(w.Body, expfmt.NewFormat(expfmt.TypeProtoDelim))
	found := map[string]*dto.MetricFamily{}
	for {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		found[f.GetName()] = &f
	}
	require.Equal(t, 2.0, found["lat"].Metric[0].Histogram.GetSampleCountFloat())
}

func TestRemoteRead(t *testing.T) {
	db, now := openDB(t), time.Now()
	fill(t, db, now)
	body, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: now.Add(-time.Hour).UnixMilli(), EndTimestampMs: now.UnixMilli(),
		Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "up"}},
	}}}).Marshal()
	require.NoError(t, err)
	send := func(cfg query.Config, b []byte) *httptest.ResponseRecorder {
		q := newQuery(t, cfg, query.Deps{Storage: db})
		w := httptest.NewRecorder()
		q.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/read", bytes.NewReader(b)))
		return w
	}
	w := send(query.Config{}, snappy.Encode(nil, body))
	require.Equal(t, 200, w.Code, w.Body)
	raw, err := snappy.Decode(nil, w.Body.Bytes())
	require.NoError(t, err)
	var resp prompb.ReadResponse
	require.NoError(t, resp.Unmarshal(raw))
	require.Len(t, resp.Results[0].Timeseries, 2)
	require.Len(t, resp.Results[0].Timeseries[0].Samples, 5)

	require.Equal(t, 422, send(query.Config{MaxSeries: 1}, snappy.Encode(nil, body)).Code)
	require.Equal(t, 413, send(query.Config{}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}).Code, "claims 4 GiB")
	require.Equal(t, 413, send(query.Config{}, make([]byte, 2<<20)).Code)
	require.Equal(t, 400, send(query.Config{}, []byte("hello")).Code)
}

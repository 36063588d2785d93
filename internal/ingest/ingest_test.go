package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/ingest"
)

const writePath = "/api/v1/write"

func openDB(t testing.TB) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	if _, bench := t.(*testing.B); !bench {
		opts.StripeSize = 256 // a few series; it is opened often
	}
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
	opts.WALCompression = compression.Zstd
	opts.RetentionDuration = (1000 * time.Hour).Milliseconds()
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newHandler(t testing.TB, cfg ingest.Config, app storage.Appendable) (http.Handler, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	g, err := ingest.New(cfg, ingest.Deps{Appendable: app, Registerer: reg})
	require.NoError(t, err)
	return g.Handler(), reg
}

func post(h http.Handler, path, contentType string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func postV1(t testing.TB, h http.Handler, req *prompb.WriteRequest) *httptest.ResponseRecorder {
	t.Helper()
	b, err := req.Marshal()
	require.NoError(t, err)
	return post(h, writePath, "application/x-protobuf", snappy.Encode(nil, b))
}

// dump reads everything, one line per value with the exact bits of it.
func dump(t testing.TB, db *tsdb.DB) []string {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*"))
	var out []string
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			switch vt {
			case chunkenc.ValFloat:
				ts, v := it.At()
				out = append(out, fmt.Sprintf("%s %d %x", s.Labels(), ts, math.Float64bits(v)))
			case chunkenc.ValHistogram:
				ts, h := it.AtHistogram(nil)
				out = append(out, fmt.Sprintf("%s %d %s", s.Labels(), ts, h))
			case chunkenc.ValFloatHistogram:
				ts, h := it.AtFloatHistogram(nil)
				out = append(out, fmt.Sprintf("%s %d %s", s.Labels(), ts, h))
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	eq, err := db.ExemplarQuerier(context.Background())
	require.NoError(t, err)
	ex, err := eq.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*")})
	require.NoError(t, err)
	for _, e := range ex {
		out = append(out, fmt.Sprintf("exemplars %s %v", e.SeriesLabels, e.Exemplars))
	}
	return out
}

func series(name string, t int64, v float64, more ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}},
		Samples: []prompb.Sample{{Timestamp: t, Value: v}},
	}
	for i := 0; i+1 < len(more); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: more[i], Value: more[i+1]})
	}
	return ts
}

func request(ts ...prompb.TimeSeries) *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: ts}
}

func ms(d time.Duration) int64 { return time.Now().Add(d).UnixMilli() }

func TestV1StoresWhatPrometheusStores(t *testing.T) {
	h := prompb.FromIntHistogram(ms(0), &histogram.Histogram{
		Schema: 1, Count: 3, Sum: 5, ZeroThreshold: 0.001, PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{1, 1},
	})
	fh := prompb.FromFloatHistogram(ms(0), &histogram.FloatHistogram{
		Schema: 0, Count: 2, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []float64{2},
	})
	full := series("with_exemplar", ms(0), 1, "job", "a")
	full.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}}, Value: 2, Timestamp: ms(0)}}
	compare(t, []*prompb.WriteRequest{
		request(series("a", ms(-time.Minute), 1), series("b", ms(-time.Minute), 2, "z", "1", "a", "unsorted")),
		request(series("a", ms(0), math.NaN()), series("b", ms(0), math.Float64frombits(value.StaleNaN), "z", "1", "a", "unsorted")),
		request(series("a", ms(-30*time.Second), 3), series("empty_value", ms(0), 1, "gone", "")),
		request(full),
		request(prompb.TimeSeries{Labels: full.Labels[:1], Histograms: []prompb.Histogram{h}}),
		request(prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "float_hist"}}, Histograms: []prompb.Histogram{fh}}),
		request(series("", ms(0), 1, "no", "name"), series("good_beside_bad", ms(0), 1)),
		request(series("dup", ms(0), 1, "a", "1", "a", "2"), series("good_beside_dup", ms(0), 1)),
		request(series("late", ms(0), 1), series("a", ms(-2*time.Hour), 1)),
		request(series("future", ms(0), 1), series("a", ms(11*time.Minute), 1)),
		{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "a", Help: "helps", Type: prompb.MetricMetadata_COUNTER}}},
	})
}

// asVersion2 makes a version 2 request of it: Prometheus stores nothing of a
// version 1 request that has a bad sample, but the rest of a version 2 one.
func asVersion2(r *prompb.WriteRequest) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	out := &writev2.Request{}
	for _, ts := range r.Timeseries {
		if len(ts.Samples)+len(ts.Histograms) == 0 {
			continue
		}
		refs := func(list []prompb.Label) (out []uint32) {
			for _, l := range list {
				out = append(out, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
			}
			return out
		}
		x := writev2.TimeSeries{LabelsRefs: refs(ts.Labels)}
		for _, s := range ts.Samples {
			x.Samples = append(x.Samples, writev2.Sample{Timestamp: s.Timestamp, Value: s.Value})
		}
		for _, h := range ts.Histograms {
			if h.IsFloatHistogram() {
				x.Histograms = append(x.Histograms, writev2.FromFloatHistogram(h.Timestamp, h.ToFloatHistogram()))
			} else {
				x.Histograms = append(x.Histograms, writev2.FromIntHistogram(h.Timestamp, h.ToIntHistogram()))
			}
		}
		for _, e := range ts.Exemplars {
			x.Exemplars = append(x.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.Labels), Value: e.Value, Timestamp: e.Timestamp})
		}
		out.Timeseries = append(out.Timeseries, x)
	}
	out.Symbols = symbols.Symbols()
	return out
}

// compare sends the same to Prometheus' handler and to ours.
func compare(t testing.TB, reqs []*prompb.WriteRequest) {
	t.Helper()
	theirDB, ourDB := openDB(t), openDB(t)
	theirs := remote.NewWriteHandler(slog.New(slog.DiscardHandler), nil, theirDB, remoteapi.MessageTypes{remoteapi.WriteV2MessageType}, false, false, false)
	ours, _ := newHandler(t, ingest.Config{}, ourDB)
	for i, r := range reqs {
		want, got := postV2(t, theirs, asVersion2(r)), postV1(t, ours, r)
		if want.Code != 204 {
			require.Equal(t, 400, got.Code, "request %d: %s\n%s", i, want.Body, got.Body)
		}
	}
	if diff := cmp.Diff(dump(t, theirDB), dump(t, ourDB)); diff != "" {
		t.Fatalf("stored data differ (-theirs +ours):\n%s", diff)
	}
}

func TestV1StoresWhatPrometheusStoresRandom(t *testing.T) {
	now := time.Now().UnixMilli()
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "métrique", ""})
		label := rapid.Custom(func(rt *rapid.T) prompb.Label {
			return prompb.Label{Name: rapid.SampledFrom([]string{"x", "y", "job", "0"}).Draw(rt, "name"), Value: rapid.SampledFrom([]string{"", "1", "ü"}).Draw(rt, "value")}
		})
		var next int64
		ts := rapid.Custom(func(rt *rapid.T) prompb.TimeSeries {
			next++ // no two samples share an instant, so duplicates, which we take, do not occur
			s := prompb.TimeSeries{Labels: append([]prompb.Label{{Name: "__name__", Value: name.Draw(rt, "metric")}}, rapid.SliceOfN(label, 0, 3).Draw(rt, "labels")...)}
			for i := range rapid.IntRange(0, 3).Draw(rt, "samples") {
				off := rapid.Int64Range(-100*60, 13*60).Draw(rt, "offset")
				s.Samples = append(s.Samples, prompb.Sample{Timestamp: now + off*1000 + next*10 + int64(i), Value: rapid.Float64().Draw(rt, "v")})
			}
			return s
		})
		req := rapid.Custom(func(rt *rapid.T) *prompb.WriteRequest { return request(rapid.SliceOfN(ts, 0, 4).Draw(rt, "series")...) })
		compare(t, rapid.SliceOfN(req, 1, 4).Draw(rt, "requests"))
	})
}

func TestV1Refusals(t *testing.T) {
	db := openDB(t)
	h, reg := newHandler(t, ingest.Config{}, db)
	f := func(name string, ts prompb.TimeSeries, code int, says ...string) {
		t.Helper()
		w := postV1(t, h, request(series("beside_"+name, ms(0), 1), ts))
		require.Equal(t, code, w.Code, "%s: %s", name, w.Body)
		for _, s := range says {
			require.Contains(t, w.Body.String(), s, name)
		}
	}
	f("future", series("m", ms(11*time.Minute), 1, "job", "j"), 400, `{__name__="m", job="j"}`, "ahead")
	f("new", series("m2", ms(0), 1), 204)
	f("late", series("m2", ms(-5*time.Hour), 1), 400, `__name__="m2"`, "too old")
	f("value", series("m", ms(0), 1, "l", strings.Repeat("v", 2049)), 422, "2049")
	f("label_name", series("m", ms(0), 1, strings.Repeat("n", 201), "v"), 422, "201")
	f("big", series("m", ms(0), 1, "l", strings.Repeat("v", 5<<20)), 422)
	f("utf8", series("m", ms(0), 1, "l", "\xff"), 400, "UTF-8")
	f("utf8name", series("m", ms(0), 1, "\xff", "l"), 400, "UTF-8")
	f("noname", prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: ms(0)}}}, 400, "__name__")
	f("dup", series("m", ms(0), 1, "l", "1", "l", "2"), 400, "twice")
	many := series("m", ms(0), 1)
	for i := range 64 {
		many.Labels = append(many.Labels, prompb.Label{Name: fmt.Sprintf("l%02d", i), Value: "v"})
	}
	f("many", many, 422, "64")

	stored := strings.Join(dump(t, db), "\n")
	for _, name := range []string{"future", "late", "value", "utf8", "dup", "many"} {
		require.Contains(t, stored, "beside_"+name, "what is bad costs itself only")
	}
	require.Equal(t, 1.0, testutil.ToFloat64(collector(t, reg, "panoptes_ingest_refused_total", "future")))
}

// collector finds one child of a counter by the value of its only label.
func collector(t testing.TB, reg *prometheus.Registry, name, label string) prometheus.Collector {
	t.Helper()
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		for _, m := range f.Metric {
			if f.GetName() == name && m.Label[0].GetValue() == label {
				return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "found"}, m.Counter.GetValue)
			}
		}
	}
	t.Fatalf("no %s{%s}", name, label)
	return nil
}

func TestDuplicateIsSuccess(t *testing.T) {
	h, reg := newHandler(t, ingest.Config{}, openDB(t))
	now := ms(0)
	for _, v := range []float64{1, 1, 2} {
		require.Equal(t, 204, postV1(t, h, request(series("m", now, v))).Code)
	}
	require.Equal(t, 1.0, testutil.ToFloat64(collector(t, reg, "panoptes_ingest_duplicates_total", "remote_write_1")))
}

func TestBodies(t *testing.T) {
	h, _ := newHandler(t, ingest.Config{}, openDB(t))
	f := func(name, contentType string, body []byte, code int) {
		t.Helper()
		w := post(h, writePath, contentType, body)
		require.Equal(t, code, w.Code, "%s: %s", name, w.Body)
	}
	const pb = "application/x-protobuf"
	good, err := request(series("m", ms(0), 1, "job", "j")).Marshal()
	require.NoError(t, err)
	f("v1", pb, snappy.Encode(nil, good), 204)
	f("v1 named", pb+"; proto=prometheus.WriteRequest", snappy.Encode(nil, good), 204)
	f("no type", "", snappy.Encode(nil, good), 204)
	f("json", "application/json", snappy.Encode(nil, good), 415)
	f("other message", pb+";proto=my.Message", snappy.Encode(nil, good), 415)
	f("empty", pb, nil, 400)
	f("not snappy", pb, []byte("hello world"), 400)
	f("claims 4 GiB", pb, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 413)
	f("claims 31 MiB in 6 bytes", pb, []byte{0x80, 0x80, 0xc0, 0x0f, 0, 0}, 413)
	f("bomb", pb, snappy.Encode(nil, make([]byte, 33<<20)), 413)
	f("compressed too large", pb, make([]byte, 8<<20+1), 413)
	for cut := 1; cut < len(good); cut++ {
		f(fmt.Sprintf("cut at %d", cut), pb, snappy.Encode(nil, good[:cut]), 400)
	}
	r := httptest.NewRequest(http.MethodPost, writePath, io.MultiReader(bytes.NewReader(make([]byte, 9<<20)))) // no Content-Length
	r.ContentLength = -1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 413, w.Code, "chunked and too large")
	r = httptest.NewRequest(http.MethodPost, writePath, bytes.NewReader(snappy.Encode(nil, good)))
	r.Header.Set("Content-Encoding", "zstd")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 415, w.Code)
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, writePath, nil))
	require.Equal(t, 405, w.Code)
}

func TestScatteredLabels(t *testing.T) {
	// labels, a sample, and then another label: legal protobuf that no usual encoder writes
	field := func(tag byte, b []byte) []byte { return append([]byte{tag, byte(len(b))}, b...) }
	label := func(n, v string) []byte {
		return field(1<<3|2, append(field(1<<3|2, []byte(n)), field(2<<3|2, []byte(v))...))
	}
	s, err := (&prompb.Sample{Timestamp: ms(0), Value: 7}).Marshal()
	require.NoError(t, err)
	ts := append(append(label("__name__", "m"), field(2<<3|2, s)...), label("job", "late")...)
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	for i := range 2 { // that the series of the leading labels is known must make no difference
		require.Equal(t, 204, post(h, writePath, "", snappy.Encode(nil, field(1<<3|2, ts))).Code)
		require.Contains(t, strings.Join(dump(t, db), "\n"), `{__name__="m", job="late"}`)
		require.Len(t, dump(t, db), 1+i, "no sample in another series")
		require.Equal(t, 204, postV1(t, h, request(series("m", ms(-time.Minute), 1))).Code)
	}

	// They count as others do.
	h, _ = newHandler(t, ingest.Config{MaxSeriesPerSource: 1}, openDB(t))
	other := append(append(label("__name__", "m"), field(2<<3|2, s)...), label("job", "other")...)
	for range 2 {
		require.Equal(t, 204, post(h, writePath, "", snappy.Encode(nil, field(1<<3|2, ts))).Code)
		require.Equal(t, 422, post(h, writePath, "", snappy.Encode(nil, field(1<<3|2, other))).Code)
	}
}

func TestSeriesLimitOfASource(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{MaxSeriesPerSource: 2}, db)
	w := postV1(t, h, request(series("a", ms(0), 1), series("b", ms(0), 1), series("c", ms(0), 1)))
	require.Equal(t, 422, w.Code)
	require.Contains(t, w.Body.String(), "active series")
	require.Len(t, dump(t, db), 2, "the rest is stored")
	require.Equal(t, 204, postV1(t, h, request(series("a", ms(time.Second), 1), series("b", ms(time.Second), 1))).Code)
}

func TestKnownSeriesAreForgotten(t *testing.T) {
	db := openDB(t)
	h, reg := newHandler(t, ingest.Config{MaxKnownSeries: 640, MaxSeriesPerSource: 640}, db)
	for i := range 5000 {
		require.Equal(t, 204, postV1(t, h, request(series(fmt.Sprintf("m%d", i), ms(0), 1))).Code)
	}
	require.Len(t, dump(t, db), 5000)
	n, err := testutil.GatherAndCount(reg, "panoptes_ingest_known_series")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		if f.GetName() == "panoptes_ingest_known_series" {
			require.LessOrEqual(t, f.Metric[0].Gauge.GetValue(), 640.0)
		}
	}
}

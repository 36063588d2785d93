package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"panoptes/internal/ingest"
	"panoptes/internal/model"
)

// failing fails at Commit.
type failing struct {
	storage.Appendable
	err error
}

type failingAppender struct {
	storage.Appender
	err error
}

func (f failing) Appender(ctx context.Context) storage.Appender {
	return failingAppender{f.Appendable.Appender(ctx), f.err}
}

func (f failingAppender) Commit() error { return errors.Join(f.err, f.Appender.Rollback()) }

func TestStorageErrors(t *testing.T) {
	db := openDB(t)
	f := func(err error, code int, retry string) {
		t.Helper()
		h, _ := newHandler(t, ingest.Config{}, failing{db, err})
		for name, w := range map[string]*httptest.ResponseRecorder{
			"v1":   postV1(t, h, request(series("m", ms(0), 1))),
			"v2":   postV2(t, h, v2Request("m", ms(0))),
			"otlp": post(h, "/api/v1/otlp/v1/metrics", "application/x-protobuf", otlpBody(t, time.Now())),
		} {
			require.Equal(t, code, w.Code, "%s: %s", name, w.Body)
			require.Equal(t, retry, w.Header().Get("Retry-After"), name)
		}
	}
	f(fmt.Errorf("append: %w", model.ErrNoSpace), 507, "5")
	f(fmt.Errorf("opening: %w", model.ErrUnavailable), 503, "5")
	f(errors.New("boom"), 500, "")
}

func v2Request(name string, t int64) *writev2.Request {
	return &writev2.Request{
		Symbols:    []string{"", "__name__", name, "job", "j"},
		Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Timestamp: t, Value: 1}}}},
	}
}

const v2Type = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

func postV2(t testing.TB, h http.Handler, req *writev2.Request) *httptest.ResponseRecorder {
	t.Helper()
	b, err := req.Marshal()
	require.NoError(t, err)
	return post(h, writePath, v2Type, snappy.Encode(nil, b))
}

func TestV2(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	now := ms(0)
	w := postV2(t, h, v2Request("m", now))
	require.Equal(t, 204, w.Code, w.Body)
	require.Equal(t, "1", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
	require.Equal(t, 204, postV2(t, h, v2Request("m", now)).Code, "the same once more")

	req := v2Request("good", now)
	req.Symbols = append(req.Symbols, "long", strings.Repeat("v", 3000))
	req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 5, 6}, Samples: []writev2.Sample{{Timestamp: now, Value: 1}}})
	w = postV2(t, h, req)
	require.Equal(t, 422, w.Code, w.Body)
	require.Equal(t, "1", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"), "the good one is stored")
	require.Contains(t, strings.Join(dump(t, db), "\n"), `__name__="good"`)

	req = v2Request("m", ms(time.Hour))
	require.Equal(t, 400, postV2(t, h, req).Code)
	req.Timeseries[0].LabelsRefs = []uint32{1, 99}
	require.Equal(t, 400, postV2(t, h, req).Code, "a reference to nothing")

	req = v2Request("m", now)
	req.Symbols = append(req.Symbols, strings.Repeat("v", 2<<20))
	for range 100 {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 5}, Samples: []writev2.Sample{{Timestamp: now}}})
	}
	b, err := req.Marshal()
	require.NoError(t, err)
	h, _ = newHandler(t, ingest.Config{MaxRatio: 10000}, db)
	require.Equal(t, 413, post(h, writePath, v2Type, snappy.Encode(nil, b)).Code, "few bytes that unfold to many")
}

func otlpBody(t testing.TB, at time.Time) []byte {
	t.Helper()
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("temperature")
	dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
	dp.SetTimestamp(pcommon.NewTimestampFromTime(at))
	dp.SetDoubleValue(21)
	b, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	return b
}

func TestOTLP(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	const path = "/api/v1/otlp/v1/metrics"
	f := func(name, contentType, encoding string, body []byte, code int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, code, w.Code, "%s: %s", name, w.Body)
	}
	zip := func(b []byte) []byte {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, err := z.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return buf.Bytes()
	}
	body := otlpBody(t, time.Now())
	f("plain", "application/x-protobuf", "", body, 200)
	f("parameters", "application/x-protobuf; charset=utf-8", "gzip", zip(otlpBody(t, time.Now())), 200)
	f("again", "application/x-protobuf", "", body, 200)
	f("bomb", "application/x-protobuf", "gzip", zip(make([]byte, 40<<20)), 413)
	f("not gzip", "application/x-protobuf", "gzip", body, 400)
	f("text", "text/plain", "", body, 415)
	f("zstd", "application/x-protobuf", "zstd", body, 415)
	f("json", "application/json; charset=utf-8", "", []byte(`{"resourceMetrics":[]}`), 200)
	f("garbage", "application/x-protobuf", "", []byte{0xff, 0xff}, 400)
	f("large", "application/x-protobuf", "", make([]byte, 8<<20+1), 413)
	f("future", "application/x-protobuf", "", otlpBody(t, time.Now().Add(time.Hour)), 400)
	require.Contains(t, strings.Join(dump(t, db), "\n"), `temperature`)
}

func TestInFlightBudget(t *testing.T) {
	h, _ := newHandler(t, ingest.Config{MaxInFlight: 1000}, openDB(t))
	r := httptest.NewRequest(http.MethodPost, writePath, bytes.NewReader(make([]byte, 2000)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 503, w.Code)
	require.Equal(t, "5", w.Header().Get("Retry-After"))
	for range 20 { // everything is given back
		require.Equal(t, 204, postV1(t, h, request(series("m", ms(0), 1))).Code)
	}
}

func TestConcurrentWriters(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{MaxKnownSeries: 256}, db)
	base := ms(-time.Minute)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				var ts []prompb.TimeSeries
				for s := range 20 {
					ts = append(ts, series(fmt.Sprintf("m%d", s), base+int64(i), float64(i), "writer", fmt.Sprint(w), "pair", fmt.Sprint(i%7)))
				}
				if rec := postV1(t, h, request(ts...)); rec.Code != 204 {
					t.Errorf("writer %d: %d %s", w, rec.Code, rec.Body)
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, dump(t, db), 4*50*20)
}

// picky takes no series of the name "wide".
type picky struct{ storage.Appendable }

type pickyAppender struct{ storage.Appender }

func (p picky) Appender(ctx context.Context) storage.Appender {
	return pickyAppender{p.Appendable.Appender(ctx)}
}

func (p pickyAppender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if l.Get("__name__") == "wide" {
		return 0, fmt.Errorf("the series has too many labels: %w", model.ErrLimit)
	}
	return p.Appender.Append(ref, l, t, v)
}

// A series that the storage does not take for its labels costs nobody else's
// samples, and is not asked for again and again.
func TestSeriesThatTheStorageDoesNotTake(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, picky{db})
	for range 2 {
		w := postV1(t, h, request(series("good", ms(0), 1), series("wide", ms(0), 1), series("fine", ms(0), 1)))
		require.Equal(t, 422, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "wide")
	}
	text := strings.Join(dump(t, db), "\n")
	require.Contains(t, text, "good")
	require.Contains(t, text, "fine")

	md := pmetric.NewMetrics()
	ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for _, name := range []string{"left", "wide", "right"} {
		m := ms.AppendEmpty()
		m.SetName(name)
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
		dp.SetDoubleValue(1)
	}
	body, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	w := post(h, otlpPath, "application/x-protobuf", body)
	require.Equal(t, 422, w.Code, w.Body)
	text = strings.Join(dump(t, db), "\n")
	require.Contains(t, text, "left")
	require.Contains(t, text, "right")
}

// A bad sample does not turn an outage of the storage into an answer after which
// the sender drops everything.
func TestABadSampleDuringAnOutage(t *testing.T) {
	md := pmetric.NewMetrics()
	ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for name, at := range map[string]time.Time{"good": time.Now(), "ahead": time.Now().Add(time.Hour)} {
		m := ms.AppendEmpty()
		m.SetName(name)
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(pcommon.NewTimestampFromTime(at))
		dp.SetDoubleValue(1)
	}
	body, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	h, _ := newHandler(t, ingest.Config{}, failing{openDB(t), model.ErrUnavailable})
	w := post(h, otlpPath, "application/x-protobuf", body)
	require.Equal(t, 503, w.Code, w.Body)
	require.Equal(t, "5", w.Header().Get("Retry-After"))
}

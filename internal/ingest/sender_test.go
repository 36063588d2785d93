package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/ingest"
)

func newIngest(t testing.TB, cfg ingest.Config, deps ingest.Deps) (*ingest.Ingest, http.Handler) {
	t.Helper()
	if deps.Appendable == nil {
		deps.Appendable = openDB(t)
	}
	g, err := ingest.New(cfg, deps)
	require.NoError(t, err)
	return g, g.Handler()
}

// of is a series of one replica of a pair.
func of(replica string, t int64, v float64) prompb.TimeSeries {
	return series("m", t, v, "__replica__", replica, "cluster", "eu")
}

func TestOneReplicaOfAPairIsStored(t *testing.T) {
	db := openDB(t)
	h, reg := newHandler(t, ingest.Config{}, db)
	now := ms(-time.Minute)
	for i := range int64(5) {
		require.Equal(t, 204, postV1(t, h, request(of("a", now+i*1000, 1))).Code)
		require.Equal(t, 204, postV1(t, h, request(of("b", now+i*1000+7, 2))).Code)
	}
	stored := dump(t, db)
	require.Len(t, stored, 5)
	for _, s := range stored {
		require.Contains(t, s, `{__name__="m", cluster="eu"}`, "without the replica's label")
		require.Contains(t, s, " 3ff0000000000000", "the value of the first")
	}
	require.Equal(t, 5.0, testutil.ToFloat64(collector(t, reg, "panoptes_ingest_doubles_total", "remote_write_1")))

	// half a pair of labels makes no pair
	require.Equal(t, 204, postV1(t, h, request(series("n", now, 1, "__replica__", "a"))).Code)
	require.Equal(t, 204, postV1(t, h, request(series("n", now, 1, "__replica__", "b"))).Code)
	require.Equal(t, 204, postV1(t, h, request(series("o", now, 1, "cluster", "eu"))).Code)
	require.Len(t, dump(t, db), 8)
}

func TestReplicasInRemoteWrite2(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	now := ms(-time.Minute)
	send := func(replica string, t0 int64) {
		t.Helper()
		w := postV2(t, h, &writev2.Request{
			Symbols: []string{"", "__name__", "m", "__replica__", replica, "cluster", "eu", "trace", "x"},
			Timeseries: []writev2.TimeSeries{{
				LabelsRefs: []uint32{1, 2, 3, 4, 5, 6},
				Samples:    []writev2.Sample{{Timestamp: t0, Value: 1}, {Timestamp: t0 + 1, Value: 1}},
				Exemplars:  []writev2.Exemplar{{LabelsRefs: []uint32{7, 8}, Timestamp: t0 + 1, Value: 1}},
			}},
		})
		require.Equal(t, 204, w.Code, w.Body)
	}
	send("a", now)
	send("b", now+100)
	send("a", now+200)
	send("b", now+300)
	stored := dump(t, db)
	require.Len(t, stored, 5, "four samples, one line of exemplars")
	require.NotContains(t, strings.Join(stored, "\n"), "replica")
	require.Contains(t, strings.Join(stored, "\n"), `exemplars {__name__="m", cluster="eu"}`)
}

func TestReplicaTakesOver(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		// two servers; what one says the other hears at once
		var servers [2]*ingest.Ingest
		var handlers [2]http.Handler
		deaf := false
		for i := range servers {
			servers[i], handlers[i] = newIngest(t, ingest.Config{}, ingest.Deps{Appendable: db, Broadcast: func(b []byte) {
				if !deaf {
					require.NoError(t, servers[1-i].Merge(b))
				}
			}})
		}
		send := func(server int, replica string) bool {
			t.Helper()
			before := len(dump(t, db))
			w := postV1(t, handlers[server], request(of(replica, time.Now().UnixMilli(), 1)))
			require.Equal(t, 204, w.Code, w.Body)
			<-time.After(time.Millisecond)
			return len(dump(t, db)) > before
		}
		require.True(t, send(0, "a"))
		require.False(t, send(1, "b"), "both servers elect the same one")
		for range 10 { // a sends to one server only; the other knows that it lives
			<-time.After(10 * time.Second)
			require.True(t, send(0, "a"))
			require.False(t, send(1, "b"))
		}
		<-time.After(29 * time.Second)
		require.False(t, send(1, "b"))
		<-time.After(2 * time.Second)
		require.True(t, send(1, "b"), "a was silent for 30 s")
		require.False(t, send(0, "a"), "it has lost its turn")

		// cut in two, each side elects whom it hears; afterwards they agree
		deaf = true
		<-time.After(time.Minute)
		require.True(t, send(0, "a"))
		require.True(t, send(1, "b"))
		deaf = false
		for i, g := range servers {
			s, err := g.State()
			require.NoError(t, err)
			require.NoError(t, servers[1-i].Merge(s))
		}
		require.NotEqual(t, send(0, "a"), send(0, "b"))
		require.Equal(t, send(0, "a"), send(1, "a"))
		require.Equal(t, send(0, "b"), send(1, "b"))
	})
}

func TestPairCountsOnce(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{MaxSeriesPerSource: 3}, db)
	now := ms(-time.Minute)
	for i := range 3 {
		for _, r := range []string{"a", "b"} {
			w := postV1(t, h, request(series(fmt.Sprintf("m%d", i), now, 1, "__replica__", r, "cluster", "c")))
			require.Equal(t, 204, w.Code, w.Body)
		}
	}
	require.Equal(t, 422, postV1(t, h, request(series("more", now, 1, "__replica__", "a", "cluster", "c"))).Code)
}

func TestMergeOfGarbage(t *testing.T) {
	g, _ := newIngest(t, ingest.Config{}, ingest.Deps{})
	require.Error(t, g.Merge(nil))
	require.Error(t, g.Merge([]byte("garbage")))
	s, err := g.State()
	require.NoError(t, err)
	require.NoError(t, g.Merge(s))
}

func TestNewSeriesAMinute(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		cfg := ingest.Config{MaxNewPerMinute: 60, MaxSeriesPerSource: 200, MaxKnownSeries: 128} // most are forgotten at once
		_, h := newIngest(t, cfg, ingest.Deps{Appendable: db})
		send := func(h http.Handler, from, to int) *httptest.ResponseRecorder {
			var all []prompb.TimeSeries
			for i := from; i < to; i++ {
				all = append(all, series(fmt.Sprintf("m%d", i), time.Now().UnixMilli(), 1))
			}
			<-time.After(time.Millisecond)
			return postV1(t, h, request(all...))
		}
		require.Equal(t, 204, send(h, 0, 200).Code, "at first as many as a source may have")
		w := send(h, 200, 230)
		require.Equal(t, 429, w.Code, w.Body)
		require.Equal(t, "5", w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), "new series a minute")
		<-time.After(30 * time.Second)
		require.Equal(t, 204, send(h, 200, 230).Code, "30 of them")
		require.Equal(t, 429, send(h, 230, 240).Code)
		require.Equal(t, 204, send(h, 0, 200).Code, "what the storage knows is not new, forgotten or not")
		_, h = newIngest(t, cfg, ingest.Deps{Appendable: db})
		for range 3 {
			require.Equal(t, 204, send(h, 0, 230).Code, "nor after a restart")
		}
		require.Equal(t, 204, send(h, 1000, 1200).Code)
		b, err := v2Request("another", time.Now().UnixMilli()).Marshal()
		require.NoError(t, err)
		w = post(h, writePath, v2Type, snappy.Encode(nil, b))
		require.Equal(t, 429, w.Code, w.Body)
		require.Equal(t, "5", w.Header().Get("Retry-After"))
	})
}

func TestSampleRate(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		_, h := newIngest(t, ingest.Config{MaxSampleRate: 10}, ingest.Deps{Appendable: db})
		send := func() *httptest.ResponseRecorder {
			var all []prompb.TimeSeries
			for i := range 50 {
				all = append(all, series(fmt.Sprintf("m%d", i), time.Now().UnixMilli(), 1))
			}
			<-time.After(time.Millisecond)
			return postV1(t, h, request(all...))
		}
		for range 3 {
			require.Equal(t, 204, send().Code)
		}
		w := send()
		require.Equal(t, 429, w.Code)
		require.Equal(t, "5", w.Header().Get("Retry-After"))
		<-time.After(5 * time.Second)
		require.Equal(t, 204, send().Code)
		require.Equal(t, 429, send().Code)
	})
}

// blocked holds every commit until it is closed.
type blocked struct {
	storage.Appendable
	until chan struct{}
}

type blockedAppender struct {
	storage.Appender
	until chan struct{}
}

func (b blocked) Appender(ctx context.Context) storage.Appender {
	return blockedAppender{b.Appendable.Appender(ctx), b.until}
}

func (b blockedAppender) Commit() error {
	<-b.until
	return b.Appender.Commit()
}

type sourceKey struct{}

func TestBudgetIsFair(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		_, h := newIngest(t, ingest.Config{MaxInFlight: 100_000}, ingest.Deps{
			Appendable: blocked{db, until},
			Source:     func(ctx context.Context) string { s, _ := ctx.Value(sourceKey{}).(string); return s },
		})
		b, err := request(series("m", ms(0), 1, "l", strings.Repeat("x", 2000))).Marshal()
		require.NoError(t, err)
		body := snappy.Encode(nil, b)
		codes := map[string]chan int{"greedy": make(chan int, 100), "modest": make(chan int, 100)}
		send := func(source string) {
			go func() {
				r := httptest.NewRequest(http.MethodPost, writePath, strings.NewReader(string(body)))
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sourceKey{}, source)))
				codes[source] <- w.Code
			}()
			synctest.Wait()
		}
		for range 60 {
			send("greedy")
		}
		refused := len(codes["greedy"])
		require.Greater(t, refused, 10, "who sends alone does not get all of it")
		for range 10 {
			send("modest")
		}
		require.Empty(t, codes["modest"], "there is room for another one")
		close(until)
		synctest.Wait()
		for range refused {
			require.Equal(t, 503, <-codes["greedy"])
		}
		for range 10 {
			require.Equal(t, 204, <-codes["modest"])
		}
	})
}

func TestMetadata(t *testing.T) {
	g, h := newIngest(t, ingest.Config{}, ingest.Deps{})
	req := request()
	req.Metadata = []prompb.MetricMetadata{
		{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "requests_total", Help: "Requests.", Unit: "requests"},
		{Type: prompb.MetricMetadata_UNKNOWN, MetricFamilyName: "nothing"},
	}
	require.Equal(t, 204, postV1(t, h, req).Code)
	w := postV2(t, h, &writev2.Request{
		Symbols: []string{"", "__name__", "seconds_bucket", "le", "1.0", "How long.", "seconds"},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Timestamp: ms(0), Value: 1}},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: 5, UnitRef: 6},
		}},
	})
	require.Equal(t, 204, w.Code, w.Body)
	require.Equal(t, 200, post(h, "/api/v1/otlp/v1/metrics", "application/x-protobuf", otlpBody(t, time.Now())).Code)

	other, _ := newIngest(t, ingest.Config{}, ingest.Deps{})
	s, err := g.State()
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, other.Merge(s))
	}
	for _, x := range []*ingest.Ingest{g, other} {
		all := x.Metadata("")
		c := all["requests_total"]
		require.Equal(t, []string{"counter", "Requests.", "requests"}, []string{c.Type, c.Help, c.Unit})
		c = all["seconds"]
		require.Equal(t, []string{"histogram", "How long.", "seconds"}, []string{c.Type, c.Help, c.Unit})
		require.Equal(t, "gauge", all["temperature"].Type)
		require.NotContains(t, all, "nothing")
		require.Len(t, x.Metadata("seconds"), 1)
		require.Empty(t, x.Metadata("missing"))
	}
}

func TestStartTimestamps(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	now := ms(0)
	send := func(name string, start, at int64) {
		t.Helper()
		req := v2Request(name, at)
		req.Timeseries[0].Samples[0].StartTimestamp = start
		w := postV2(t, h, req)
		require.Equal(t, 204, w.Code, w.Body)
		require.Equal(t, "1", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
	}
	send("c", now-30_000, now-20_000)
	send("c", now-30_000, now-10_000)
	send("c", now-5_000, now) // it began anew
	send("ancient", now-10*3600_000, now)
	send("wrong", now+60_000, now)
	stored := dump(t, db)
	require.Len(t, stored, 7, strings.Join(stored, "\n"))
	for _, at := range []int64{now - 30_000, now - 5_000} {
		require.Contains(t, stored, fmt.Sprintf(`{__name__="c", job="j"} %d 0`, at))
	}
}

func TestBoundSources(t *testing.T) {
	db := openDB(t)
	type key struct{}
	_, h := newIngest(t, ingest.Config{}, ingest.Deps{Appendable: db, Bound: func(ctx context.Context) labels.Labels {
		if s, ok := ctx.Value(key{}).(string); ok {
			return labels.FromStrings("tenant", s)
		}
		return labels.EmptyLabels()
	}})
	bytesOf := func(ts prompb.TimeSeries) string {
		b, err := request(ts).Marshal()
		require.NoError(t, err)
		return string(snappy.Encode(nil, b))
	}
	send := func(tenant, path, contentType, body string) int {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		if tenant != "" {
			r = r.WithContext(context.WithValue(r.Context(), key{}, tenant))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const pb = "application/x-protobuf"
	now := ms(-time.Minute)
	for i := range int64(3) { // the same bytes mean another series for each
		for j, tenant := range []string{"", "t1", "t2"} {
			require.Equal(t, 204, send(tenant, writePath, pb, bytesOf(series("m", now+10*i+int64(j), float64(j)))))
		}
	}
	stored := dump(t, db)
	require.Len(t, stored, 9)
	for j, ls := range []string{`{__name__="m"}`, `{__name__="m", tenant="t1"}`, `{__name__="m", tenant="t2"}`} {
		for i := range int64(3) {
			require.Contains(t, stored, fmt.Sprintf("%s %d %x", ls, now+10*i+int64(j), []uint64{0, 0x3ff0000000000000, 0x4000000000000000}[j]))
		}
	}
	require.Equal(t, 204, send("t1", writePath, pb, bytesOf(series("m", now+99, 1, "tenant", "t1"))))
	require.Equal(t, 400, send("t1", writePath, pb, bytesOf(series("m", now+100, 1, "tenant", "t2"))))
	b, err := v2Request("v2", now).Marshal()
	require.NoError(t, err)
	require.Equal(t, 204, send("t1", writePath, v2Type, string(snappy.Encode(nil, b))))
	require.Equal(t, 200, send("t1", "/api/v1/otlp/v1/metrics", pb, string(otlpBody(t, time.Now()))))
	all := strings.Join(dump(t, db), "\n")
	require.Contains(t, all, `__name__="v2", job="j", tenant="t1"`)
	require.NotContains(t, all, `{__name__="v2", job="j"}`)
	require.Regexp(t, `__name__="temperature[^}]*tenant="t1"`, all)
}

package ingest_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/ingest"
)

const writtenHeader = "X-Prometheus-Remote-Write-"

// What a version 2 request stores, and what its answer says, is what
// Prometheus' own handler does.
func TestV2StoresWhatPrometheusStoresRandom(t *testing.T) {
	now := ms(0)
	symbols := []string{"", "__name__", "a", "b", "job", "x", "1", "ü", "\xff", "A help text.", "seconds"}
	rapid.Check(t, func(rt *rapid.T) {
		ref := rapid.SampledFrom([]uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 99})
		var next int64
		instant := func(rt *rapid.T, from int64) int64 {
			next++ // no two samples share an instant, so duplicates, which we take, do not occur
			return now + rapid.Int64Range(from, 13*60).Draw(rt, "offset")*1000 + next*10
		}
		series := rapid.Custom(func(rt *rapid.T) writev2.TimeSeries {
			ts := writev2.TimeSeries{LabelsRefs: []uint32{1, rapid.SampledFrom([]uint32{2, 3}).Draw(rt, "metric")}}
			ts.LabelsRefs = append(ts.LabelsRefs, rapid.SliceOfN(ref, 0, 4).Draw(rt, "refs")...)
			for range rapid.IntRange(0, 3).Draw(rt, "samples") {
				ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: instant(rt, -100*60), Value: rapid.Float64().Draw(rt, "v")})
			}
			// They answer 500 to a histogram that is too old, and store nothing.
			if rapid.Bool().Draw(rt, "histogram") {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(instant(rt, -40*60), &histogram.Histogram{
					Schema: 1, Count: 2, Sum: 5, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{rapid.SampledFrom([]int64{2, 3}).Draw(rt, "count")},
				}))
			}
			ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 9, UnitRef: 10}
			return ts
		})
		theirDB, ourDB := openDB(t), openDB(t)
		theirs := remote.NewWriteHandler(slog.New(slog.DiscardHandler), nil, theirDB, remoteapi.MessageTypes{remoteapi.WriteV2MessageType}, false, false, false)
		ours, _ := newHandler(t, ingest.Config{}, ourDB)
		for range rapid.IntRange(1, 4).Draw(rt, "requests") {
			req := &writev2.Request{Symbols: symbols, Timeseries: rapid.SliceOfN(series, 0, 4).Draw(rt, "series")}
			want, got := postV2(t, theirs, req), postV2(t, ours, req)
			require.Equal(t, want.Code, got.Code, "%s\n%s", want.Body, got.Body)
			for _, what := range []string{"Samples", "Histograms", "Exemplars"} {
				h := writtenHeader + what + "-Written"
				require.Equal(t, want.Header().Get(h), got.Header().Get(h), "%s: %s", h, got.Body)
			}
		}
		if diff := cmp.Diff(dump(t, theirDB), dump(t, ourDB)); diff != "" {
			t.Fatalf("stored data differ (-theirs +ours):\n%s", diff)
		}
	})
}

func TestV2FromVersion1AndBack(t *testing.T) {
	db := openDB(t)
	h, reg := newHandler(t, ingest.Config{}, db)
	require.Equal(t, 204, postV1(t, h, request(series("m", ms(-2*time.Second), 1, "job", "j"))).Code)
	require.Equal(t, 204, postV2(t, h, v2Request("m", ms(-time.Second))).Code)
	require.Equal(t, 204, postV1(t, h, request(series("m", ms(0), 1, "job", "j"))).Code)
	require.Len(t, dump(t, db), 3)
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		if f.GetName() == "panoptes_ingest_known_series" {
			require.Equal(t, 1.0, f.Metric[0].Gauge.GetValue(), "one series, whichever version brings it")
		}
	}
}

func TestV2Everything(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	now := ms(0)
	req := &writev2.Request{
		Symbols: []string{"", "__name__", "m", "trace_id", "abc", "h"},
		Timeseries: []writev2.TimeSeries{
			{
				LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: now - 1, Value: 1}, {Timestamp: now, Value: 2}},
				Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 3, Timestamp: now}},
			},
			{LabelsRefs: []uint32{1, 5}, Histograms: []writev2.Histogram{
				writev2.FromIntHistogram(now, &histogram.Histogram{Schema: 12, Count: 2, Sum: 5, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 0}}),
			}},
			{LabelsRefs: []uint32{1, 5, 3, 4}, Histograms: []writev2.Histogram{
				writev2.FromFloatHistogram(now, &histogram.FloatHistogram{Schema: 1, Count: 2, Sum: 5, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{2}}),
			}},
		},
	}
	for range 2 { // it comes twice
		w := postV2(t, h, req)
		require.Equal(t, 204, w.Code, w.Body)
		require.Equal(t, "2", w.Header().Get(writtenHeader+"Samples-Written"))
		require.Equal(t, "2", w.Header().Get(writtenHeader+"Histograms-Written"))
		require.Equal(t, "1", w.Header().Get(writtenHeader+"Exemplars-Written"))
		stored := strings.Join(dump(t, db), "\n")
		require.Contains(t, stored, `exemplars {__name__="m"} [{{trace_id="abc"} 3`)
		require.Len(t, dump(t, db), 5, stored)
	}
}

// Prometheus sends exemplars in series of their own, which its own receiver refuses.
func TestV2ExemplarAlone(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	require.Equal(t, 204, postV2(t, h, v2Request("m", ms(0))).Code)
	req := v2Request("m", ms(0))
	req.Timeseries[0].Samples = nil
	req.Timeseries[0].Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 3, Timestamp: ms(0)}}
	w := postV2(t, h, req)
	require.Equal(t, 204, w.Code, w.Body)
	require.Equal(t, "1", w.Header().Get(writtenHeader+"Exemplars-Written"))
	require.Contains(t, strings.Join(dump(t, db), "\n"), "exemplars")
	req.Timeseries[0].Exemplars = nil
	require.Equal(t, 400, postV2(t, h, req).Code, "there is nothing in it")
}

func TestV2ScatteredFields(t *testing.T) {
	// Legal protobuf that no usual encoder writes: series before symbols,
	// references one by one and behind the sample.
	field := func(tag byte, b []byte) []byte { return append([]byte{tag, byte(len(b))}, b...) }
	s, err := (&writev2.Sample{Timestamp: ms(0), Value: 7}).Marshal()
	require.NoError(t, err)
	ts := append([]byte{1 << 3, 1}, field(2<<3|2, s)...)
	ts = append(ts, 1<<3, 2)
	body := field(5<<3|2, ts)
	for _, text := range []string{"", "__name__", "m"} {
		body = append(body, field(4<<3|2, []byte(text))...)
	}
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	w := post(h, writePath, v2Type, snappy.Encode(nil, body))
	require.Equal(t, 204, w.Code, w.Body)
	require.Contains(t, strings.Join(dump(t, db), "\n"), `{__name__="m"}`)
}

func TestWrongMessages(t *testing.T) {
	db := openDB(t)
	h, _ := newHandler(t, ingest.Config{}, db)
	one, err := request(series("m", ms(0), 1)).Marshal()
	require.NoError(t, err)
	two, err := v2Request("m", ms(0)).Marshal()
	require.NoError(t, err)
	f := func(name, contentType string, body []byte, says string) {
		t.Helper()
		w := post(h, writePath, contentType, snappy.Encode(nil, body))
		require.Equal(t, 400, w.Code, "%s: %s", name, w.Body)
		require.Contains(t, w.Body.String(), says, name)
	}
	f("1 as 2", v2Type, one, "remote write 1")
	f("2 as 1", "application/x-protobuf", two, "remote write 2")
	f("2 without a type", "", two, "remote write 2")
	for cut := 1; cut < len(two); cut++ {
		w := post(h, writePath, v2Type, snappy.Encode(nil, two[:cut]))
		require.NotEqual(t, 500, w.Code)
		if w.Code != 204 { // it may end behind a symbol
			require.Equal(t, 400, w.Code, "cut at %d: %s", cut, w.Body)
			require.Equal(t, "0", w.Header().Get(writtenHeader+"Samples-Written"))
		}
	}
	require.Empty(t, dump(t, db))
	w := post(h, writePath, v2Type, snappy.Encode(nil, nil))
	require.Equal(t, 204, w.Code, "nothing is not wrong")
	require.Equal(t, "0", w.Header().Get(writtenHeader+"Samples-Written"))
	require.Equal(t, 204, post(h, writePath, "", snappy.Encode(nil, nil)).Code)
}

// A request of which a part is refused: the rest is stored, and the answer
// names each part and the reason, up to a sensible number.
func TestPartialWrites(t *testing.T) {
	now := ms(0)
	type sample struct {
		name string
		at   int64
	}
	send := map[string]func(t *testing.T, list ...sample) (code int, body, samples string){}
	for version := 1; version <= 2; version++ {
		db := openDB(t)
		h, _ := newHandler(t, ingest.Config{MaxSeriesPerSource: 20}, db)
		send[fmt.Sprint(version)] = func(t *testing.T, list ...sample) (int, string, string) {
			if version == 1 {
				var req prompb.WriteRequest
				for _, s := range list {
					req.Timeseries = append(req.Timeseries, series(s.name, s.at, 1))
				}
				w := postV1(t, h, &req)
				return w.Code, w.Body.String(), ""
			}
			req := writev2.Request{Symbols: []string{"", "__name__"}}
			for _, s := range list {
				req.Symbols = append(req.Symbols, s.name)
				req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, uint32(len(req.Symbols) - 1)}, Samples: []writev2.Sample{{Timestamp: s.at, Value: 1}}})
			}
			w := postV2(t, h, &req)
			return w.Code, w.Body.String(), w.Header().Get(writtenHeader + "Samples-Written")
		}
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			f := send[fmt.Sprint(version)]
			code, body, n := f(t, sample{"good", now}, sample{"old", now}, sample{"good", now - 1}, sample{"", now}, sample{"ahead", now + 3600_000}, sample{"old", now - 10*3600_000}, sample{"last", now})
			require.Equal(t, 400, code, body)
			for _, part := range []string{"3 series or samples", `__name__`, `"ahead"`, `"old"`, "too old"} {
				require.Contains(t, body, part)
			}
			stored := strings.Join(dump(t, db), "\n")
			require.Contains(t, stored, `"last"`)
			require.Len(t, dump(t, db), 4, stored)
			if version == 2 {
				require.Equal(t, "4", n)
			}
			var many []sample
			for i := range 40 { // of which 17 are within the limit
				many = append(many, sample{fmt.Sprintf("s%02d", i), now})
			}
			code, body, _ = f(t, many...)
			require.Equal(t, 422, code)
			require.Contains(t, body, "and ", "not all of them one by one")
			require.Less(t, len(body), 4000)
			code, body, n = f(t, sample{"good", now}, sample{"good", now - 1}, sample{"last", now})
			require.Equal(t, 204, code, "sent again: %s", body)
			if version == 2 {
				require.Equal(t, "3", n)
			}
		})
	}
}

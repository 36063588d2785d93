package ingest_test

import (
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"panoptes/internal/ingest"
)

// fuzzHandler feeds bytes, as sent, to a handler over a real database. Nothing
// a stranger sends may end in a panic or in an internal error.
func fuzzHandler(f *testing.F, path, contentType string, wrap func([]byte) []byte) {
	h, _ := newHandler(f, ingest.Config{MaxDecoded: 1 << 20}, openDB(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w := post(h, path, contentType, wrap(b)); w.Code >= 500 {
			t.Fatalf("answered %d: %s", w.Code, w.Body)
		}
	})
}

func compress(b []byte) []byte { return snappy.Encode(nil, b) }

func FuzzV1(f *testing.F) {
	full := series("m", 1000, 1, "job", "j")
	full.Exemplars = []prompb.Exemplar{{Labels: full.Labels, Value: 1}}
	full.Histograms = []prompb.Histogram{{Sum: 1, Schema: 3}}
	b, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{full}, Metadata: []prompb.MetricMetadata{{Help: "h"}}}).Marshal()
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:len(b)/2])
	fuzzHandler(f, writePath, "application/x-protobuf", compress)
}

func FuzzV1Body(f *testing.F) {
	f.Add([]byte{0x80, 0x80, 0xc0, 0x0f, 0, 0})
	f.Add(compress([]byte("hello")))
	fuzzHandler(f, writePath, "application/x-protobuf", func(b []byte) []byte { return b })
}

func FuzzV2(f *testing.F) {
	req := v2Request("m", 1000)
	b, err := req.Marshal()
	require.NoError(f, err)
	f.Add(b)
	ts := &req.Timeseries[0]
	ts.Samples[0].StartTimestamp = 500
	ts.Metadata = writev2.Metadata{Type: 3, HelpRef: 2, UnitRef: 4}
	ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Timestamp: 1000}}
	ts.Histograms = []writev2.Histogram{{Timestamp: 1000, StartTimestamp: 500, Sum: 1, Schema: 12}}
	b, err = req.Marshal()
	require.NoError(f, err)
	f.Add(b)
	fuzzHandler(f, writePath, v2Type, compress)
}

func FuzzOTLP(f *testing.F) {
	f.Add(otlpBody(f, time.UnixMilli(1000)))
	fuzzHandler(f, "/api/v1/otlp/v1/metrics", "application/x-protobuf", func(b []byte) []byte { return b })
}

func FuzzOTLPJSON(f *testing.F) {
	for kind, body := range otlpBodies(f, shop(time.UnixMilli(1000), true)) {
		if kind == "application/json" {
			f.Add(body)
		}
	}
	f.Add([]byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}`))
	fuzzHandler(f, "/api/v1/otlp/v1/metrics", "application/json", func(b []byte) []byte { return b })
}

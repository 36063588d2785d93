package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/ingest"
)

const (
	benchSeries = 200_000
	benchBatch  = 2_000 // series of a request, one sample each, as Prometheus sends
)

// sink is a ResponseWriter that keeps the status only.
type sink struct {
	code   int
	header http.Header
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(code int)        { s.code = code }

func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// requests holds one round of samples of all series, compressed.
func benchRequests(b *testing.B, version int, t int64) [][]byte {
	b.Helper()
	var out [][]byte
	for first := 0; first < benchSeries; first += benchBatch {
		var req prompb.WriteRequest
		for i := first; i < first+benchBatch; i++ {
			req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
				Labels: []prompb.Label{
					{Name: "__name__", Value: fmt.Sprintf("node_cpu_seconds_total_%d", i%50)},
					{Name: "cluster", Value: "production-eu-west"},
					{Name: "cpu", Value: fmt.Sprint(i % 64)},
					{Name: "instance", Value: fmt.Sprintf("host-%05d.example.org:9100", i/50)},
					{Name: "job", Value: "node"},
					{Name: "mode", Value: "idle"},
				},
				Samples: []prompb.Sample{{Timestamp: t, Value: float64(i) + float64(t%100_000)}},
			})
		}
		raw, err := req.Marshal()
		if version == 2 {
			raw, err = asVersion2(&req).Marshal()
		}
		require.NoError(b, err)
		out = append(out, snappy.Encode(nil, raw))
	}
	return out
}

// benchmark stores one request per iteration, series known, and reports
// samples per second of the whole process' CPU time, garbage collection and
// the TSDB's work included.
func benchmark(b *testing.B, version int, handler func(*tsdb.DB) http.Handler) {
	h := handler(openDB(b))
	send := func(body []byte) {
		r := httptest.NewRequest(http.MethodPost, writePath, io.NopCloser(bytes.NewReader(body)))
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Type", kinds[version])
		s := &sink{header: http.Header{}}
		h.ServeHTTP(s, r)
		if s.code != http.StatusNoContent {
			b.Fatalf("answered %d", s.code)
		}
	}
	t := time.Now().Add(-time.Hour).UnixMilli()
	round := benchRequests(b, version, t)
	for _, body := range round {
		send(body)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var cpu time.Duration
	n := 0
	for b.Loop() {
		if n%len(round) == 0 { // the next round has later times
			b.StopTimer()
			t += 1000
			round = benchRequests(b, version, t)
			runtime.GC() // what making the requests left behind is not the handler's
			b.StartTimer()
		}
		start := cpuTime()
		send(round[n%len(round)])
		cpu += cpuTime() - start
		n++
	}
	b.ReportMetric(float64(n*benchBatch)/cpu.Seconds()/1e6, "Msamples/cpu-s")
}

// kinds are the content types of the versions.
var kinds = map[int]string{1: "application/x-protobuf", 2: v2Type}

func BenchmarkRemoteWrite(b *testing.B) {
	for version, message := range map[int]remoteapi.WriteMessageType{1: remoteapi.WriteV1MessageType, 2: remoteapi.WriteV2MessageType} {
		b.Run(fmt.Sprintf("%d/ours", version), func(b *testing.B) {
			benchmark(b, version, func(db *tsdb.DB) http.Handler {
				h, _ := newHandler(b, ingest.Config{MaxSeriesPerSource: benchSeries}, db)
				return h
			})
		})
		b.Run(fmt.Sprintf("%d/prometheus", version), func(b *testing.B) {
			benchmark(b, version, func(db *tsdb.DB) http.Handler {
				return remote.NewWriteHandler(slog.New(slog.DiscardHandler), nil, db, remoteapi.MessageTypes{message}, false, false, false)
			})
		})
	}
}

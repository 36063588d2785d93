package scrape_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// BenchmarkScrape says how many samples are scraped and stored in a second of
// this process' processor time; the targets, which only copy a text, are in it.
func BenchmarkScrape(b *testing.B) {
	const targets, series = 200, 1000
	var body strings.Builder
	for i := range series {
		fmt.Fprintf(&body, "metric_%d{path=\"/some/where\",method=\"GET\",code=\"%d\"} %d\n", i%50, i, i*3)
	}
	text := []byte(body.String())
	var scrapes atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		_, _ = w.Write(text)
		scrapes.Add(1)
	}))
	defer srv.Close()
	var groups []string
	for i := range targets {
		groups = append(groups, fmt.Sprintf("{targets: ['%s'], labels: {t: '%d'}}", strings.TrimPrefix(srv.URL, "http://"), i))
	}
	var db *tsdb.DB = openDB(b)
	s, stop := start(b, scrape.Config{}, scrape.Deps{Appendable: db})
	s.Update([]model.Record{record(b, "j", "{scrape_interval: 1s, static_configs: ["+strings.Join(groups, ",")+"]}")})
	require.Eventually(b, func() bool { return scrapes.Load() > 2*targets }, time.Minute, 10*time.Millisecond)
	b.ResetTimer()
	began, cpu := scrapes.Load(), processorTime(b)
	want := began + int64(b.N)*targets
	require.Eventually(b, func() bool { return scrapes.Load() >= want }, 5*time.Minute, 10*time.Millisecond)
	used := processorTime(b) - cpu
	b.StopTimer()
	n := scrapes.Load() - began
	b.ReportMetric(float64(n)*series/used.Seconds(), "samples/cpu-s")
	b.ReportMetric(float64(n)/used.Seconds(), "scrapes/cpu-s")
	stop()
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

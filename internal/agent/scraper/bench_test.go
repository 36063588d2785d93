package scraper

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"panoptes/internal/wire/uplink"
)

// BenchmarkScrape is a round of a target with 1000 series.
func BenchmarkScrape(b *testing.B) {
	var body strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&body, "x_requests_total{code=\"%d\",handler=\"/api/v1/some/path/%d\"} %d\n", 200+i%5, i, i*7)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body.String())) }))
	defer srv.Close()
	job := uplink.ScrapeJob{Job: "x", Targets: []string{strings.TrimPrefix(srv.URL, "http://")}}
	t := newTarget(job, job.Targets[0], srv.Client(), func(int) bool { return true })
	t.slots = make(chan struct{}, 1)
	b.ReportAllocs()
	for i := int64(1); b.Loop(); i++ {
		if _, err := t.scrape(b.Context(), i); err != nil {
			b.Fatal(err)
		}
	}
}

//go:build e2e

package remotewrite

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// instruments are one metric of each kind.
type instruments struct {
	requests        *prometheus.CounterVec
	depth           prometheus.Gauge
	classic, native prometheus.Histogram
	summary         prometheus.Summary
	handler         http.Handler
}

func newInstruments() *instruments {
	reg := prometheus.NewRegistry()
	m := &instruments{}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "conf_requests_total", Help: "Requests that came."}, []string{"code"})
	m.depth = prometheus.NewGauge(prometheus.GaugeOpts{Name: "conf_depth", Help: "How deep it is."})
	m.classic = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "conf_classic_seconds", Help: "How long it takes.", Buckets: []float64{0.1, 1, 10}})
	m.native = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "conf_native_seconds", Help: "The same in more detail.", NativeHistogramBucketFactor: 1.1})
	m.summary = prometheus.NewSummary(prometheus.SummaryOpts{Name: "conf_summary_seconds", Help: "Quantiles.", Objectives: map[float64]float64{0.5: 0.01}})
	reg.MustRegister(m.requests, m.depth, m.classic, m.native, m.summary)
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return m
}

// target is scraped: all kinds of metrics, with exemplars and created times.
func target(t testing.TB) (addr string, gone func()) {
	t.Helper()
	var n atomic.Int64
	var away atomic.Bool
	var m *instruments
	var first sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return
		}
		// A Prometheus sends nothing that is older than itself, so counters
		// are created when it comes for the first time.
		first.Do(func() { m = newInstruments() })
		i := float64(n.Add(1))
		m.requests.WithLabelValues("200").(prometheus.ExemplarAdder).AddWithExemplar(i, prometheus.Labels{"trace_id": fmt.Sprint("t", i)})
		m.requests.WithLabelValues("500").Inc()
		m.depth.Set(i / 3)
		for j := range 20 {
			v := i * float64(j) / 7
			m.classic.(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": fmt.Sprint("c", j)})
			m.native.Observe(v)
			m.summary.Observe(v)
		}
		m.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.Listener.Addr().String(), func() { away.Store(true) }
}

var messages = map[string]string{"version 1": "prometheus.WriteRequest", "version 2": "io.prometheus.write.v2.Request"}

// A real Prometheus scrapes a target and sends everything to us: afterwards
// both give the same answers.
func TestPrometheusWritesToUs(t *testing.T) {
	prometheusBinary(t)
	bin := harness.Binary(t)
	for name, message := range messages {
		t.Run(name, func(t *testing.T) {
			srv := harness.Start(t, bin, t.TempDir())
			addr, gone := target(t)
			begin := time.Now().Truncate(time.Second)
			base := startPrometheus(t, map[string]any{
				"global": map[string]any{"scrape_interval": "1s", "scrape_protocols": []string{"PrometheusProto"}},
				"scrape_configs": []any{map[string]any{
					"job_name": "conf", "scrape_native_histograms": true, "always_scrape_classic_histograms": true,
					"static_configs": []any{map[string]any{"targets": []string{addr}, "labels": map[string]any{"zone": "ü"}}},
				}},
				"remote_write": []any{map[string]any{
					"url": srv.URL + "/api/v1/write", "protobuf_message": message, "send_exemplars": true, "send_native_histograms": true,
					"authorization":   map[string]any{"credentials": harness.APIKey},
					"queue_config":    map[string]any{"batch_send_deadline": "200ms"},
					"metadata_config": map[string]any{"send": message == messages["version 1"], "send_interval": "1s"},
				}},
			})
			query := url.Values{"query": {`count_over_time(conf_depth[1m])`}}
			require.Eventually(t, func() bool { return number(t, base, query.Get("query")) >= 8 }, patience, 200*time.Millisecond)
			gone() // from now on stale markers
			require.Eventually(t, func() bool { return number(t, base, `absent(conf_depth)`) == 1 }, patience, 200*time.Millisecond)
			end := time.Now().Truncate(time.Second)

			same := func(what, path string, q url.Values) {
				t.Helper()
				want, err := ask(base, path, q)
				require.NoError(t, err, what)
				require.Greater(t, len(want), 60, "%s: there is something to compare: %s", what, want)
				require.EventuallyWithT(t, func(c *assert.CollectT) {
					got, err := ask(srv.URL, path, q)
					assert.NoError(c, err)
					assert.Equal(c, want, got)
				}, patience, 500*time.Millisecond, what)
			}
			over := func(expr string) url.Values {
				return url.Values{"query": {expr}, "start": {fmt.Sprint(begin.Unix())}, "end": {fmt.Sprint(end.Unix())}, "step": {"1"}}
			}
			for _, expr := range []string{
				`{job="conf"}`, `rate(conf_requests_total[3s])`, `increase(conf_requests_total[30s])`, `histogram_quantile(0.9, conf_native_seconds)`,
				`histogram_count(conf_native_seconds)`, `histogram_quantile(0.9, rate(conf_classic_seconds_bucket[5s]))`, `count({job="conf"})`,
			} {
				same(expr, "/api/v1/query_range", over(expr))
			}
			// The raw samples: nothing is missing, nothing is there twice.
			same("raw", "/api/v1/query", url.Values{"query": {fmt.Sprintf(`{job="conf",__name__=~"conf_.*"}[%ds]`, end.Unix()-begin.Unix()+1)}, "time": {fmt.Sprint(end.Unix())}})
			same("exemplars", "/api/v1/query_exemplars", url.Values{"query": {"conf_requests_total"}, "start": {fmt.Sprint(begin.Unix())}, "end": {fmt.Sprint(end.Unix())}})
			same("exemplars of buckets", "/api/v1/query_exemplars", url.Values{"query": {"conf_classic_seconds_bucket"}, "start": {fmt.Sprint(begin.Unix())}, "end": {fmt.Sprint(end.Unix())}})

			for metric, kind := range map[string]string{"conf_requests_total": "counter", "conf_depth": "gauge", "conf_classic_seconds": "histogram"} {
				require.EventuallyWithT(t, func(c *assert.CollectT) {
					got, err := ask(srv.URL, "/api/v1/metadata", url.Values{"metric": {metric}})
					assert.NoError(c, err)
					assert.Contains(c, got, fmt.Sprintf("%q", kind), metric)
				}, patience, 200*time.Millisecond)
			}
			// Remote read, by a Prometheus that has nothing itself.
			reader := startPrometheus(t, map[string]any{"remote_read": []any{map[string]any{
				"url": srv.URL + "/api/v1/read", "read_recent": true, "authorization": map[string]any{"credentials": harness.APIKey},
			}}})
			for _, expr := range []string{`{job="conf"}`, `histogram_count(conf_native_seconds)`, `rate(conf_requests_total[3s])`} {
				want, err := ask(base, "/api/v1/query_range", over(expr))
				require.NoError(t, err)
				got, err := ask(reader, "/api/v1/query_range", over(expr))
				require.NoError(t, err)
				require.Equal(t, want, got, "remote read of %s", expr)
			}
			// The sender reads the answer's headers: what they do not tell of it counts as failed.
			for _, what := range []string{"samples", "histograms", "exemplars"} {
				metric := "prometheus_remote_storage_" + what
				text := metricsOf(t, base)
				require.Zero(t, text[metric+"_failed_total"], what)
				require.Positive(t, text[metric+"_total"], what)
			}
		})
	}
}

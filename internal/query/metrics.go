package query

import "github.com/prometheus/client_golang/prometheus"

// metrics are the package's own; the engine adds its prometheus_engine_… .
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	waiting  prometheus.Gauge
	slow     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, t *tracker) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_query_requests_total", Help: "Requests answered, by path and status code.",
		}, []string{"path", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "panoptes_query_request_duration_seconds", Help: "Time until a request was answered, by path.",
			Buckets: []float64{.005, .025, .1, .5, 2, 10, 60, 120},
		}, []string{"path"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_query_refused_total", Help: "Requests refused before evaluation, by reason.",
		}, []string{"reason"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "panoptes_query_waiting_requests", Help: "Requests that wait for their user's turn.",
		}),
	}
	m.slow = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "panoptes_query_slow_total", Help: "Requests that took longer than query.log_slow.",
	})
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.refused, m.waiting, m.slow, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "panoptes_query_active_queries", Help: "Queries that are being evaluated.",
		}, func() float64 { return float64(t.running()) }))
	}
	return m
}

package remote

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
)

type metrics struct {
	samples, retries   prometheus.Counter
	refused, requests  *prometheus.CounterVec
	queries            *prometheus.CounterVec
	seconds, queryTime prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "panoptes_remote_" + name, Help: help})
	}
	by := func(name, label, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_remote_" + name, Help: help}, []string{label})
	}
	hist := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: "panoptes_remote_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)})
	}
	return &metrics{
		samples:   counter("samples_total", "Samples that the engine outside has taken."),
		retries:   counter("retries_total", "Requests that the engine could not take at once."),
		refused:   by("refused_samples_total", "code", "Samples in requests that the engine refused for good."),
		requests:  by("requests_total", "code", "Write requests by the answer of the engine."),
		queries:   by("queries_total", "code", "Queries passed on, by the answer."),
		seconds:   hist("request_seconds", "Time that the engine took for a write request."),
		queryTime: hist("query_seconds", "Time until a query that was passed on was answered."),
	}
}

func builder() *labels.ScratchBuilder {
	b := labels.NewScratchBuilder(8)
	return &b
}

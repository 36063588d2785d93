package pushgateway

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests *prometheus.CounterVec
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, p *Pushgateway) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_pushgateway_requests_total", Help: "Pushes and deletions answered, by method and status code.",
		}, []string{"method", "code"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "panoptes_pushgateway_write_failures_total", Help: "Times that the groups were not written into the store.",
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			p.mu.RLock()
			defer p.mu.RUnlock()
			return read()
		})
	}
	reg.MustRegister(m.requests, m.failures,
		gauge("panoptes_pushgateway_groups", "Groups that are kept.", func() float64 { return float64(p.living) }),
		gauge("panoptes_pushgateway_bytes", "Bytes of the groups that are kept.", func() float64 { return float64(p.bytes) }),
	)
	return m
}

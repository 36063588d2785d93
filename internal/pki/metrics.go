package pki

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	expiry   prometheus.Gauge
	renewals *prometheus.CounterVec // result
	refused  *prometheus.CounterVec // reason
	joins    *prometheus.CounterVec // result: ok or the reason of a refusal
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_pki_certificate_expiry_timestamp_seconds", Help: "When this node's certificate ends, Unix time."}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_pki_renewals_total", Help: "Renewals of this node's certificate, by result."},
			[]string{"result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_pki_refused_total", Help: "Certificates of others that were refused, by reason."},
			[]string{"reason"}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_pki_joins_total", Help: "Requests to join that this server answered, by result."},
			[]string{"result"}),
	}
	m.expiry = register(reg, m.expiry)
	m.renewals = register(reg, m.renewals)
	m.refused = register(reg, m.refused)
	m.joins = register(reg, m.joins)
	return m
}

// register takes over the metric of an attempt before: joining is tried again
// with the same registerer.
func register[T prometheus.Collector](reg prometheus.Registerer, c T) T {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if old, ok := twice.ExistingCollector.(T); ok {
			return old
		}
	}
	if err != nil {
		panic(err) // a broken invariant of ours: two metrics of one name
	}
	return c
}

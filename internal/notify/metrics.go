package notify

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec
	last     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_notify_attempts_total", Help: "Attempts to notify, by outcome.",
		}, []string{"receiver", "type", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "panoptes_notify_duration_seconds", Help: "Time that one attempt to notify took.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"type"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "panoptes_notify_last_success_timestamp_seconds", Help: "When a receiver was last reached.",
		}, []string{"receiver", "type"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.duration, m.last} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of notify: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(receiver, typ string, ok bool, took time.Duration) {
	outcome := "ok"
	if !ok {
		outcome = "failed"
	}
	m.attempts.WithLabelValues(receiver, typ, outcome).Inc()
	m.duration.WithLabelValues(typ).Observe(took.Seconds())
	if ok {
		m.last.WithLabelValues(receiver, typ).SetToCurrentTime()
	}
}

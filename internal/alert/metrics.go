package alert

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests      *prometheus.HistogramVec
	receivers     prometheus.Gauge
	failed        prometheus.Gauge
	journalErrors prometheus.Counter
	put           prometheus.Counter
	refused       prometheus.Counter
	outdated      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "panoptes_alert_api_request_duration_seconds", Help: "Time that requests to the Alertmanager API took.",
			Buckets: prometheus.DefBuckets,
		}, []string{"handler", "method", "code"}),
		receivers:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_alert_receivers", Help: "Receivers in use."}),
		failed:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_alert_update_failed", Help: "1 while the last change of receivers or routes could not be taken over."}),
		journalErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_alert_journal_errors_total", Help: "Entries of the notification log that could not be written to disk at once."}),
		put:           prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_alert_received_total", Help: "Alerts taken in."}),
		refused:       prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_alert_refused_total", Help: "Alerts that were not valid."}),
		outdated:      prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_alert_outdated_notifications_total", Help: "Notifications dropped because their alerts began or ended while they waited; the next one is right."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.receivers, m.failed, m.journalErrors, m.put, m.refused, m.outdated} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of alert: %w", err)
		}
	}
	return m, nil
}

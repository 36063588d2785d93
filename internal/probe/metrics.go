package probe

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	runs     *prometheus.CounterVec
	running  prometheus.Gauge
	checks   prometheus.Gauge
	lateness prometheus.Histogram
	skipped  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_probe_runs_total", Help: "Runs of checks by type and result: up, down, abstained because this worker is cut off, or untried because it could not or may not run the check.",
		}, []string{"type", "result"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "panoptes_probe_running", Help: "Runs in progress.",
		}),
		checks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "panoptes_probe_checks", Help: "Checks that this worker runs.",
		}),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "panoptes_probe_lateness_seconds", Help: "Time between the planned and the real start of a run.",
			Buckets: []float64{.001, .01, .05, .1, .5, 1, 5, 30},
		}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_probe_skipped_total", Help: "Runs left out because the one before had not ended (overlap) or too many ran (limit).",
		}, []string{"reason"}),
	}
	m.skipped.WithLabelValues("overlap")
	m.skipped.WithLabelValues("limit")
	if r != nil {
		r.MustRegister(m.runs, m.running, m.checks, m.lateness, m.skipped)
	}
	return m
}

func (m *metrics) count(kind, result string) { m.runs.WithLabelValues(kind, result).Inc() }

package history

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events, failed prometheus.Counter
	commit         prometheus.Histogram

	reg prometheus.Registerer
	all []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, h *History) (*metrics, error) {
	m := &metrics{
		reg:    reg,
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_history_events_total", Help: "Events stored that were not there before."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_history_failed_commits_total", Help: "Groups of events that could not be stored."}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "panoptes_history_commit_seconds", Help: "Time to make a group of events safe.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_history_file_bytes", Help: "Size of the database file."}, func() float64 {
		st, err := os.Stat(h.cfg.Path)
		if err != nil {
			return 0
		}
		return float64(st.Size())
	})
	damaged := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_history_damaged", Help: "1 when the file was found damaged since the start."}, func() float64 {
		if h.Damaged() != nil {
			return 1
		}
		return 0
	})
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.failed, m.commit, size, damaged} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

package control

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

type metrics struct {
	writes *prometheus.CounterVec
	took   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, c *Control) *metrics {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_control_writes_total", Help: "Transactions by result.",
		}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "panoptes_control_write_seconds", Help: "Time of one transaction.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10),
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			return f(c.Status(context.Background()))
		})
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	reg.MustRegister(m.writes, m.took,
		gauge("panoptes_control_writable", "1 when configuration can be written.", func(s Status) float64 { return flag(s.Err == "") }),
		gauge("panoptes_control_has_leader", "1 when the store has a leader.", func(s Status) float64 { return flag(s.Leader) }),
		gauge("panoptes_control_is_leader", "1 when this server leads the store.", func(s Status) float64 { return flag(s.IsLeader) }),
		gauge("panoptes_control_learner", "1 while this server has no vote yet.", func(s Status) float64 { return flag(s.Learner) }),
		gauge("panoptes_control_members", "Members of the store.", func(s Status) float64 { return float64(s.Members) }),
		gauge("panoptes_control_members_unreachable", "Members that do not answer this server.", func(s Status) float64 { return float64(len(s.Unreachable)) }),
		gauge("panoptes_control_reserve", "1 when the reserve file is in place.", func(s Status) float64 { return flag(s.Reserve) }),
		gauge("panoptes_control_db_bytes", "Size of the store's database.", func(s Status) float64 { return float64(s.DBBytes) }),
		gauge("panoptes_control_disk_free_bytes", "Free space on the store's disk.", func(s Status) float64 { return float64(s.FreeBytes) }),
		gauge("panoptes_control_revision", "Revision of the data on this server.", func(s Status) float64 { return float64(s.Revision) }),
	)
	return m
}

func (m *metrics) wrote(took time.Duration, err error) {
	result := "ok"
	switch {
	case err == nil:
		m.took.Observe(took.Seconds())
	case errors.Is(err, model.ErrRevision), errors.Is(err, model.ErrConflict):
		result = "conflict"
	case errors.Is(err, model.ErrNoSpace):
		result = "no_space"
	case errors.Is(err, model.ErrUnavailable):
		result = "unavailable"
	default:
		result = "error"
	}
	m.writes.WithLabelValues(result).Inc()
}

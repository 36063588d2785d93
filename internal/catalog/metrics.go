package catalog

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	changes    *prometheus.CounterVec
	lastSeen   *prometheus.CounterVec
	unsealable prometheus.Counter
	unreadable prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Catalog) *metrics {
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_catalog_changes_total", Help: "Changes written by this server.",
		}, []string{"kind", "op"}),
		lastSeen: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_catalog_last_seen_writes_total", Help: "Writes of the last seen copy by result.",
		}, []string{"result"}),
		unsealable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "panoptes_catalog_unsealable_records_total", Help: "Records read whose secrets this server's key does not open.",
		}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "panoptes_catalog_unreadable_records_total", Help: "Records of the store that could not be read.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.changes, m.lastSeen, m.unsealable, m.unreadable)
	for _, k := range c.kinds {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "panoptes_catalog_records", Help: "Records by kind.", ConstLabels: prometheus.Labels{"kind": k.Name},
		}, func() float64 { return float64(c.cache.count(k.Name)) }))
	}
	return m
}

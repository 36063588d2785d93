package replica

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sent, received     prometheus.Counter
	blocks, bad        prometheus.Counter
	events             prometheus.Counter
	checks, mismatches prometheus.Counter
	repaired           *prometheus.CounterVec
	conflicts          prometheus.Gauge
	failures           prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Replica) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_replica_" + name, Help: help})
	}
	m := &metrics{
		sent:       counter("sent_bytes_total", "Bytes of blocks sent to other servers."),
		received:   counter("received_bytes_total", "Bytes of blocks received from other servers."),
		blocks:     counter("blocks_imported_total", "Blocks taken over from other servers."),
		bad:        counter("blocks_refused_total", "Blocks of other servers that were damaged on arrival."),
		events:     counter("events_imported_total", "Events taken over from other servers."),
		checks:     counter("checks_total", "Comparisons with other servers."),
		mismatches: counter("mismatches_total", "Windows and days that lacked something that another server has."),
		failures:   counter("copy_failures_total", "Copies that did not come to their end."),
		repaired:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_replica_repaired_total", Help: "Samples and events that a comparison brought."}, []string{"what"}),
		conflicts:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_replica_conflicts", Help: "Samples that another server has with another value, as of the last comparison."}),
	}
	complete := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_replica_complete", Help: "1 when nothing is known to be missing here."}, func() float64 {
		if r.Status().Complete {
			return 1
		}
		return 0
	})
	if reg != nil {
		reg.MustRegister(m.sent, m.received, m.blocks, m.bad, m.events, m.checks, m.mismatches, m.failures, m.repaired, m.conflicts, complete)
	}
	return m
}

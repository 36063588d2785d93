package relay

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	logBytes, syncs, failures, damaged, alone, retries prometheus.Counter
	logSize                                            prometheus.Gauge
	syncTime                                           prometheus.Histogram
	sent, refused, dropped, received                   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Relay) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_relay_" + name, Help: help})
	}
	perNode := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_relay_" + name, Help: help}, []string{"node"})
	}
	m := &metrics{
		logBytes: counter("log_written_bytes_total", "Bytes written to the log."),
		syncs:    counter("log_syncs_total", "Groups that were made durable in the log."),
		failures: counter("log_failures_total", "Writes and syncs of the log that failed."),
		damaged:  counter("log_damaged_total", "Segments of the log, or its cursors, found damaged."),
		alone:    counter("alone_total", "Groups that were acknowledged while no other server could confirm them."),
		retries:  counter("receive_retries_total", "Times that what another server sent could not be stored at once."),
		logSize:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_relay_log_bytes", Help: "Bytes of the log on disk."}),
		syncTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "panoptes_relay_log_sync_seconds", Help: "Time to make a group durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		sent:     perNode("sent_bytes_total", "Bytes of the log sent, by destination."),
		refused:  perNode("refused_total", "Samples and events that a destination refused for good."),
		dropped:  perNode("dropped_bytes_total", "Bytes of the log that were dropped before a destination had them."),
		received: perNode("received_samples_total", "Samples received, by source."),
	}
	if reg != nil {
		reg.MustRegister(m.logBytes, m.syncs, m.failures, m.damaged, m.alone, m.retries, m.logSize, m.syncTime, m.sent, m.refused, m.dropped, m.received, lagCollector{r})
	}
	return m
}

// lagCollector tells how far behind the destinations are when it is asked.
type lagCollector struct{ r *Relay }

func behindDesc() *prometheus.Desc {
	return prometheus.NewDesc("panoptes_relay_behind_bytes", "Bytes of the log that a destination does not have.", []string{"node"}, nil)
}

func (c lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- behindDesc() }

func (c lagCollector) Collect(ch chan<- prometheus.Metric) {
	desc := behindDesc()
	for _, d := range c.r.Destinations() {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(d.Bytes), d.NodeID)
	}
}

func sortSources(list []Source) {
	slices.SortFunc(list, func(a, b Source) int { return strings.Compare(a.NodeID, b.NodeID) })
}

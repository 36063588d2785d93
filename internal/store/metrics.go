package store

import "github.com/prometheus/client_golang/prometheus"

// The reasons of panoptes_store_samples_refused_total.
const (
	reasonFuture     = "too_far_in_future"
	reasonTooOld     = "too_old"
	reasonOutOfOrder = "out_of_order"
	reasonBounds     = "out_of_bounds"
	reasonInvalid    = "invalid_labels"
	reasonLimit      = "label_limit"
	reasonNoSpace    = "no_space"
	reasonClosed     = "unavailable"
	reasonOther      = "other"
)

type metrics struct {
	refused    *prometheus.CounterVec
	duplicates prometheus.Counter
	syncs      prometheus.Counter
	syncTime   prometheus.Histogram
	commits    prometheus.Counter
	reopens    prometheus.Counter
	failures   prometheus.Counter
	damaged    *prometheus.CounterVec
	free       prometheus.Gauge
	low        prometheus.Gauge
	scrubbed   prometheus.Counter
	imported   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		refused:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_store_samples_refused_total", Help: "Samples that were not stored, by reason."}, []string{"reason"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_samples_duplicate_total", Help: "Samples for an instant that already has another value; the first one stays."}),
		syncs:      prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_syncs_total", Help: "Times the write-ahead logs were made durable."}),
		syncTime:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "panoptes_store_sync_duration_seconds", Help: "Time that making the write-ahead logs durable took.", Buckets: prometheus.ExponentialBuckets(0.0001, 3, 11)}),
		commits:    prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_commits_total", Help: "Commits that were acknowledged."}),
		reopens:    prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_reopens_total", Help: "Times the database was closed and opened again after a failed write."}),
		failures:   prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_write_failures_total", Help: "Failed writes to the write-ahead logs."}),
		damaged:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_store_damage_total", Help: "Damaged parts found, by kind."}, []string{"kind"}),
		free:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_store_free_bytes", Help: "Free space on the disk of the time series."}),
		low:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_store_disk_full", Help: "1 while appends are refused for want of space."}),
		scrubbed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_scrubbed_bytes_total", Help: "Bytes of blocks that were read and found sound."}),
		imported:   prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_store_blocks_imported_total", Help: "Blocks taken over from other servers."}),
	}
	if reg != nil {
		reg.MustRegister(m.refused, m.duplicates, m.syncs, m.syncTime, m.commits, m.reopens, m.failures, m.damaged, m.free, m.low, m.scrubbed, m.imported)
	}
	return m
}

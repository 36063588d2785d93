package backup

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type uploadMetrics struct {
	blocks, bytes, failures, missed prometheus.Counter
	pending, last                   prometheus.Gauge
}

func newUploadMetrics(reg prometheus.Registerer) *uploadMetrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "panoptes_backup_upload_" + name, Help: help})
	}
	return &uploadMetrics{
		blocks:   counter("blocks_total", "Blocks uploaded to object storage."),
		bytes:    counter("bytes_total", "Bytes of blocks uploaded to object storage."),
		failures: counter("failures_total", "Uploads of blocks that failed; they are tried again."),
		missed:   counter("missed_blocks_total", "Blocks that were deleted here before they were uploaded."),
		pending:  f.NewGauge(prometheus.GaugeOpts{Name: "panoptes_backup_upload_pending_blocks", Help: "Blocks that wait for their upload."}),
		last:     f.NewGauge(prometheus.GaugeOpts{Name: "panoptes_backup_upload_last_success_timestamp_seconds", Help: "When all blocks were in the bucket, last."}),
	}
}

package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// BenchmarkJoin copies a day of 500 series, verified and imported, over the
// real transport.
func BenchmarkJoin(b *testing.B) {
	c := newCluster(b)
	full := c.add("full").start()
	for at := hoursAgo(26); at < hoursAgo(0); at += 15_000 {
		var batch model.Batch
		for i := range 500 {
			batch = append(batch, model.Sample{Labels: series("bench", i), T: at, V: float64(at*int64(i+7)%999_983) / 7})
		}
		require.NoError(b, full.store.Append(b.Context(), batch))
	}
	full.compact()
	size := full.blockBytes()
	for b.Loop() {
		b.StopTimer()
		empty := c.add("empty")
		empty.cfg.BytesPerSecond = 1 << 40
		empty.start()
		b.StartTimer()
		empty.replica.Need(time.Time{}, time.Time{}, "joined")
		empty.complete()
		b.StopTimer()
		empty.stop()
		b.StartTimer()
	}
	b.SetBytes(size)
	b.ReportMetric(float64(size)/1e6, "MB")
}

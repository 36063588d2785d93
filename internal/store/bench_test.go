package store_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

const benchSeries = 10_000

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchAppend appends batches of one sample of each series, by reference.
func benchAppend(b *testing.B, to storage.Appendable) {
	ls := make([]labels.Labels, benchSeries)
	refs := make([]storage.SeriesRef, benchSeries)
	for i := range ls {
		ls[i] = series("bench_requests_total", i)
	}
	at := time.Now().Add(-time.Hour).UnixMilli()
	batch := func() {
		app := to.Appender(context.Background())
		for i := range ls {
			ref, err := app.Append(refs[i], ls[i], at, float64(at%1000+int64(i)))
			if err != nil {
				b.Fatal(err)
			}
			refs[i] = ref
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
		at += 15
	}
	batch()
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu()
	for range b.N {
		batch()
	}
	b.StopTimer()
	n := float64(b.N * benchSeries)
	b.ReportMetric(n/b.Elapsed().Seconds()/1e6, "Msamples/s")
	b.ReportMetric(n/(cpu()-used).Seconds()/1e6, "Msamples/cpu-s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkAppendDurable(b *testing.B) {
	benchAppend(b, storetest.New(b, store.Config{}))
}

func BenchmarkAppendBareTSDB(b *testing.B) {
	o := tsdb.DefaultOptions()
	o.WALCompression = compression.Snappy
	o.OutOfOrderTimeWindow = (49 * time.Hour).Milliseconds()
	o.EnableExemplarStorage, o.MaxExemplars = true, 100_000
	db, err := tsdb.Open(b.TempDir(), nil, nil, o, nil)
	require.NoError(b, err)
	defer db.Close()
	benchAppend(b, db)
}

// BenchmarkBatch is the way of our own probes: small batches, no references.
func BenchmarkBatch(b *testing.B) {
	s := storetest.New(b, store.Config{})
	batch := make(model.Batch, 20)
	for i := range batch {
		batch[i].Labels = labels.FromStrings("__name__", "probe_http_duration_seconds", "check", "shop", "region", "eu", "prober", "n1", "phase", string(rune('a'+i)))
	}
	at := time.Now().Add(-time.Hour).UnixMilli()
	b.ReportAllocs()
	used := cpu()
	b.SetParallelism(32) // writers that share a sync
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			own := make(model.Batch, len(batch))
			copy(own, batch)
			for i := range own {
				own[i].T, own[i].V = at, 1
			}
			if err := s.Append(context.Background(), own); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-us/op")
}

package store_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// Late samples whose chunks are in files are there after a crash, also when the
// server had been stopped and started before, and had cut its memory since.
func TestLateSamplesAfterStopCutAndCrash(t *testing.T) {
	const all = 30 // series
	dir := t.TempDir()
	cfg := store.Config{Dir: dir, SegmentBytes: 32 << 10}
	rnd := rand.New(rand.NewPCG(1, 2)) // what fills chunks
	from := time.Now().Add(-6 * time.Hour).UnixMilli()
	written := 0
	write := func(s *store.Store, at int64, samples int) {
		app := s.Appender(context.Background())
		for i := range all {
			for k := range int64(samples) {
				_, err := app.Append(0, series("a", i), at+k, rnd.Float64())
				require.NoError(t, err)
			}
		}
		require.NoError(t, app.Commit())
		written += samples
	}
	s, stop := storetest.Start(t, cfg, store.Deps{})
	write(s, from, 1)
	stop()
	s = storetest.New(t, cfg)
	for i := range int64(6) {
		write(s, from+(i+1)*time.Hour.Milliseconds(), 100)
	}
	require.NoError(t, s.Compact(context.Background()))
	checkpoints, err := filepath.Glob(filepath.Join(dir, "wal", "checkpoint.*"))
	require.NoError(t, err)
	require.NotEmpty(t, checkpoints)
	// Enough to have chunks of it written to a file.
	for i := range int64(80) {
		write(s, from+5*time.Hour.Milliseconds()+time.Minute.Milliseconds()+i*1000, 300)
	}
	require.Equal(t, all*written, count(read(t, s, "a")))
	require.Equal(t, all*written, count(read(t, afterCrash(t, dir), "a")), "after the crash")
}

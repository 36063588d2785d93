package store_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// Each try to open a store on a disk with no room for a log without marks leaves
// nothing behind, neither a file that is open nor the room that it takes.
func TestNoRoomToRemoveMarks(t *testing.T) {
	dir := t.TempDir()
	wbl := filepath.Join(dir, "wbl")
	smallDisk(t, wbl, 2<<20)

	w, err := wlog.NewSize(nil, nil, wbl, 2<<20, compression.None)
	require.NoError(t, err)
	var enc record.Encoder
	rnd := rand.New(rand.NewPCG(1, 2)) // what cannot be made smaller
	for range 1000 {
		var some []record.RefSample
		for range 60 {
			some = append(some, record.RefSample{Ref: 1, T: time.Now().Add(-time.Minute).UnixMilli(), V: rnd.Float64()})
		}
		require.NoError(t, w.Log(enc.Samples(some, nil)))
	}
	require.NoError(t, w.Log(enc.MmapMarkers([]record.RefMmapMarker{{Ref: 1, MmapRef: chunks.ChunkDiskMapperRef(8)}}, nil)))
	require.NoError(t, w.Close())
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(wbl, &st))
	eater := filepath.Join(wbl, "eater")
	require.NoError(t, os.WriteFile(eater, make([]byte, int64(st.Bavail)*int64(st.Bsize)-100<<10), 0o600))
	require.NoError(t, syscall.Statfs(wbl, &st))
	room := st.Bavail

	for range 3 {
		// It is opened with the log as it is.
		_, stop := storetest.Start(t, store.Config{Dir: dir, OutOfOrderWindow: time.Hour}, store.Deps{})
		stop()
		files, err := filepath.Glob("/proc/self/fd/*")
		require.NoError(t, err)
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil {
				require.NotContains(t, to, "marks-")
			}
		}
		require.NoError(t, syscall.Statfs(wbl, &st))
		require.Equal(t, room, st.Bavail)
	}
	require.NoError(t, os.Remove(eater))
}

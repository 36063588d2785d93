package store_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

func TestLowSpaceRefusesAppendsAndKeepsReading(t *testing.T) {
	var free atomic.Uint64
	free.Store(1000)
	deps := store.Deps{Free: func(string) (uint64, error) { return free.Load(), nil }}
	s := storetest.NewWith(t, store.Config{MinFreeBytes: 100, CheckInterval: time.Millisecond}, deps)
	now := time.Now()
	require.NoError(t, appendOne(s, series("a", 1), now, 1))
	open := s.Appender(context.Background())
	_, err := open.Append(0, series("a", 1), now.Add(time.Second).UnixMilli(), 2)
	require.NoError(t, err)

	free.Store(99)
	require.Eventually(t, s.DiskFull, 30*time.Second, time.Millisecond)
	require.ErrorIs(t, open.Commit(), model.ErrNoSpace)
	require.ErrorIs(t, appendOne(s, series("a", 1), now.Add(time.Second), 2), model.ErrNoSpace)
	require.Equal(t, 1, count(read(t, s, "a")))
	require.ErrorIs(t, s.Health(), model.ErrNoSpace)

	free.Store(200)
	require.Eventually(t, func() bool { return s.Health() == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, appendOne(s, series("a", 1), now.Add(time.Second), 2))
	require.Equal(t, 2, count(read(t, s, "a")))
}

func TestReserveIsGivenUp(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	deps := store.Deps{Free: func(string) (uint64, error) { return free.Load(), nil }}
	dir := t.TempDir()
	storetest.NewWith(t, store.Config{Dir: dir, MinFreeBytes: 1 << 20, ReserveBytes: 1 << 20, CheckInterval: time.Millisecond}, deps)
	exists := func() bool {
		fi, err := os.Stat(filepath.Join(dir, "reserve"))
		return err == nil && fi.Size() == 1<<20
	}
	require.Eventually(t, exists, 30*time.Second, time.Millisecond)
	free.Store(1000)
	require.Eventually(t, func() bool { return !exists() }, 30*time.Second, time.Millisecond)
	free.Store(1 << 30)
	require.Eventually(t, exists, 30*time.Second, time.Millisecond)
}

// smallDisk mounts a file system of a few megabytes on dir, which it makes.
func smallDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a small file system to fill")
	}
	require.NoError(t, os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a small file system to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

// writer stores distinct samples and remembers how many were acknowledged.
type writer struct {
	s     *store.Store
	next  int64
	acked map[int64]bool
}

func (w *writer) batch(late bool) error {
	var b model.Batch
	start := w.next
	for range 500 {
		at := w.next
		if late { // reaches back: goes to the second log
			at = w.next - 3_600_000
		}
		b = append(b, model.Sample{Labels: series("a", int(w.next%5)), T: at, V: rand.Float64()})
		w.next++
	}
	err := w.s.Append(context.Background(), b)
	if err == nil {
		for i := start; i < w.next; i++ {
			at := i
			if late {
				at -= 3_600_000
			}
			w.acked[at] = true
		}
	}
	return err
}

// A full disk in the middle of a record: what was acknowledged before and
// after is there, without a restart and after one.
func TestFullDiskLosesNothingAcknowledged(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late=", late), func(t *testing.T) {
			mount := t.TempDir()
			smallDisk(t, mount, 24<<20)
			dir := filepath.Join(mount, "tsdb")
			reg := prometheus.NewRegistry()
			cfg := store.Config{Dir: dir, CheckInterval: 10 * time.Millisecond, SegmentBytes: 1 << 20, OutOfOrderWindow: 3 * time.Hour}
			s, stop := storetest.Start(t, cfg, store.Deps{Registerer: reg})
			defer stop()
			w := &writer{s: s, next: time.Now().Add(-30 * time.Minute).UnixMilli(), acked: make(map[int64]bool)}
			require.NoError(t, w.batch(false))
			for range 10 {
				require.NoError(t, w.batch(late))
			}
			// Somebody else eats the disk but for a few pages.
			eater := filepath.Join(mount, "eater")
			var st syscall.Statfs_t
			require.NoError(t, syscall.Statfs(mount, &st))
			require.NoError(t, os.WriteFile(eater, make([]byte, int64(st.Bavail)*int64(st.Bsize)-20<<10), 0o600))
			var err error
			for range 1000 {
				if err = w.batch(late); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, model.ErrNoSpace)
			require.ErrorIs(t, s.Health(), model.ErrNoSpace)
			for range 20 {
				require.ErrorIs(t, w.batch(late), model.ErrNoSpace)
			}
			require.GreaterOrEqual(t, count(read(t, s, "a")), len(w.acked), "reading goes on")

			require.NoError(t, os.Remove(eater))
			require.Eventually(t, func() bool { return s.Health() == nil }, 20*time.Second, 10*time.Millisecond, "it heals by itself")
			for range 10 {
				require.NoError(t, w.batch(late))
			}
			missing(t, s, w.acked)
			// As a crash leaves it, and after a clean stop.
			crash := filepath.Join(t.TempDir(), "copy")
			require.NoError(t, os.CopyFS(crash, os.DirFS(dir)))
			c, stopCrashed := storetest.Start(t, store.Config{Dir: crash, SegmentBytes: 1 << 20, OutOfOrderWindow: 3 * time.Hour}, store.Deps{})
			missing(t, c, w.acked)
			require.Empty(t, c.Damage())
			stopCrashed()
			stop()
			s, stop = storetest.Start(t, cfg, store.Deps{})
			defer stop()
			missing(t, s, w.acked)
			require.Empty(t, s.Damage())
		})
	}
}

// missing fails when an acknowledged sample is not there.
func missing(t *testing.T, s *store.Store, acked map[int64]bool) {
	t.Helper()
	have := times(t, s, "a")
	n := 0
	for at := range acked {
		if !have[at] {
			n++
		}
	}
	require.Zero(t, n, "acknowledged samples lost, of %d", len(acked))
}

// The TSDB only counts a failed write to the second log and answers success.
func TestFailedWriteToTheSecondLogIsNotAcknowledged(t *testing.T) {
	dir := t.TempDir()
	wbl := filepath.Join(dir, "wbl")
	smallDisk(t, wbl, 2<<20)
	cfg := store.Config{Dir: dir, CheckInterval: 10 * time.Millisecond, SegmentBytes: 1 << 20, OutOfOrderWindow: 3 * time.Hour}
	s, stop := storetest.Start(t, cfg, store.Deps{})
	defer func() { stop() }()
	w := &writer{s: s, next: time.Now().Add(-30 * time.Minute).UnixMilli(), acked: make(map[int64]bool)}
	require.NoError(t, w.batch(false))
	require.NoError(t, w.batch(true))
	eater := filepath.Join(wbl, "eater")
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(wbl, &st))
	require.NoError(t, os.WriteFile(eater, make([]byte, int64(st.Bavail)*int64(st.Bsize)-8<<10), 0o600))
	// The database is closed, and opened again, when the last query has ended. That
	// shall not be before there is room: the TSDB keeps the file of a log whose last
	// page it cannot write open, and the file system would be in use for good.
	q, err := s.Querier(0, math.MaxInt64)
	require.NoError(t, err)
	for range 20 {
		if err = w.batch(true); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.NoError(t, os.Remove(eater))
	require.NoError(t, q.Close())
	require.Eventually(t, func() bool { return s.Health() == nil }, 20*time.Second, 10*time.Millisecond)
	for range 5 {
		require.NoError(t, w.batch(true))
	}
	missing(t, s, w.acked)
	crash := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(crash, os.DirFS(dir)))
	cfg.Dir = crash
	c := storetest.New(t, cfg)
	missing(t, c, w.acked)
}

// times returns the instants at which any series of a name has a sample.
func times(t testing.TB, s *store.Store, name string) map[int64]bool {
	t.Helper()
	q, err := s.Querier(0, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	out := make(map[int64]bool)
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			out[it.AtT()] = true
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

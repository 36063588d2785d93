package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// begin opens a store in dir and runs it until the test ends.
func begin(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := New(Config{Dir: dir, MinFreeBytes: -1, ReserveBytes: -1}, Deps{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	<-s.Ready()
	return s
}

// Late samples that are being written into blocks when the process is killed are
// there after it. Their chunks wait in memory for a file, and the next late sample
// is marked as the first behind them.
func TestKilledWhileLateSamplesBecomeBlocks(t *testing.T) {
	dir := t.TempDir()
	s := begin(t, dir)
	now := time.Now().UnixMilli()
	write := func(at int64) {
		app := s.Appender(context.Background())
		_, err := app.Append(0, labels.FromStrings("__name__", "x"), at, 1)
		require.NoError(t, err)
		require.NoError(t, app.Commit())
	}
	write(now)
	const late = 20
	for i := range int64(late) {
		write(now - time.Hour.Milliseconds() + 1000*i)
	}
	h, err := s.acquireRead()
	require.NoError(t, err)
	defer s.release(h)
	_, err = tsdb.NewOOOCompactionHead(context.Background(), h.db.Head()) // and no further
	require.NoError(t, err)
	write(now - time.Hour.Milliseconds() + 1000*late)

	for range 2 {
		crash := filepath.Join(t.TempDir(), "copy")
		require.NoError(t, os.CopyFS(crash, os.DirFS(dir)))
		dir = crash
		q, err := begin(t, dir).Querier(0, now)
		require.NoError(t, err)
		n := 0
		for set := q.Select(context.Background(), false, nil, everything); set.Next(); {
			for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
				n++
			}
		}
		require.NoError(t, q.Close())
		require.Equal(t, 1+late+1, n)
	}
}

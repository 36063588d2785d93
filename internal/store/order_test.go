package store_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// Two senders bring samples of the same series at the same moment, as a client
// and another server do. Whatever was acknowledged is there after a crash: the
// replay drops a sample that comes in the log after a later one.
func TestSendersOfTheSameSeriesAndACrash(t *testing.T) {
	const (
		all    = 300 // series
		rounds = 150
	)
	dir := t.TempDir()
	s := storetest.New(t, store.Config{Dir: dir})
	from := time.Now().Add(-time.Minute).UnixMilli()
	refs := make([]storage.SeriesRef, all)
	commit := func(at int64, backwards bool) {
		app := s.Appender(context.Background())
		for i := range all {
			if backwards {
				i = all - 1 - i
			}
			ref, err := app.Append(refs[i], series("a", i), from+at, float64(at))
			if err != nil {
				t.Error(err)
			}
			if refs[i] == 0 {
				refs[i] = ref
			}
		}
		if err := app.Commit(); err != nil {
			t.Error(err)
		}
	}
	commit(0, false)
	for round := range int64(rounds) {
		var both sync.WaitGroup
		both.Go(func() { commit(2*round+1, false) })
		both.Go(func() { commit(2*round+2, true) })
		both.Wait()
	}
	require.Equal(t, all*(1+2*rounds), count(read(t, s, "a")))
	require.Equal(t, all*(1+2*rounds), count(read(t, afterCrash(t, dir), "a")), "after the crash")
}

// afterCrash opens a store as a crash of the one in dir would leave it.
func afterCrash(t *testing.T, dir string) *store.Store {
	t.Helper()
	crash := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(crash, os.DirFS(dir)))
	return storetest.New(t, store.Config{Dir: crash})
}

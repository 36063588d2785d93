package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
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

// The same with series that are new: the one that comes first makes them, the
// other is the first to be acknowledged.
func TestSendersOfNewSeriesAndACrash(t *testing.T) {
	const all = 200 // series
	dir := t.TempDir()
	s := storetest.New(t, store.Config{Dir: dir})
	at := time.Now().Add(-time.Minute).UnixMilli()
	fill := func(app storage.Appender, at int64, histograms bool) {
		for i := range all {
			_, err := app.Append(0, series("a", i), at, 1)
			require.NoError(t, err)
			if histograms {
				_, err = app.AppendHistogram(0, series("h", i), at, tsdbutil.GenerateTestHistogram(1), nil)
				require.NoError(t, err)
			}
		}
	}
	first, second := s.Appender(context.Background()), s.Appender(context.Background())
	fill(first, at, true)
	fill(second, at+1, true)
	require.NoError(t, second.Commit())
	after := afterCrash(t, dir)
	require.Equal(t, all, count(read(t, after, "a")), "after the crash")
	require.Equal(t, all, count(read(t, after, "h")), "after the crash")
	require.NoError(t, first.Commit())
	after = afterCrash(t, dir)
	require.Equal(t, 2*all, count(read(t, after, "a")), "after the crash")
	require.Equal(t, 2*all, count(read(t, after, "h")), "after the crash")

	// An appender that is given up leaves nothing but the names.
	gone := s.Appender(context.Background())
	_, err := gone.Append(0, series("gone", 1), at, 1)
	require.NoError(t, err)
	late := s.Appender(context.Background())
	_, err = late.Append(0, series("gone", 1), at+1, 2)
	require.NoError(t, err)
	require.NoError(t, gone.Rollback())
	require.NoError(t, late.Commit())
	require.Equal(t, map[string][]float64{series("gone", 1).String(): {2}}, read(t, afterCrash(t, dir), "gone"))

	for round := range 20 {
		name := fmt.Sprintf("round%d", round)
		var both sync.WaitGroup
		for sender := range 2 {
			both.Go(func() {
				app := s.Appender(context.Background())
				for i := range all {
					if sender == 1 {
						i = all - 1 - i
					}
					if _, err := app.Append(0, series(name, i), at+int64(sender), 1); err != nil {
						t.Error(err)
					}
				}
				if err := app.Commit(); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	after = afterCrash(t, dir)
	for round := range 20 {
		require.Equal(t, 2*all, count(read(t, after, fmt.Sprintf("round%d", round))), "after the crash")
	}
}

// afterCrash opens a store as a crash of the one in dir would leave it.
func afterCrash(t *testing.T, dir string) *store.Store {
	t.Helper()
	crash := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(crash, os.DirFS(dir)))
	return storetest.New(t, store.Config{Dir: crash})
}

// A cut of the memory between the moment when a series is logged and the one when
// its first sample is stored forgets the series. What is acknowledged is there
// all the same.
func TestACutBeforeTheFirstCommitOfASeries(t *testing.T) {
	const all = 50 // series
	dir := t.TempDir()
	s := storetest.New(t, store.Config{Dir: dir})
	ctx := context.Background()
	now := time.Now().UnixMilli()
	old := s.Appender(ctx)
	// The newest is of now: a cut waits for appenders that may still write what is
	// an hour older than the newest.
	for at := now - (5 * time.Hour).Milliseconds(); at <= now; at += time.Minute.Milliseconds() {
		_, err := old.Append(0, series("old", 0), at, 1)
		require.NoError(t, err)
	}
	require.NoError(t, old.Commit())

	slow, quick := s.Appender(ctx), s.Appender(ctx)
	for i := range all {
		_, err := slow.Append(0, series("a", i), now, 1)
		require.NoError(t, err)
		_, err = slow.AppendHistogram(0, series("h", i), now, tsdbutil.GenerateTestHistogram(1), nil)
		require.NoError(t, err)
	}
	// It meets a series that the slow one has made, so that it logs them all.
	_, err := quick.Append(0, series("a", 0), now+1, 2)
	require.NoError(t, err)
	require.NoError(t, quick.Commit())
	require.NoError(t, s.Compact(ctx))
	require.NoError(t, slow.Commit())
	require.Equal(t, all+1, count(read(t, s, "a")))
	require.Equal(t, all, count(read(t, s, "h")))
	require.Equal(t, all+1, count(read(t, afterCrash(t, dir), "a")), "after the crash")
	require.Equal(t, all, count(read(t, afterCrash(t, dir), "h")), "after the crash")
}

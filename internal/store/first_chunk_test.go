package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// Until the TSDB has written its first chunk file since it was opened, it must
// not cut its memory while something is committed.
func TestNoCutDuringTheFirstCommits(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := New(Config{Dir: dir, OutOfOrderWindow: 48 * time.Hour, CheckInterval: 10 * time.Millisecond}, Deps{})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	<-s.Ready()
	h, err := s.acquireRead()
	require.NoError(t, err)
	defer s.release(h)

	now := time.Now()
	write := func(at time.Time) error {
		app := s.Appender(context.Background())
		for i := range 3 {
			if _, err := app.Append(0, labels.FromStrings("__name__", "x", "i", strconv.Itoa(i)), at.UnixMilli(), 1); err != nil {
				return errors.Join(err, app.Rollback())
			}
		}
		return app.Commit()
	}
	// The memory spans more than the TSDB keeps there.
	require.NoError(t, write(now.Add(-5*time.Hour)))
	require.NoError(t, write(now))
	require.False(t, h.first.look())

	inside, leave := make(chan struct{}), make(chan struct{})
	cut := make(chan error, 1)
	go func() {
		cut <- h.first.cut(ctx, func() error { close(inside); <-leave; return nil })
	}()
	<-inside
	committed := make(chan error, 1)
	go func() { committed <- write(now.Add(time.Millisecond)) }()
	select {
	case err := <-committed:
		t.Fatalf("committed during a cut: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	require.NoError(t, <-cut)
	require.NoError(t, <-committed)

	// One that began long before the newest sample holds up the cut, which holds up
	// his commit: he gives way.
	h.first.patience = 200 * time.Millisecond
	app := s.Appender(ctx)
	_, err = app.Append(0, labels.FromStrings("__name__", "x", "i", "0"), now.Add(5*time.Minute).UnixMilli(), 1)
	require.NoError(t, err)
	inside, leave = make(chan struct{}), make(chan struct{})
	go func() {
		cut <- h.first.cut(ctx, func() error { close(inside); <-leave; return nil })
	}()
	<-inside
	require.ErrorIs(t, app.Commit(), model.ErrUnavailable)
	close(leave)
	require.NoError(t, <-cut)
	require.NoError(t, write(now.Add(5*time.Minute)), "the store goes on")
	h.first.patience = commitPatience

	// Who reads for long and commits what is missing, as a repair does, is not
	// kept waiting by a cut that waits for its reads.
	require.NoError(t, write(now.Add(-time.Hour))) // late, so that a cut waits for who reads it
	err = s.withQuerier(ctx, model.SampleRange{From: now.Add(-3 * time.Hour).UnixMilli(), To: now.Add(time.Hour).UnixMilli()}, func(context.Context, storage.Querier) error {
		go func() {
			cut <- h.first.cut(ctx, func() error { return h.db.CompactOOOHead(ctx) })
		}()
		for i := range 50 { // the cut has every chance to begin
			if err := write(now.Add(time.Duration(10+i) * time.Millisecond)); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, <-cut)

	// Late samples fill a chunk, which goes to a file: now both may happen, and
	// the TSDB cuts by itself.
	for i := range 40 {
		require.NoError(t, write(now.Add(-4*time.Hour+time.Duration(i)*time.Second)))
	}
	files, err := os.ReadDir(filepath.Join(dir, "chunks_head"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	require.Eventually(t, func() bool { return h.first.look() }, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, write(now.Add(2*time.Millisecond)))
	require.Eventually(t, func() bool {
		blocks, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
		// Each commit asks the TSDB whether there is something to cut.
		return err == nil && len(blocks) > 0 || write(time.Now()) != nil
	}, 20*time.Second, 50*time.Millisecond)
}

// A database that has much in memory when it begins, and is written to all the
// time, is cut all the same.
func TestCutWhileCommitsNeverPause(t *testing.T) {
	for name, n := range map[string]int{"full chunks": 600, "no chunk is full": 2} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(context.Background())
			s, err := New(Config{Dir: dir, OutOfOrderWindow: 48 * time.Hour, CheckInterval: 10 * time.Millisecond}, Deps{})
			require.NoError(t, err)
			s.patience = 100 * time.Millisecond
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			defer func() {
				cancel()
				require.NoError(t, <-done)
			}()
			<-s.Ready()
			write := func(series string, at time.Time) error {
				app := s.Appender(context.Background())
				if _, err := app.Append(0, labels.FromStrings("__name__", series), at.UnixMilli(), 1); err != nil {
					return errors.Join(err, app.Rollback())
				}
				return app.Commit()
			}
			now := time.Now()
			for i := range n {
				series := "x"
				if n == 2 {
					series += strconv.Itoa(i)
				}
				require.NoError(t, write(series, now.Add(time.Duration(i+1-n)*9*time.Hour/time.Duration(n))))
			}
			require.Eventually(t, func() bool {
				blocks, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
				return err == nil && len(blocks) > 0 || write("y", time.Now()) != nil
			}, 20*time.Second, 5*time.Millisecond)
		})
	}
}

package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

func TestVersionFollowsThePast(t *testing.T) {
	s := storetest.New(t, store.Config{})
	now := time.Now()
	add := func(at time.Time, name string) {
		t.Helper()
		require.NoError(t, s.Append(context.Background(), model.Batch{{Labels: labels.FromStrings("__name__", name), T: at.UnixMilli(), V: 1}}))
	}
	version := func(from, to time.Duration) uint64 {
		t.Helper()
		v, ok := s.Version(now.Add(-from).UnixMilli(), now.Add(-to).UnixMilli())
		require.True(t, ok)
		return v
	}
	require.WithinDuration(t, now.Add(-5*time.Minute), time.UnixMilli(s.Settled()), time.Minute)
	add(now, "a")
	old, young := version(10*time.Hour, 8*time.Hour), version(2*time.Hour, 6*time.Minute)
	add(now.Add(time.Second), "a")
	require.Equal(t, young, version(2*time.Hour, 6*time.Minute), "new samples do not change the past")

	add(now.Add(-9*time.Hour), "a")
	require.NotEqual(t, old, version(10*time.Hour, 8*time.Hour), "a late sample")
	require.Equal(t, young, version(2*time.Hour, 6*time.Minute), "elsewhere nothing changed")

	old = version(10*time.Hour, 8*time.Hour)
	add(now.Add(-9*time.Hour), "b")
	require.NotEqual(t, old, version(10*time.Hour, 8*time.Hour), "the first sample of a new series is old")

	app := s.Appender(context.Background())
	old = version(10*time.Hour, 8*time.Hour)
	_, err := app.Append(0, labels.FromStrings("__name__", "a"), now.Add(-9*time.Hour+time.Second).UnixMilli(), 1)
	require.NoError(t, err)
	require.Equal(t, old, version(10*time.Hour, 8*time.Hour), "not before it can be seen")
	require.NoError(t, app.Commit())
	require.NotEqual(t, old, version(10*time.Hour, 8*time.Hour))

	old, young = version(10*time.Hour, 8*time.Hour), version(2*time.Hour, 6*time.Minute)
	require.NoError(t, s.Delete(context.Background(), 0, now.UnixMilli(), labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")))
	require.NotEqual(t, old, version(10*time.Hour, 8*time.Hour), "a deletion")
	require.NotEqual(t, young, version(2*time.Hour, 6*time.Minute), "a deletion")

	old = version(10*time.Hour, 8*time.Hour)
	_, done, err := s.Recent(context.Background(), 0, now.UnixMilli()) // makes a block of what came late
	require.NoError(t, err)
	defer done()
	require.NotEqual(t, old, version(10*time.Hour, 8*time.Hour), "a block came")
}

func TestVersionNeedsAnOpenDatabase(t *testing.T) {
	s, stop := storetest.Start(t, store.Config{}, store.Deps{})
	stop()
	_, ok := s.Version(0, time.Now().UnixMilli())
	require.False(t, ok)
}

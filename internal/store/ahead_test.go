package store_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// A clock that was ahead for a moment leaves a sample that makes everything of
// now too old: somebody must hear of it.
func TestSamplesOfAClockThatWasAheadAreNoHealth(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	// As if the clock had been 60 hours ahead.
	s, stop := storetest.Start(t, store.Config{Dir: dir, FutureLimit: 61 * time.Hour}, store.Deps{})
	require.NoError(t, appendOne(s, series("up", 1), now.Add(60*time.Hour), 1))
	require.NoError(t, s.Health(), "within what is taken")
	stop()

	s = storetest.New(t, store.Config{Dir: dir})
	require.ErrorIs(t, appendOne(s, series("new", 1), now, 1), storage.ErrTooOldSample)
	require.ErrorIs(t, s.Health(), model.ErrUnavailable)
	require.ErrorContains(t, s.Health(), "the clock of this server is wrong, or was")

	s = storetest.New(t, store.Config{})
	require.NoError(t, s.Health(), "nothing is there")
	require.NoError(t, appendOne(s, series("up", 1), now.Add(9*time.Minute), 1))
	require.NoError(t, s.Health())
}

package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatWasTakenIsRememberedForAWhile(t *testing.T) {
	var g given
	now := time.Now()
	first := map[string][]string{"w1": {"a", "b"}, "w2": {"c"}}
	g.take(nil, first, now)
	require.False(t, g.lately("w1", "a", now))
	g.take(first, map[string][]string{"w1": {"b"}, "w3": {"a"}}, now)
	require.True(t, g.lately("w1", "a", now))
	require.True(t, g.lately("w2", "c", now), "it is gone as a whole")
	require.False(t, g.lately("w1", "b", now), "it still has that")
	require.False(t, g.lately("w3", "c", now), "that was another's")
	require.False(t, g.lately("w1", "a", now.Add(givenGrace)))
	g.take(nil, nil, now.Add(givenGrace+time.Second))
	require.Empty(t, g.until)
}

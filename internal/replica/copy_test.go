package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJoinCopiesEverything(t *testing.T) {
	c := newCluster(t)
	a := c.add("a").start()
	from, now := hoursAgo(9), hoursAgo(-1)
	a.fill(5, from, hoursAgo(0))
	a.happen(3000, from-48*3600_000)
	a.compact()
	a.put(series("late", 1), hoursAgo(5), 1) // out of order, in memory
	b := c.add("b").start()
	live := hoursAgo(0)
	b.put(series("live", 1), live, 1) // data flow already
	a.put(series("live", 1), live, 1)
	b.replica.Need(time.Time{}, time.Time{}, "joined")
	require.False(t, b.replica.Status().Complete)
	b.complete()
	require.Equal(t, a.contents(0, now), b.contents(0, now))
	s := b.replica.Status()
	require.NotZero(t, s.Done)
	require.EqualValues(t, 3000, s.Events)
	require.Equal(t, "info", b.event("store.copied").Severity)

	// Asked again, also after a restart, it knows that this was done.
	b.stop()
	b.start()
	b.replica.Need(time.Time{}, time.Time{}, "joined")
	require.True(t, b.replica.Status().Complete)
	require.Equal(t, a.contents(0, now), b.contents(0, now))
}

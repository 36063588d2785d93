package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The server that had everything was lost while the others were being filled
// from it. As long as it is on record they wait for it; when it is removed, the
// one that was there first is what the others are filled from.
func TestTheOneThatHadEverythingIsLost(t *testing.T) {
	c := newCluster(t)
	recorded := make(chan []string, 1)
	recorded <- []string{"a", "b", "lost"}
	list := func() []string {
		ids := <-recorded
		recorded <- ids
		return ids
	}
	a, b := c.add("a"), c.add("b")
	for _, s := range []*server{a, b} {
		s.deps.Recorded = list
		s.start()
	}
	a.put(series("m", 1), hoursAgo(1), 1)
	b.put(series("m", 2), hoursAgo(1), 2)
	for _, s := range []*server{a, b} {
		s.replica.Need(time.Time{}, time.Time{}, "joined")
	}
	require.Eventually(t, func() bool {
		return a.replica.Status().LastErr != "" && b.replica.Status().LastErr != ""
	}, 10*time.Second, 5*time.Millisecond)
	require.False(t, a.replica.Status().Complete)
	require.False(t, b.replica.Status().Complete)

	<-recorded
	recorded <- []string{"a", "b"}
	a.complete()
	b.complete()
	require.EqualValues(t, 1, count(a.contents(0, hoursAgo(-1))))
	require.EqualValues(t, 2, count(b.contents(0, hoursAgo(-1))), "its own and what a had")
}

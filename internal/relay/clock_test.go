package relay_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/store"
)

// skewed is a store, and the clock beside it, that are wrong by an offset.
type skewed struct {
	storage.Appendable
	by atomic.Int64 // ms
}

func (s *skewed) now() time.Time {
	return time.Now().Add(time.Duration(s.by.Load()) * time.Millisecond)
}

func (s *skewed) set(by time.Duration) { s.by.Store(by.Milliseconds()) }

func (s *skewed) Appender(ctx context.Context) storage.Appender {
	return &skewedAppender{s.Appendable.Appender(ctx), s}
}

type skewedAppender struct {
	storage.Appender
	s *skewed
}

func (a *skewedAppender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t > a.s.now().Add(10*time.Minute).UnixMilli() {
		return 0, store.ErrTooFarInFuture
	}
	return a.Appender.Append(ref, l, t, v)
}

// skew gives a node a clock that can be set wrong.
func (n *node) skew() *skewed {
	n.openStores()
	s := &skewed{Appendable: n.store}
	n.deps.Store, n.deps.Now = s, s.now
	return s
}

// A server whose clock is behind has not got what it cannot store yet: the log
// of the others keeps it.
func TestAClockBehindLosesNothing(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	clock := b.skew()
	clock.set(-20 * time.Minute)
	b.cfg.AckTimeout = 50 * time.Millisecond // the stream is begun anew now and then
	c.startAll()
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())), "nobody waits for it")
	require.Eventually(t, func() bool { return a.destination("b").Refused }, patience, time.Millisecond)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()+1)))
	require.Zero(t, b.count("m"))
	require.Positive(t, a.destination("b").Bytes)
	require.Eventually(t, func() bool { return strings.Contains(a.relay.Destinations()[0].LastErr, "clock") }, patience, time.Millisecond)
	clock.set(0)
	require.Eventually(t, func() bool { return b.count("m") == 20 && a.destination("b").Bytes == 0 }, patience, 5*time.Millisecond)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()+2)))
	require.Equal(t, 30, b.count("m"), "it is waited for again")
}

// What a server took while its own clock was wrong does not keep back the rest
// once that is right.
func TestAClockThatWasAheadHoldsNothingUp(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	b.skew() // right all the time
	b.cfg.AckTimeout = 50 * time.Millisecond
	clock := &skewed{}
	a.deps.Now = clock.now
	a.storage = store.Config{FutureLimit: 24 * time.Hour} // as if its clock were ahead
	clock.set(8 * time.Hour)
	c.startAll()
	at := now()
	require.NoError(t, a.relay.Append(context.Background(), batch("odd", 10, at+(8*time.Hour).Milliseconds())))
	require.Eventually(t, func() bool { return a.destination("b").Refused }, patience, time.Millisecond)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, at)))
	require.Zero(t, b.count("m"), "in order")
	clock.set(0)
	require.Eventually(t, func() bool { return b.count("m") == 10 && a.destination("b").Bytes == 0 }, patience, 5*time.Millisecond)
}

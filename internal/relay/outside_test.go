package relay_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/relay"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// outside is another engine: a store that can be away.
type outside struct {
	*store.Store
	away    atomic.Bool
	commits atomic.Int64
}

var errAway = errors.New("the engine is away")

func (o *outside) Err() error {
	if o.away.Load() {
		return errAway
	}
	return nil
}

func (o *outside) Appender(ctx context.Context) storage.Appender {
	return &outsideAppender{o.Store.Appender(ctx), o}
}

type outsideAppender struct {
	storage.Appender
	o *outside
}

func (a *outsideAppender) Commit() error {
	if a.o.away.Load() {
		return errors.Join(errAway, a.Rollback())
	}
	a.o.commits.Add(1)
	return a.Appender.Commit()
}

func newOutside(t testing.TB) *outside {
	return &outside{Store: storetest.New(t, store.Config{})}
}

// ready waits until the log takes something.
func (n *node) ready() {
	n.c.t.Helper()
	require.Eventually(n.c.t, func() bool { return n.relay.Append(context.Background(), batch("first", 1, now())) == nil }, patience, time.Millisecond)
}

func (n *node) behind(id string) int64 {
	for _, d := range n.relay.Destinations() {
		if d.NodeID == id {
			return d.Bytes
		}
	}
	return -1
}

// node lends the engine the eyes of a server.
func (o *outside) node(t testing.TB) *node { return &node{c: &cluster{t: t}, store: o.Store} }

func (o *outside) count(t testing.TB) int { return o.node(t).count("m") }

// What a server takes comes to an engine outside, in order, whether or not
// there are other servers; while it is away nobody waits for it, and a restart
// loses nothing.
func TestOutsideGetsEverything(t *testing.T) {
	c := newCluster(t, "a")
	a, out := c.nodes["a"], newOutside(t)
	a.cfg.SegmentBytes = 8 << 10
	a.deps.Outside = map[string]relay.Outside{"engine": out}
	a.start().ready()
	a.relay.SetDestinations(nil)
	start := now() - 100_000
	add := func(from, to int64) {
		for i := from; i < to; i++ {
			require.NoError(t, a.relay.Append(context.Background(), batch("m", 20, start+i)))
			require.NoError(t, a.relay.AppendEvents(context.Background(), event("of no interest")))
		}
	}
	add(0, 50)
	require.Eventually(t, func() bool { return out.count(t) == 20*50 && a.behind("engine") == 0 }, patience, 10*time.Millisecond)

	out.away.Store(true)
	add(50, 100)
	require.Equal(t, errAway.Error(), a.relay.Destinations()[0].LastErr)
	require.True(t, a.relay.Destinations()[0].Outside)
	a.stop()
	a.start().ready()
	a.relay.SetDestinations(nil)
	add(100, 120)
	require.Positive(t, a.behind("engine"))
	require.Equal(t, 20*50, out.count(t))
	out.away.Store(false)
	require.Eventually(t, func() bool { return out.count(t) == 20*120 && a.behind("engine") == 0 }, patience, 10*time.Millisecond)
	require.Empty(t, cmp.Diff(a.read("m"), out.node(t).read("m"), cmp.AllowUnexported(point{})))
	require.Empty(t, a.relay.Destinations()[0].LastErr)
	// What it has is not kept.
	require.Eventually(t, func() bool { return len(a.segments()) <= 1 }, patience, 10*time.Millisecond)
}

// Small writes are gathered.
func TestOutsideIsHandedBatches(t *testing.T) {
	c := newCluster(t, "a")
	a, out := c.nodes["a"], newOutside(t)
	a.deps.Outside = map[string]relay.Outside{"engine": out}
	a.start().ready()
	start := now() - 100_000
	for i := range int64(200) {
		require.NoError(t, a.relay.Append(context.Background(), batch("m", 2, start+i)))
	}
	require.Eventually(t, func() bool { return out.count(t) == 400 }, patience, 10*time.Millisecond)
	require.LessOrEqual(t, out.commits.Load(), int64(20))
}

// A damaged segment costs its rest, not what comes behind.
func TestOutsidePassesDamage(t *testing.T) {
	c := newCluster(t, "a")
	a, out := c.nodes["a"], newOutside(t)
	a.cfg.SegmentBytes, a.cfg.TailBytes = 2<<10, 1
	a.deps.Outside = map[string]relay.Outside{"engine": out}
	out.away.Store(true)
	a.start().ready()
	start := now() - 100_000
	for i := range int64(100) {
		require.NoError(t, a.relay.Append(context.Background(), batch("m", 20, start+i)))
	}
	a.stop()
	files := a.segments()
	require.GreaterOrEqual(t, len(files), 3)
	data, err := os.ReadFile(files[1])
	require.NoError(t, err)
	data[len(data)-5] ^= 1
	require.NoError(t, os.WriteFile(filepath.Clean(files[1]), data, 0o600))
	a.start()
	out.away.Store(false)
	require.Eventually(t, func() bool { return a.behind("engine") == 0 }, patience, 10*time.Millisecond)
	n := out.count(t)
	require.Less(t, n, 2000)
	require.Greater(t, n, 200)
}

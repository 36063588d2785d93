package relay_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// gate is a store whose commits wait while it is shut.
type gate struct {
	storage.Appendable
	mu   sync.Mutex
	shut chan struct{} // nil: open
	err  error         // of commits
	held int           // commits that wait, or have waited
	slow time.Duration // what a commit takes at least
}

func (g *gate) delay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slow = d
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil { // who waits already is not forgotten
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

func (g *gate) Appender(ctx context.Context) storage.Appender {
	return &gated{g.Appendable.Appender(ctx), g}
}

type gated struct {
	storage.Appender
	g *gate
}

func (a *gated) Commit() error {
	a.g.mu.Lock()
	shut, err, slow := a.g.shut, a.g.err, a.g.slow
	if shut != nil {
		a.g.held++
	}
	a.g.mu.Unlock()
	if shut != nil {
		<-shut
	}
	if slow > 0 {
		<-time.After(slow)
	}
	if err != nil {
		return errors.Join(err, a.Appender.Rollback())
	}
	return a.Appender.Commit()
}

// gated puts a gate in front of a node's store.
func (n *node) gate() *gate {
	n.openStores()
	g := &gate{Appendable: n.store}
	n.deps.Store = g
	n.c.t.Cleanup(g.open)
	return g
}

// appending appends in the background; the answer comes over the channel.
func (n *node) appending(b model.Batch) <-chan error {
	done := make(chan error, 1)
	go func() { done <- n.relay.Append(context.Background(), b) }()
	return done
}

func answered(t testing.TB, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("no answer")
		return nil
	}
}

func (n *node) destination(id string) (d struct {
	Bytes                               int64
	Connected, Behind, Dropped, Refused bool
}) {
	for _, o := range n.relay.Destinations() {
		if o.NodeID == id {
			d.Bytes, d.Connected, d.Behind, d.Dropped, d.Refused = o.Bytes, o.Connected, o.Behind, o.Dropped, o.LastErr != ""
		}
	}
	return d
}

// A writer waits for one other server, not for all.
func TestOneOtherServerIsEnough(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	slow := c.nodes["c"].gate()
	c.startAll()
	a := c.nodes["a"]
	slow.close()
	for i := range 10 {
		require.NoError(t, answered(t, a.appending(batch("m", 10, now()-1000+int64(i)))))
	}
	require.Equal(t, 100, c.nodes["b"].count("m"))
	require.Zero(t, c.nodes["c"].count("m"))
	slow.open()
	require.Eventually(t, func() bool { return c.nodes["c"].count("m") == 100 }, patience, 5*time.Millisecond)
}

// A server that does not answer is waited for until it is said not to be alive.
func TestSetAliveReleasesWriters(t *testing.T) {
	c := newCluster(t, "a", "b")
	paused := c.nodes["b"].gate()
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	paused.close()
	done := a.appending(batch("m", 10, now()))
	require.Eventually(t, func() bool { return paused.waiting() > 0 }, patience, time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("answered before the other server had it: %v", err)
	default:
	}
	a.relay.SetAlive([]string{"a"})
	require.NoError(t, answered(t, done))
	require.NoError(t, answered(t, a.appending(batch("m", 10, now()+1))), "nobody waits for it any more")
	paused.open()
	require.Eventually(t, func() bool { return b.count("m") == 20 }, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool { return a.destination("b").Bytes == 0 }, patience, 5*time.Millisecond)
}

// Without a word from gossip a server that leaves things unacknowledged, or is
// not reached, is waited for as long as the configuration says.
func TestWaitingHasAnEnd(t *testing.T) {
	for name, fault := range map[string]func(c *cluster, g *gate){
		"silent":      func(_ *cluster, g *gate) { g.close() },
		"unreachable": func(c *cluster, _ *gate) { c.link("a", "b", false) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			g := c.nodes["b"].gate()
			c.nodes["a"].cfg.AckTimeout, c.nodes["a"].cfg.ConnectTimeout = 300*time.Millisecond, 300*time.Millisecond
			c.startAll()
			a := c.nodes["a"]
			whole := func() bool { d := a.destination("b"); return d.Connected && !d.Behind && d.Bytes == 0 }
			require.NoError(t, a.relay.Append(context.Background(), batch("m", 1, now())))
			require.Eventually(t, whole, patience, 5*time.Millisecond)
			begun := time.Now()
			fault(c, g)
			require.NoError(t, answered(t, a.appending(batch("m", 10, now()+1))))
			require.GreaterOrEqual(t, time.Since(begun), 250*time.Millisecond)
			// When it works again it counts again.
			g.open()
			c.link("a", "b", true)
			counted := false
			for i := int64(0); i < 5 && !counted; i++ { // a machine that stands still is too late now and then
				require.Eventually(t, whole, patience, 5*time.Millisecond)
				require.NoError(t, a.relay.Append(context.Background(), batch("m", 1, now()+2)))
				counted = c.nodes["b"].count("m") == int(12+i)
			}
			require.True(t, counted)
		})
	}
}

// A server whose disk is full keeps its place and holds nobody up.
func TestDiskFullThere(t *testing.T) {
	c := newCluster(t, "a", "b")
	full := c.nodes["b"].gate()
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	full.fail(model.ErrNoSpace)
	for i := range 5 {
		require.NoError(t, answered(t, a.appending(batch("m", 10, now()+int64(i)))))
	}
	require.True(t, a.destination("b").Refused)
	require.Zero(t, b.count("m"))
	full.fail(nil)
	require.Eventually(t, func() bool { return b.count("m") == 50 }, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool { return !a.destination("b").Refused }, patience, 5*time.Millisecond)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 1, now()+100)))
	require.Equal(t, 51, b.count("m"), "it is waited for again")
}

// A server that was away gets everything in order, and writers do not wait
// while it catches up.
func TestReturningServerCatchesUp(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.nodes["a"].cfg.SegmentBytes = 20_000
	c.nodes["a"].cfg.WindowBytes = 50_000
	c.nodes["a"].cfg.TailBytes = 10_000
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()-10_000)))
	c.setAlive("a")
	b.stop()
	rnd := batch("m", 400, 0)
	start := now() - 9000
	for i := range 60 {
		for k := range rnd {
			rnd[k].T, rnd[k].V = start+int64(i), float64(k)*1.1/float64(i+3)
		}
		require.NoError(t, a.relay.Append(context.Background(), rnd))
		require.NoError(t, a.relay.AppendEvents(context.Background(), event("e")))
	}
	require.Greater(t, a.destination("b").Bytes, int64(50_000))
	require.NotZero(t, a.relay.Destinations()[0].Oldest)
	require.Zero(t, a.relay.Lag(), "it is not alive")
	slow := b.gate()
	b.start()
	b.relay.SetDestinations(c.ids())
	slow.close()
	c.setAlive("a", "b")
	require.Eventually(t, func() bool { return a.destination("b").Behind }, patience, time.Millisecond)
	require.Positive(t, a.relay.Lag())
	require.NoError(t, answered(t, a.appending(batch("live", 1, now()))))
	slow.open()
	require.Eventually(t, func() bool { return a.destination("b").Bytes == 0 }, patience, 5*time.Millisecond)
	require.False(t, a.destination("b").Behind)
	require.Empty(t, cmp.Diff(a.read("m"), b.read("m"), cmp.AllowUnexported(point{})))
	require.Equal(t, a.allEvents(t), b.allEvents(t))
	require.Zero(t, b.outOfOrder(), "the backlog came in order")
	require.Eventually(t, func() bool { return len(a.segments()) <= 1 }, patience, 5*time.Millisecond, "what all have is deleted")
}

// hanging is a history that never answers, as that of a server that is killed
// now.
type hanging struct{ context.Context }

func (h hanging) Append(context.Context, ...model.Event) error {
	<-h.Done()
	return h.Err()
}

// A server that dies while it stores an event has handed it on: nobody has
// for himself what the others only find when they compare.
func TestEventsAreHandedOnFirst(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	ctx, kill := context.WithCancel(context.Background())
	a.deps.Events = hanging{ctx}
	c.startAll()
	e := event("the last word")
	done := make(chan error, 1)
	go func() { done <- a.relay.AppendEvents(context.Background(), e) }()
	require.Eventually(t, func() bool { return len(b.allEvents(t)) == 1 }, patience, time.Millisecond)
	kill()
	require.ErrorIs(t, <-done, context.Canceled, "it is not acknowledged")
	require.Contains(t, b.allEvents(t), e.ID)
}

package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/relay"
)

func nativeHistogram(n uint64) *histogram.Histogram {
	return &histogram.Histogram{Schema: 2, ZeroThreshold: 0.001, Count: 3 * n, Sum: float64(n) * 1.5,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []int64{int64(n), int64(n)}}
}

// histograms returns the native histograms of a metric as text.
func (n *node) histograms(name string) (list []string) {
	t := n.c.t
	q, err := n.store.Querier(0, now()+3_600_000)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	for set.Next() {
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != 0; kind = it.Next() {
			at, fh := it.AtFloatHistogram(nil)
			list = append(list, time.UnixMilli(at).UTC().String()+" "+fh.String())
		}
	}
	require.NoError(t, set.Err())
	return list
}

func (n *node) exemplars(name string) []exemplar.QueryResult {
	q, err := n.store.ExemplarQuerier(context.Background())
	require.NoError(n.c.t, err)
	got, err := q.Select(0, now()+3_600_000, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", name)})
	require.NoError(n.c.t, err)
	return got
}

// Everything that an appender takes arrives as it was taken.
func TestEverythingIsRelayed(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	at := now() - 60_000
	ls, hs, fs, st := series("counter", 1), series("hist", 1), series("fhist", 1), series("started", 1)
	app := a.relay.Appender(context.Background())
	ref, err := app.Append(0, ls, at, 1)
	require.NoError(t, err)
	require.NotZero(t, ref)
	again, err := app.Append(ref, labels.EmptyLabels(), at+1, 2)
	require.NoError(t, err, "a reference is enough")
	require.Equal(t, ref, again)
	_, err = app.AppendExemplar(ref, ls, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "x"), Value: 5, Ts: at, HasTs: true})
	require.NoError(t, err)
	_, err = app.UpdateMetadata(ref, ls, metadata.Metadata{Type: "counter", Help: "Help."})
	require.NoError(t, err)
	_, err = app.AppendHistogram(0, hs, at, nativeHistogram(1), nil)
	require.NoError(t, err)
	_, err = app.AppendHistogram(0, fs, at, nil, nativeHistogram(2).ToFloat(nil))
	require.NoError(t, err)
	_, err = app.AppendSTZeroSample(0, st, at, at-1000)
	require.NoError(t, err)
	_, err = app.Append(0, st, at, 7)
	require.NoError(t, err)
	_, err = app.AppendHistogramSTZeroSample(0, series("hstarted", 1), at, at-1000, nativeHistogram(3), nil)
	require.NoError(t, err)
	require.NoError(t, app.Commit())

	require.Equal(t, 2, b.count("counter"))
	require.Equal(t, map[string][]point{st.String(): {{at - 1000, 0}, {at, 7}}}, b.read("started"))
	for _, name := range []string{"counter", "started"} {
		require.Empty(t, cmp.Diff(a.read(name), b.read(name), cmp.AllowUnexported(point{})))
	}
	for _, name := range []string{"hist", "fhist", "hstarted"} {
		require.NotEmpty(t, b.histograms(name))
		require.Equal(t, a.histograms(name), b.histograms(name))
	}
	require.Len(t, b.exemplars("counter"), 1)
	require.Equal(t, a.exemplars("counter"), b.exemplars("counter"))

	// GetRef is that of the store, and an ended appender refuses.
	app = a.relay.Appender(context.Background())
	got, _ := app.(storage.GetRef).GetRef(ls, ls.Hash())
	require.Equal(t, ref, got)
	require.NoError(t, app.Rollback())
	_, err = app.Append(ref, ls, at+5, 1)
	require.Error(t, err)
	require.Error(t, app.Commit())
}

// What the own store refuses, or is rolled back, is not sent.
func TestRefusedIsNotRelayed(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	at := now()
	mixed := batch("m", 3, at)
	mixed[1].T = at + 3_600_000 // too far ahead
	err := a.relay.Append(context.Background(), mixed)
	var refused *relay.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 1, refused.Count)
	require.Equal(t, 3, refused.Of)
	require.ErrorIs(t, err, storage.ErrOutOfBounds)
	require.Equal(t, 2, a.count("m"))
	require.Equal(t, 2, b.count("m"))

	app := a.relay.Appender(context.Background())
	app.SetOptions(&storage.AppendOptions{DiscardOutOfOrder: true})
	_, err = app.Append(0, series("m", 0), at-5000, 9)
	require.ErrorIs(t, err, storage.ErrOutOfOrderSample)
	require.NoError(t, app.Commit())
	app = a.relay.Appender(context.Background())
	_, err = app.Append(0, series("m", 0), at+1, 9)
	require.NoError(t, err)
	require.NoError(t, app.Rollback())
	require.NoError(t, a.relay.Append(context.Background(), batch("last", 1, at)))
	require.Equal(t, 2, b.count("m"))
	require.Equal(t, 1, b.count("last"))

	bad := event("good")
	bad.Data = []byte("{")
	var inv model.Invalid
	require.ErrorAs(t, a.relay.AppendEvents(context.Background(), event("good, too"), bad), &inv)
	require.Equal(t, "events[1].data", inv[0].Field)
	require.NoError(t, a.relay.AppendEvents(context.Background(), event("last")))
	require.Len(t, b.allEvents(t), 1, "nothing of what is refused here is sent")
}

// Without destinations there is no log.
func TestNoDestinationsNoLog(t *testing.T) {
	c := newCluster(t, "a")
	c.startAll()
	a := c.nodes["a"]
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
	require.NoError(t, a.relay.AppendEvents(context.Background(), event("x")))
	require.Equal(t, 10, a.count("m"))
	require.Empty(t, a.segments())
	require.Empty(t, a.relay.Destinations())
}

// A new destination begins at the end of the log, one that is removed is forgotten.
func TestDestinationsComeAndGo(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for _, n := range c.nodes {
		n.start()
	}
	a := c.nodes["a"]
	a.relay.SetAlive(c.ids()) // known before they are destinations
	a.relay.SetDestinations([]string{"a", "b"})
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
	require.Equal(t, 10, c.nodes["b"].count("m"))
	a.relay.SetDestinations([]string{"c"})
	require.Len(t, a.relay.Destinations(), 1)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()+1)))
	require.Equal(t, 10, c.nodes["c"].count("m"))
	require.Equal(t, 10, c.nodes["b"].count("m"))
	a.relay.SetDestinations(nil)
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()+2)))
	require.Equal(t, 10, c.nodes["c"].count("m"))
}

// What was received is not sent on, and the same event twice is one.
func TestReceivedIsNotRelayed(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.startAll()
	c.link("a", "c", false)
	for _, n := range c.nodes {
		n.relay.SetAlive([]string{"a", "b"})
	}
	a, b := c.nodes["a"], c.nodes["b"]
	e := event("x")
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
	require.NoError(t, a.relay.AppendEvents(context.Background(), e))
	require.NoError(t, b.relay.Append(context.Background(), batch("other", 10, now())))
	require.NoError(t, b.relay.AppendEvents(context.Background(), e))
	require.Eventually(t, func() bool { return c.nodes["c"].count("other") == 10 }, patience, 5*time.Millisecond)
	require.Zero(t, c.nodes["c"].count("m"))
	require.Len(t, a.allEvents(t), 1)
}

// Sources tell who sends and how far behind that is.
func TestSources(t *testing.T) {
	c := newCluster(t, "a", "b")
	g := c.nodes["b"].gate()
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
	require.Len(t, b.relay.Sources(), 1)
	require.Equal(t, "a", b.relay.Sources()[0].NodeID)
	require.WithinDuration(t, time.Now(), b.relay.Sources()[0].LastHeard, 10*time.Second)
	require.Zero(t, b.relay.Sources()[0].Lag)
	g.close()
	done := a.appending(batch("m", 10, now()+1))
	require.Eventually(t, func() bool { return b.relay.Sources()[0].Lag > 0 }, patience, 10*time.Millisecond)
	g.open()
	require.NoError(t, answered(t, done))
	require.Eventually(t, func() bool { return b.relay.Sources()[0].Lag == 0 }, patience, 10*time.Millisecond)
}

// A caller that gives up is not told that all is well.
func TestContextEnds(t *testing.T) {
	c := newCluster(t, "a", "b")
	g := c.nodes["b"].gate()
	c.startAll()
	g.close()
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.nodes["a"].relay.Append(ctx, batch("m", 1, now())) }()
	require.Eventually(t, func() bool { return g.waiting() > 0 }, patience, time.Millisecond)
	why := errors.New("no patience")
	cancel(why)
	err := answered(t, done)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorIs(t, err, why)
}

package relay_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func now() int64 { return time.Now().UnixMilli() }

func batch(name string, n int, at int64) model.Batch {
	b := make(model.Batch, n)
	for i := range b {
		b[i] = model.Sample{Labels: series(name, i), T: at, V: float64(i) + 0.25}
	}
	return b
}

func event(text string) model.Event {
	return model.Event{ID: ulid.Make().String(), Time: time.Now(), Kind: model.EventAudit, Subject: "test/1", Message: text}
}

func (n *node) allEvents(t testing.TB) map[string]model.Event {
	t.Helper()
	list, _, err := n.events.Query(context.Background(), model.EventQuery{Limit: 1000})
	require.NoError(t, err)
	m := map[string]model.Event{}
	for _, e := range list {
		m[e.ID] = e
	}
	return m
}

// What is acknowledged is on another server already.
func TestAcknowledgedIsElsewhere(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.startAll()
	a, b := c.nodes["a"], c.nodes["b"]
	for i := range 20 {
		require.NoError(t, a.relay.Append(context.Background(), batch("m", 50, now()-1000+int64(i))))
		require.Equal(t, 50*(i+1), b.count("m"))
	}
	require.Empty(t, cmp.Diff(a.read("m"), b.read("m"), cmp.AllowUnexported(point{})))
	e := event("hello")
	require.NoError(t, a.relay.AppendEvents(context.Background(), e))
	require.Contains(t, b.allEvents(t), e.ID)
	require.Contains(t, a.allEvents(t), e.ID)
}

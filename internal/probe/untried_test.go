package probe_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
)

// A worker that cannot or may not run a check says so, and claims nothing about
// the target.
func TestWhatAWorkerCannotDoIsNoFailure(t *testing.T) {
	found := make(chan model.Result, 10)
	var kinds []probe.Kind
	for _, k := range all.Kinds() {
		if k.Name() != "dns" {
			kinds = append(kinds, k)
		}
	}
	w, err := probe.NewWorker(probe.WorkerConfig{Node: "a1", Region: "eu"}, probe.WorkerDeps{
		Kinds: kinds, Sink: sinkTo(found), Env: &probe.Env{Dialer: probe.NewDialer(probe.Policy{}), Now: time.Now},
	})
	require.NoError(t, err)
	list := []model.Check{
		{ID: "c1", Name: "c1", Type: "dns", Target: "www.example.com"},
		{ID: "c2", Name: "c2", Type: "tcp", Target: "10.1.2.3:80"},
		{ID: "c3", Name: "c3", Type: "http", Target: "http://10.1.2.3/"},
		{ID: "c4", Name: "c4", Type: "tls", Target: "10.1.2.3:443"},
		{ID: "c5", Name: "c5", Type: "websocket", Target: "ws://10.1.2.3/"},
		{ID: "c6", Name: "c6", Type: "grpc", Target: "10.1.2.3:443"},
		{ID: "c7", Name: "c7", Type: "icmp", Target: "10.1.2.3", Inverted: true},
	}
	w.Update(list)
	for _, c := range list {
		r, err := w.RunNow(t.Context(), c.ID)
		require.NoError(t, err)
		require.True(t, r.Untried, "%s: %s", c.Type, r.Message)
		require.False(t, r.Success)
		require.Empty(t, r.Samples, c.Type)
		require.NotEmpty(t, r.Message)
	}
	require.False(t, probe.Untried(errors.New("connection refused")))
	require.True(t, probe.Untried(fmt.Errorf("open: %w", probe.NotTried(errors.New("not permitted")))))
	require.Equal(t, "not permitted", probe.NotTried(errors.New("not permitted")).Error())
}

type sinkTo chan model.Result

func (s sinkTo) Result(r model.Result) { s <- r }

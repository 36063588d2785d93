package probe_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/test/harness"
)

func TestReferencesDecideWhetherTheWorkerIsCutOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dead := harness.FreeAddr(t, "127.0.0.1")
	f := func(want bool, refs ...string) {
		t.Helper()
		var fail sync.Map
		fail.Store("a", true)
		reg := prometheus.NewRegistry()
		w, err := probe.NewWorker(probe.WorkerConfig{Node: "n"}, probe.WorkerDeps{
			Kinds: []probe.Kind{fake{fail: &fail}}, Sink: &sink{}, Registerer: reg, References: func() []string { return refs }})
		require.NoError(t, err)
		w.Update([]model.Check{check("a", "", time.Minute)})
		r, err := w.RunNow(context.Background(), "a")
		require.NoError(t, err)
		require.False(t, r.Success)
		require.Equal(t, want, r.Abstain)
		n, err := testutil.GatherAndCount(reg, "panoptes_probe_runs_total", "panoptes_probe_checks")
		require.NoError(t, err)
		require.Equal(t, 2, n)
	}
	f(false, l.Addr().String(), dead)
	f(true, dead, "127.0.0.1:1")
	f(false)
}

// A kind that panics must not end the watch over the other checks.
type panics struct{ fake }

func (panics) Compile(*model.Check, *probe.Env) (probe.Probe, error) { return panicProbe{}, nil }

type panicProbe struct{}

func (panicProbe) Run(context.Context) probe.Outcome { panic("boom") }

func TestPanicIsAFailedRun(t *testing.T) {
	w, err := probe.NewWorker(probe.WorkerConfig{Node: "n"}, probe.WorkerDeps{Kinds: []probe.Kind{panics{}}, Sink: &sink{}})
	require.NoError(t, err)
	r, err := w.Test(t.Context(), check("", "", time.Minute))
	require.NoError(t, err)
	require.False(t, r.Success)
	require.Contains(t, r.Message, "internal error")
}

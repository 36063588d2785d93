package collect

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet keeps the faults that tests make out of their output.
var quiet = Deps{Log: slog.New(slog.DiscardHandler)}

type fake struct {
	name string
	f    func(ctx context.Context, out *metric.Batch) error
}

func (f fake) Name() string { return f.name }

func (f fake) Collect(ctx context.Context, out *metric.Batch) error { return f.f(ctx, out) }

func fakes(list ...metric.Collector) []entry {
	var out []entry
	for _, c := range list {
		out = append(out, entry{Info{Name: c.Name(), Default: true}, func(Config, patterns) metric.Collector { return c }})
	}
	return out
}

func value(t *testing.T, b model.Batch, series string) float64 {
	t.Helper()
	v, ok := find(b, series)
	require.True(t, ok, "no series %s", series)
	return v
}

func find(b model.Batch, series string) (float64, bool) {
	for _, s := range b {
		if s.Labels.String() == series {
			return s.V, true
		}
	}
	return 0, false
}

const (
	successA    = `{__name__="node_scrape_collector_success", collector="a"}`
	successHung = `{__name__="node_scrape_collector_success", collector="hung"}`
)

func TestHangingCollectorHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, calls := make(chan struct{}), make(chan struct{}, 100)
		s, err := newSet(Config{Timeout: model.Duration(50 * time.Millisecond)}, quiet, fakes(
			fake{"hung", func(context.Context, *metric.Batch) error { calls <- struct{}{}; <-release; return nil }},
			fake{"a", func(_ context.Context, out *metric.Batch) error { out.Add("node_a", 1); return nil }},
		))
		require.NoError(t, err)
		for range 3 {
			begin := time.Now()
			b := s.Collect(t.Context(), time.Now())
			require.Less(t, time.Since(begin), time.Second)
			require.Equal(t, 0., value(t, b, successHung))
			require.Equal(t, 1., value(t, b, successA))
			require.Equal(t, 1., value(t, b, `{__name__="node_a"}`))
		}
		require.Len(t, calls, 1, "a collector that hangs is not called again")
		close(release)
		require.Eventually(t, func() bool {
			v, _ := find(s.Collect(t.Context(), time.Now()), successHung)
			return v == 1
		}, 30*time.Second, 10*time.Millisecond, "it works again when it has returned")
		require.NoError(t, s.Close())
	})
}

func TestFaultsOfOneCollector(t *testing.T) {
	s, err := newSet(Config{MaxSeries: 2}, quiet, fakes(
		fake{"a", func(_ context.Context, out *metric.Batch) error {
			for _, d := range []string{"x", "x", "y", "z"} {
				out.Add("node_a", 1, "device", d)
			}
			return nil
		}},
		fake{"panics", func(context.Context, *metric.Batch) error { panic("garbage") }},
		fake{"fails", func(_ context.Context, out *metric.Batch) error { out.Add("node_b", 2); return errors.New("half") }},
	))
	require.NoError(t, err)
	defer s.Close()
	b := s.Collect(t.Context(), time.Now())
	require.Equal(t, 1., value(t, b, `{__name__="node_a", device="y"}`))
	_, ok := find(b, `{__name__="node_a", device="z"}`)
	require.False(t, ok, "above the bound on series")
	require.Equal(t, 1., value(t, b, `{__name__="panoptes_agent_collect_dropped_samples", collector="a", reason="limit"}`))
	require.Equal(t, 1., value(t, b, `{__name__="panoptes_agent_collect_dropped_samples", collector="a", reason="duplicate"}`))
	require.Equal(t, 0., value(t, b, `{__name__="node_scrape_collector_success", collector="panics"}`))
	require.Equal(t, 0., value(t, b, `{__name__="node_scrape_collector_success", collector="fails"}`))
	require.Equal(t, 2., value(t, b, `{__name__="node_b"}`), "what could be read is there")
}

func TestConfigureLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fake{"a", func(_ context.Context, out *metric.Batch) error { out.Add("node_a", 1); return nil }}
		release := make(chan struct{})
		h := fake{"hung", func(context.Context, *metric.Batch) error { <-release; return nil }}
		s, err := newSet(Config{Timeout: model.Duration(20 * time.Millisecond)}, quiet, fakes(a, h))
		require.NoError(t, err)
		s.Collect(t.Context(), time.Now())

		var inv model.Invalid
		require.ErrorAs(t, s.Configure(Config{Disabled: []string{"b"}}), &inv)
		require.Equal(t, "disabled", inv[0].Field)

		require.NoError(t, s.Configure(Config{Disabled: []string{"*"}, Enabled: []string{"a"}}))
		_, ok := find(s.Collect(t.Context(), time.Now()), successHung)
		require.False(t, ok)
		// Switched on again while the old run still hangs: no second run.
		require.NoError(t, s.Configure(Config{Timeout: model.Duration(20 * time.Millisecond)}))
		require.Equal(t, 0., value(t, s.Collect(t.Context(), time.Now()), successHung))
		close(release)
		require.NoError(t, s.Close())
		require.Nil(t, s.Collect(t.Context(), time.Now()))
	})
}

func TestSlowCollectorRunsBesideRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		known := fakes(fake{"slow", func(ctx context.Context, out *metric.Batch) error {
			<-release
			out.Add("node_slow", 7)
			return nil
		}})
		known[0].Every = time.Hour
		s, err := newSet(Config{}, quiet, known)
		require.NoError(t, err)
		defer s.Close()
		require.Empty(t, s.Collect(t.Context(), time.Now()), "the first run is not over")
		close(release)
		at := time.Now().Add(time.Minute)
		require.Eventually(t, func() bool { return len(s.Collect(t.Context(), at)) > 1 }, 30*time.Second, 5*time.Millisecond)
		b := s.Collect(t.Context(), at)
		require.Equal(t, 7., value(t, b, `{__name__="node_slow"}`))
		require.Equal(t, at.UnixMilli(), b[0].T, "kept samples carry the instant of the round")
	})
}

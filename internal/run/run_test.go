package run_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"panoptes/internal/run"
)

type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *log) part(name string) run.Runner {
	return run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		l.add("stop " + name)
		return ctx.Err()
	})
}

func TestStopsBottomToTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- run.Tiers(ctx, [][]run.Runner{{l.part("control")}, {nil, l.part("store")}, {l.part("web")}})
		}()
		synctest.Wait()
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, []string{"stop web", "stop store", "stop control"}, l.lines)
	})
}

func TestFirstFailureStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		broken := errors.New("disk on fire")
		err := run.Tiers(t.Context(), [][]run.Runner{{l.part("store")}, {run.Func(func(context.Context) error { return broken })}})
		require.ErrorIs(t, err, broken)
		require.Equal(t, []string{"stop store"}, l.lines)
	})
}

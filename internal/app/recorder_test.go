package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// Events that wait when the server is stopped are stored all the same, also those
// that a slow disk, or one that takes nothing for a moment, has in hand.
func TestEventsThatWaitAtTheEndAreStored(t *testing.T) {
	f := func(name string, lost float64, append func(context.Context) error) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var stored int
				r := newRecorder(func(ctx context.Context, list ...model.Event) error {
					err := append(ctx)
					if err == nil {
						mu.Lock()
						stored += len(list)
						mu.Unlock()
					}
					return err
				}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Run(ctx) }()
				for i := range 10 {
					r.record(model.Event{Subject: fmt.Sprint("test/", i)})
					synctest.Wait() // the first is in hand, the others wait
				}
				begun := time.Now()
				cancel()
				require.NoError(t, <-done)
				require.Equal(t, lost, testutil.ToFloat64(r.dropped))
				require.EqualValues(t, 10-lost, stored)
				require.LessOrEqual(t, time.Since(begun), 5*time.Second)
			})
		})
	}
	f("slow", 0, func(ctx context.Context) error {
		select {
		case <-time.After(2 * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	var since time.Time
	f("nothing for a moment", 0, func(context.Context) error {
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return errors.New("full")
		}
		return nil
	})
	f("nothing any more", 10, func(context.Context) error { return errors.New("full") })
}

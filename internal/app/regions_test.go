package app

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

func TestAlertOfARegionThatIsGoneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards what follows
		names, workers := []string{"eu", "us"}, map[string]int{"eu": 1, "us": 1}
		var last alert.Alert
		sent := 0
		set := func(n []string, us int) {
			mu.Lock()
			defer mu.Unlock()
			names, workers = n, map[string]int{"eu": 1, "us": us}
		}
		regions := func() []string { mu.Lock(); defer mu.Unlock(); return names }
		r := newRegionAlerts(nil, slog.New(slog.DiscardHandler))
		r.names = regions
		r.put = func(_ context.Context, list ...alert.Alert) error {
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, list, 1)
			last = list[0]
			sent++
			return nil
		}
		e, err := verdict.New(verdict.Config{Node: "n"}, verdict.Deps{
			Regions: regions, Workers: func() map[string]int { mu.Lock(); defer mu.Unlock(); return workers },
			RegionChanged: r.take,
		})
		require.NoError(t, err)
		r.adopt = e.AdoptRegion
		c := model.Check{ID: "c1", Name: "shop", Type: "http", Target: "https://x/"}
		c.Default()
		e.Update([]model.Check{c}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		go func() { _ = r.Run(ctx) }()
		defer synctest.Wait()
		defer cancel()
		firing := func() bool {
			mu.Lock()
			defer mu.Unlock()
			require.True(t, sent == 0 || last.Labels[model.LabelRegion] == "us")
			return sent > 0 && last.EndsAt.After(time.Now())
		}
		tellings := func() int { mu.Lock(); defer mu.Unlock(); return sent }

		time.Sleep(time.Minute)
		require.False(t, firing())
		set([]string{"eu", "us"}, 0)
		time.Sleep(2 * time.Minute)
		require.True(t, firing())

		// Its record comes and goes: it is told when it votes again.
		set([]string{"eu"}, 0)
		time.Sleep(20 * time.Second)
		set([]string{"eu", "us"}, 1)
		require.True(t, firing())
		time.Sleep(5 * time.Minute)
		require.False(t, firing())

		set([]string{"eu", "us"}, 0)
		time.Sleep(2 * time.Minute)
		require.True(t, firing())
		mu.Lock()
		names = nil // not known
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		require.True(t, firing())

		set([]string{"eu"}, 0) // its server is removed
		time.Sleep(3 * time.Minute)
		require.False(t, firing())
		was := tellings()
		time.Sleep(time.Hour)
		require.Equal(t, was, tellings(), "once")

		set([]string{"eu", "us"}, 1) // a new one
		time.Sleep(2 * time.Minute)
		require.False(t, firing())
		set([]string{"eu", "us"}, 0)
		time.Sleep(2 * time.Minute)
		require.True(t, firing())
	})
}

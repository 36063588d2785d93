package service_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/service"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// board is what was measured last.
type board struct {
	mu   sync.Mutex // guards last
	last map[string]float64
}

func (b *board) emit(batch model.Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range batch {
		b.last[s.Labels.String()] = s.V
	}
}

func (b *board) is(t *testing.T, name, kind, service string, want float64) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.last[`{__name__="panoptes_service_`+name+`", kind="`+kind+`", name="`+service+`"}`]
	require.True(t, ok, "%s of %s; there are %v", name, service, b.last)
	if math.IsNaN(want) {
		require.Equal(t, value.StaleNaN, math.Float64bits(v), "%s of %s has ended", name, service)
		return
	}
	require.Equal(t, want, v, "%s of %s", name, service)
}

func pass(d time.Duration) {
	<-time.After(d) // by the clock of the bubble
	synctest.Wait()
}

func (m *manager) set(name string, s service.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status[name] = s
}

func TestServicesAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		units := &manager{status: map[string]service.Status{}}
		var mu sync.Mutex
		var events []model.Event
		s, err := service.New(service.Config{Dir: t.TempDir(), Services: []service.Service{
			{HostService: model.HostService{Kind: "unit", Name: nginx}, AutoRestart: &service.AutoRestart{After: 3}},
		}}, service.Deps{Managers: map[string]service.Manager{"unit": units}, Event: func(e model.Event) { mu.Lock(); defer mu.Unlock(); events = append(events, e) }})
		require.NoError(t, err)
		out := &board{last: map[string]float64{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, out.emit) }()

		begin := time.Now()
		units.set(nginx, service.Status{Up: true, Start: begin})
		units.set("db.service", service.Status{Up: true, Start: begin})
		require.ErrorContains(t, s.Configure(uplink.Settings{Services: []model.HostService{
			{Kind: "unit", Name: "db.service"}, {Kind: "unit", Name: "bad"}, {Kind: "port", Name: "80"},
		}}), "whole name of a unit")
		pass(time.Minute)
		out.is(t, "up", "unit", nginx, 1)
		out.is(t, "up", "unit", "db.service", 1)
		out.is(t, "restarts_total", "unit", nginx, 0)
		out.is(t, "start_time_seconds", "unit", nginx, float64(begin.UnixMilli())/1000)

		// Somebody restarts it; its manager does twice.
		units.set(nginx, service.Status{Up: true, Start: begin.Add(time.Minute)})
		pass(20 * time.Second)
		out.is(t, "restarts_total", "unit", nginx, 1)
		units.set(nginx, service.Status{Up: true, Start: begin.Add(2 * time.Minute), Count: 2})
		pass(20 * time.Second)
		out.is(t, "restarts_total", "unit", nginx, 3)

		// Stopped by somebody: down, and left alone.
		units.set(nginx, service.Status{Count: 2})
		pass(2 * time.Minute)
		out.is(t, "up", "unit", nginx, 0)
		out.is(t, "start_time_seconds", "unit", nginx, math.NaN())
		require.Zero(t, units.done())

		// Failed: restarted, three times in ten minutes at most, and said so.
		units.set(nginx, service.Status{Failed: true, Text: "failed (exit-code)", Count: 2})
		pass(9 * time.Minute)
		require.Equal(t, 3, units.done())
		mu.Lock()
		require.GreaterOrEqual(t, len(events), 4)
		require.Equal(t, "host.service_restarted", events[0].Code)
		require.Contains(t, events[0].Message, "was failed (exit-code)")
		require.Contains(t, events[3].Message, "left alone")
		require.Less(t, len(events), 8, "no flood")
		mu.Unlock()
		units.set(nginx, service.Status{Up: true, Count: 2})
		pass(20 * time.Second)

		// What cannot be looked at is not down.
		units.mu.Lock()
		units.err = errors.New("no bus")
		units.mu.Unlock()
		pass(time.Minute)
		out.is(t, "up", "unit", nginx, math.NaN())
		units.mu.Lock()
		units.err = nil
		units.mu.Unlock()
		require.NoError(t, s.Configure(uplink.Settings{}))
		pass(time.Minute)
		out.is(t, "up", "unit", nginx, 1)
		out.is(t, "up", "unit", "db.service", math.NaN())
		cancel()
		require.NoError(t, <-done)
	})
}

// hasty takes some time to look, and no more than it is given.
type hasty struct{ manager }

func (h *hasty) Status(ctx context.Context, s model.HostService) (service.Status, error) {
	select {
	case <-time.After(time.Second):
		return h.manager.Status(ctx, s)
	case <-ctx.Done():
		return service.Status{}, ctx.Err()
	}
}

// A restart that takes long takes no time from the looks at the others.
func TestASlowRestartHoldsUpNoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		units := &hasty{manager{status: map[string]service.Status{nginx: {Failed: true}, "db.service": {Up: true}}, block: make(chan struct{})}}
		heal := &service.AutoRestart{After: 1}
		s, err := service.New(service.Config{Dir: t.TempDir(), Services: []service.Service{
			{HostService: model.HostService{Kind: "unit", Name: nginx}, AutoRestart: heal},
			{HostService: model.HostService{Kind: "unit", Name: "db.service"}, AutoRestart: heal},
		}}, service.Deps{Managers: map[string]service.Manager{"unit": units}})
		require.NoError(t, err)
		out := &board{last: map[string]float64{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, out.emit) }()
		pass(5 * time.Second)
		require.Equal(t, 1, units.done(), "it is being restarted")
		out.is(t, "up", "unit", nginx, 0)
		out.is(t, "up", "unit", "db.service", 1)
		pass(59 * time.Second) // it has not come up in time; all are looked at again
		out.is(t, "up", "unit", "db.service", 1)
		cancel()
		require.NoError(t, <-done)
	})
}

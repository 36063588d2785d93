package service

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// fakeBus is a connection that answers, or not.
type fakeBus struct {
	hangs  bool
	closed chan struct{}
	once   sync.Once
}

func newFakeBus(hangs bool) *fakeBus { return &fakeBus{hangs: hangs, closed: make(chan struct{})} }

func (b *fakeBus) over() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

func (b *fakeBus) Connected() bool { return !b.over() }
func (b *fakeBus) Close()          { b.once.Do(func() { close(b.closed) }) }

func (b *fakeBus) GetUnitPropertiesContext(ctx context.Context, _ string) (map[string]any, error) {
	if b.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return map[string]any{"ActiveState": "active", "SubState": "running", "LoadState": "loaded"}, nil
}

func (b *fakeBus) GetUnitTypePropertyContext(context.Context, string, string, string) (*dbus.Property, error) {
	return nil, context.DeadlineExceeded
}

func (b *fakeBus) RestartUnitContext(context.Context, string, string, chan<- string) (int, error) {
	return 0, context.DeadlineExceeded
}

// always is a manager whose services are up, as far as there is time to look.
type always struct{}

func (always) Status(ctx context.Context, _ model.HostService) (Status, error) {
	return Status{Up: true}, ctx.Err()
}
func (always) Restart(context.Context, string) error { return nil }

// A bus that takes connections and says nothing, or stops answering, costs the
// other services nothing but a wait, and holds up no end.
func TestHungBusHoldsUpNothing(t *testing.T) {
	for name, c := range map[string]struct{ dials, asks bool }{"connecting": {dials: true}, "asking": {asks: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				hung, release := c, make(chan struct{})
				var buses []*fakeBus
				u := &units{dial: func(context.Context) (bus, error) {
					mu.Lock()
					b, hangs := newFakeBus(hung.asks), hung.dials
					buses = append(buses, b)
					mu.Unlock()
					if hangs {
						<-release // whatever the context says
					}
					return b, nil
				}}
				var list []Service
				for i := range 20 {
					list = append(list, Service{HostService: model.HostService{Kind: model.ServiceUnit, Name: fmt.Sprintf("u%d.service", i)}})
				}
				list = append(list, Service{HostService: model.HostService{Kind: model.ServicePort, Name: "22"}})
				s, err := New(Config{Dir: t.TempDir(), NodeID: "n", Services: list}, Deps{Managers: map[string]Manager{model.ServiceUnit: u, model.ServicePort: always{}}})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				up := map[string]int{}
				done := make(chan error, 1)
				go func() {
					done <- s.Run(ctx, func(b model.Batch) {
						mu.Lock()
						defer mu.Unlock()
						for _, x := range b {
							if x.Labels.Get(model.MetricName) == "panoptes_service_up" {
								up[x.Labels.Get("kind")]++
							}
						}
					})
				}()
				time.Sleep(time.Minute + time.Second)
				mu.Lock()
				require.Zero(t, up[model.ServiceUnit])
				require.GreaterOrEqual(t, up[model.ServicePort], 4, "seen on every beat")
				hung.dials, hung.asks = false, false
				clear(up)
				mu.Unlock()
				close(release)
				time.Sleep(time.Minute)
				mu.Lock()
				require.GreaterOrEqual(t, up[model.ServiceUnit], 60, "a bus that answers again is asked again")
				mu.Unlock()
				cancel()
				require.NoError(t, <-done)
				synctest.Wait()
				for i, b := range buses {
					require.True(t, b.over(), "connection %d is closed", i)
				}
			})
		})
	}
}

// An end is not held up by a bus that hangs just then.
func TestHungBusEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, late := make(chan struct{}), newFakeBus(false)
		u := &units{dial: func(context.Context) (bus, error) { <-release; return late, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		time.AfterFunc(time.Second, cancel)
		_, err := u.Status(ctx, model.HostService{Kind: model.ServiceUnit, Name: "a.service"})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second, time.Since(began))
		close(release)
		<-late.closed
	})
}

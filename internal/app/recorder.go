package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// recorder stores events for parts that must not wait: they leave them here.
// Events wait in memory while the disk is full, up to a bound.
type recorder struct {
	append  func(context.Context, ...model.Event) error // to all servers' histories
	queue   chan model.Event
	log     *slog.Logger
	dropped prometheus.Counter
}

const maxWaitingEvents = 20_000

func newRecorder(store func(context.Context, ...model.Event) error, log *slog.Logger, reg prometheus.Registerer) *recorder {
	r := &recorder{append: store, queue: make(chan model.Event, maxWaitingEvents), log: log,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_app_events_dropped_total", Help: "Events that found no room while they could not be stored."})}
	reg.MustRegister(r.dropped)
	return r
}

// record takes an event and never blocks.
func (r *recorder) record(e model.Event) {
	select {
	case r.queue <- e:
	default:
		r.dropped.Inc()
	}
}

// storeNow returns when the event is safe, or after a few seconds: then it
// waits with the others.
func (r *recorder) storeNow(e model.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := r.append(ctx, e); err != nil {
		r.record(e)
	}
}

// tryStore stores events, again after each failure until ctx ends.
func (r *recorder) tryStore(ctx context.Context, list []model.Event) error {
	for {
		err := r.append(ctx, list...)
		var inv model.Invalid
		if err == nil || errors.As(err, &inv) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// lastEvents is how long events that wait at the end are tried to be stored.
const lastEvents = 5 * time.Second

// Run stores events in groups until ctx ends, then what is left.
func (r *recorder) Run(ctx context.Context) error {
	// What is being stored when ctx ends has as long as what is left.
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastEvents, cancel) })()
	for {
		select {
		case e := <-r.queue:
			r.store(last, r.group(e))
		case <-ctx.Done():
			// The parts above have ended: nothing more comes in.
			for {
				select {
				case e := <-r.queue:
					r.store(last, r.group(e))
				default:
					return nil
				}
			}
		}
	}
}

func (r *recorder) group(first model.Event) []model.Event {
	list := []model.Event{first}
	for len(list) < 500 {
		select {
		case e := <-r.queue:
			list = append(list, e)
		default:
			return list
		}
	}
	return list
}

// store tries until the events are in, or ctx ends.
func (r *recorder) store(ctx context.Context, list []model.Event) {
	var said time.Time
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := r.append(ctx, list...)
		var inv model.Invalid
		switch {
		case err == nil:
			return
		case errors.As(err, &inv):
			r.log.Error("events refused by the history", "events", len(list), "err", err)
			r.dropped.Add(float64(len(list)))
			return
		}
		if time.Since(said) > time.Minute {
			said = time.Now()
			r.log.Warn("events wait, the history does not take them", "events", len(list), "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			r.dropped.Add(float64(len(list)))
			r.log.Error("events lost at the end", "events", len(list), "err", err)
			return
		}
	}
}

package rules

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// outbox keeps what has to be told until it was told, so that an evaluation
// never waits for the alerting parts.
type outbox struct {
	send  func(context.Context, ...Alert) error
	log   *slog.Logger
	met   *metrics
	woken chan struct{} // of size one

	mu      sync.Mutex // guards waiting
	waiting map[string]Alert
}

const (
	maxWaiting = 50_000 // alerts; more are refused, and told again after the resend delay
	maxPut     = 1000   // alerts of one call
	putTimeout = 10 * time.Second
	putPause   = time.Second
)

func newOutbox(put func(context.Context, ...Alert) error, log *slog.Logger, met *metrics) *outbox {
	return &outbox{send: put, log: log, met: met, woken: make(chan struct{}, 1), waiting: map[string]Alert{}}
}

// put never blocks. The latest word about an alert replaces the one before.
func (o *outbox) put(list []Alert) {
	o.mu.Lock()
	for _, a := range list {
		key := labels.FromMap(a.Labels).String()
		if _, ok := o.waiting[key]; !ok && len(o.waiting) >= maxWaiting {
			o.met.dropped.Inc()
			continue
		}
		o.waiting[key] = a
	}
	o.mu.Unlock()
	select {
	case o.woken <- struct{}{}:
	default:
	}
}

// take removes up to maxPut alerts that still matter.
func (o *outbox) take(now time.Time) map[string]Alert {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]Alert{}
	for k, a := range o.waiting {
		if len(out) == maxPut {
			break
		}
		delete(o.waiting, k)
		// An end is told however late, for a while; a firing that ran out was
		// told again by whoever evaluates now.
		if now.Sub(a.EndsAt) < 15*time.Minute {
			out[k] = a
		} else {
			o.met.dropped.Inc()
		}
	}
	return out
}

// back puts alerts back that were not taken, unless there is a newer word.
func (o *outbox) back(list map[string]Alert) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, a := range list {
		if _, ok := o.waiting[k]; !ok {
			o.waiting[k] = a
		}
	}
}

func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.woken:
		}
		for ctx.Err() == nil {
			list := o.take(time.Now())
			if len(list) == 0 {
				break
			}
			if o.tell(ctx, list) {
				continue
			}
			o.back(list)
			select {
			case <-ctx.Done():
			case <-time.After(putPause):
			}
		}
	}
}

func (o *outbox) tell(ctx context.Context, list map[string]Alert) bool {
	all := make([]Alert, 0, len(list))
	for _, a := range list {
		all = append(all, a)
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	err := o.send(ctx, all...)
	var inv model.Invalid
	switch {
	case err == nil:
		o.met.told.Add(float64(len(all)))
		return true
	case errors.As(err, &inv):
		// The others were taken; these would be refused again.
		o.met.told.Add(float64(len(all)))
		o.log.Warn("alerts of rules refused", "err", err)
		return true
	}
	o.met.putFailed.Inc()
	o.log.Warn("alerts of rules not taken yet", "alerts", len(all), "err", err)
	return false
}

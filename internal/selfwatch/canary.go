package selfwatch

import (
	"context"
	"sync"
	"time"
)

const (
	canaryTimeout = time.Minute
	canaryGrace   = 2 * time.Minute // beyond the interval
	canaryRetry   = time.Minute
)

// canary is the state of the test notification.
type canary struct {
	changed chan struct{} // size 1

	mu       sync.Mutex // guards the rest
	receiver string     // empty: there is none
	interval time.Duration
	owned    time.Time // since when this server sends it; zero: it does not
	success  time.Time
	took     time.Duration
	err      string // of the last attempt
}

// late says that no canary has got through for longer than its interval.
func (c *canary) late(now time.Time) (receiver string, since time.Duration, late bool, err string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.receiver == "" || c.owned.IsZero() {
		return "", 0, false, ""
	}
	last := c.owned
	if c.success.After(last) {
		last = c.success
	}
	since = now.Sub(last)
	return c.receiver, since, since > c.interval+canaryGrace, c.err
}

// runCanary sends the canary at fixed times of day, so that a new owner neither
// sends at once nor leaves a gap.
func (w *Watch) runCanary(ctx context.Context) {
	c := &w.canary
	var slot time.Time // the last one that was sent for
	for {
		set := w.Settings().Canary
		now := time.Now()
		owned := set.Receiver != "" && w.deps.Canary != nil && (w.deps.Owns == nil || w.deps.Owns())
		c.mu.Lock()
		if c.receiver != set.Receiver {
			c.success, c.err, c.owned = time.Time{}, "", time.Time{}
		}
		c.receiver, c.interval = set.Receiver, set.interval()
		switch {
		case !owned:
			c.owned = time.Time{}
		case c.owned.IsZero():
			c.owned = now
			slot = now.Truncate(c.interval) // the one that is running was its predecessor's
		}
		c.mu.Unlock()

		wait := canaryRetry // also how often ownership is looked at
		if owned {
			if current, due := dueSlot(slot, now, set.interval()); due && w.sendCanary(ctx, set.Receiver) {
				slot = current
			}
			if next := slot.Add(set.interval()); next.After(now) {
				wait = min(wait, time.Until(next))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-time.After(max(wait, time.Second)):
		}
	}
}

// dueSlot returns the slot that now is in, and whether a canary is due for it
// when the last one was sent for another. After the clock was set back it does
// not wait until that one comes again; a step back by a moment, which clocks
// make when they are put right, is waited for.
func dueSlot(sent, now time.Time, interval time.Duration) (current time.Time, due bool) {
	current = now.Truncate(interval)
	return current, current.After(sent) || sent.Sub(now) > canaryRetry
}

func (w *Watch) sendCanary(ctx context.Context, receiver string) bool {
	began := time.Now()
	sctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	err := w.deps.Canary(sctx, receiver)
	if ctx.Err() != nil {
		return false
	}
	c := &w.canary
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.err = err.Error()
		w.metrics.canaryFailed.Inc()
		w.log.Warn("the test notification did not get through", "receiver", receiver, "err", err)
		return false
	}
	c.err, c.success, c.took = "", time.Now(), time.Since(began)
	return true
}

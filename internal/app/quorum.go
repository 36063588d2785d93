package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"panoptes/internal/model"
)

// quorum remembers how long the configuration store had no majority.
type quorum struct {
	mu          sync.Mutex // guards what follows
	since, last time.Time  // of the latest time without one
}

// cutAtLeast is how long a cut lasts whose connections are worth nothing after.
const cutAtLeast = 5 * time.Second

func (q *quorum) look(now time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !errors.Is(err, model.ErrUnavailable):
	case now.Sub(q.last) > cutAtLeast:
		q.since, q.last = now, now
	default:
		q.last = now
	}
}

// healed reports whether a majority was missing for a while until just now; it
// says so once.
func (q *quorum) healed(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last.IsZero() || now.Sub(q.last) > cutAtLeast || q.last.Sub(q.since) < cutAtLeast {
		return false
	}
	q.since, q.last = time.Time{}, time.Time{}
	return true
}

// rejoinControl begins the configuration store of a server anew that was cut
// off and is reached again: the connections from before the cut would be silent
// for as long again as the cut was, and with them what was decided meanwhile.
func (a *App) rejoinControl(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a.log.Info("this server was cut off; its configuration store connects anew")
	if err := a.control.Restart(ctx); err != nil {
		a.log.Warn("configuration store not begun anew", "err", err)
	}
}

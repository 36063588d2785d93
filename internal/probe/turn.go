package probe

import (
	"hash/fnv"
	"reflect"
	"time"

	"panoptes/internal/model"
)

func jitter(e *entry, within time.Duration) time.Duration {
	return time.Duration(hash(e.check.ID) % uint64(within))
}

// resume is when a check is due that another worker ran last; false when
// nobody knows that it ever ran.
func (w *Worker) resume(c *model.Check) (time.Time, bool) {
	if w.deps.LastRun == nil {
		return time.Time{}, false
	}
	last := w.deps.LastRun(c.ID)
	if last.IsZero() {
		return time.Time{}, false
	}
	if now := time.Now(); last.After(now) {
		last = now // by a clock that is ahead of ours
	}
	return turnAfter(c, last), true
}

// same reports whether a change of the record leaves its runs as they are.
func same(a, b *model.Check) bool {
	x, y := *a, *b
	x.Revision, y.Revision = 0, 0
	return reflect.DeepEqual(x, y)
}

func hash(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	x := h.Sum64()
	// FNV leaves the upper bits of similar ids alike; finish the mixing.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// nextRun is the first instant after now at which c is due: the hash of its id
// over its interval, counted from the epoch, so that every worker finds the
// same instants.
func nextRun(c *model.Check, now time.Time) time.Time {
	iv := int64(c.Interval)
	phase := int64(hash(c.ID) % uint64(iv))
	wait := (phase - now.UnixNano()%iv + iv) % iv
	if wait == 0 {
		wait = iv
	}
	return now.Add(time.Duration(wait))
}

// turnAfter is the turn that follows a run at last: the next instant, but one
// later when that is too near, because the run was early or late.
func turnAfter(c *model.Check, last time.Time) time.Time {
	next, iv := nextRun(c, last), c.Interval.D()
	if next.Sub(last) < iv/10 {
		next = next.Add(iv)
	}
	return next
}

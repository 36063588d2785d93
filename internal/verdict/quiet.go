package verdict

import (
	"sync/atomic"
	"time"
)

// A server that was stopped for a while, or that is cut off from everything,
// knows less than it believes. It goes on listening and decides nothing; when
// it is over it waits a moment for the news of the others, and counts only
// votes that were made since.

const (
	stallAfter = 5 * time.Second // the clock ticks every second
	newsPause  = 5 * time.Second // for what the others decided meanwhile
)

// silence says until when nothing is decided.
type silence struct {
	ticked atomic.Pointer[time.Time] // when the clock ticked last; nil before Run
	until  atomic.Pointer[time.Time]
	cut    atomic.Bool
}

// now reports whether nothing may be decided. A result may be heard before the
// clock has noticed that the process was stopped, so its age counts too.
func (q *silence) now(now time.Time) bool {
	if q.cut.Load() {
		return true
	}
	if u := q.until.Load(); u != nil && now.Before(*u) {
		return true
	}
	t := q.ticked.Load()
	return t != nil && stalled(*t, now)
}

// stalled looks at both clocks: the monotonic one stands still while a machine
// sleeps, the wall clock jumps when it is set.
func stalled(before, now time.Time) bool {
	wall := now.Round(0).Sub(before.Round(0))
	return now.Sub(before) > stallAfter || wall > stallAfter || wall < -stallAfter
}

// listen notes the tick of the clock and whether this server is cut off. It
// returns to deciding some time after the trouble is over.
func (e *Engine) listen(now time.Time, cut bool) {
	q := &e.quiet
	last, was := q.ticked.Load(), q.cut.Load()
	stall := last != nil && stalled(*last, now)
	if stall || was && !cut {
		// First of all, since results are heard meanwhile.
		until := now.Add(newsPause)
		q.until.Store(&until)
	}
	q.ticked.Store(&now)
	q.cut.Store(cut)
	switch {
	case stall:
		e.log.Warn("this server stood still; it listens before it decides", "for", now.Sub(*last).Round(time.Second), "pause", newsPause)
	case was && !cut:
		e.log.Info("this server is no longer cut off; it listens before it decides", "pause", newsPause)
	case cut && !was:
		e.log.Warn("this server is cut off: it sees no other server and its region's workers abstain; it decides nothing")
		return
	default:
		return
	}
	for _, s := range e.shards {
		s.mu.Lock()
		for _, m := range s.byID {
			e.release(m)
			m.startAnew(now)
		}
		s.mu.Unlock()
	}
}

// startAnew makes the votes so far worthless and gives new ones time to come.
func (m *machine) startAnew(now time.Time) {
	m.from, m.round, m.review = now, 0, 0
	m.fails, m.goods, m.alone = 0, 0, time.Time{}
	m.graceUntil = now.Add(max(m.ttl, newsPause))
	for i := range m.regions {
		r := &m.regions[i]
		if r.from.After(now) {
			r.from = now
		}
		for j := range r.votes {
			// The clock was set back: they would be young for ever.
			if v := &r.votes[j]; v.at.After(now) {
				v.at, v.start = now.Add(-m.ttl), now.Add(-m.ttl)
			}
		}
	}
}

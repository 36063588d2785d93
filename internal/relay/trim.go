package relay

import (
	"os"
	"time"
)

// saveCursors writes the cursors when they have moved. They may be older than
// what the destinations have: to be sent twice changes nothing.
func (r *Relay) saveCursors() error {
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	st := r.stateLocked()
	dirty := r.dirty || st.Newest.End != r.saved
	r.dirty = false
	r.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := st.save(r.cfg.Dir, r.deps.Sync); err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return err
	}
	r.saved = st.Newest.End
	return nil
}

func (r *Relay) stateLocked() state {
	x := &r.journal.index
	x.mu.Lock()
	defer x.mu.Unlock()
	st := state{LogID: r.journal.logID, Next: x.next, Newest: x.durable, Lost: r.lost, Destinations: make(map[string]cursor, len(r.dests))}
	for id, d := range r.dests {
		st.Destinations[id] = cursor{Pos: d.acked, Missed: d.missed}
	}
	return st
}

// trim deletes segments that every destination has, and the oldest ones when
// the log is too large or too old.
func (r *Relay) trim(now time.Time) {
	gone := r.outdated(now)
	if len(gone) == 0 {
		return
	}
	// The number of the next segment must be known when the files are gone.
	if err := r.saveCursors(); err != nil {
		r.log.Warn("cursors not saved", "err", err)
		return
	}
	x := &r.journal.index
	x.mu.Lock()
	x.segments = x.segments[len(gone):]
	x.mu.Unlock()
	for _, s := range gone {
		if err := os.Remove(segmentPath(r.cfg.Dir, s.seq)); err != nil {
			r.log.Warn("segment not deleted", "segment", s.seq, "err", err)
		}
	}
}

// outdated returns the oldest segments that are not needed, or not to be kept,
// as they are now: who checks old ones may have them in hand.
func (r *Relay) outdated(now time.Time) (gone []segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.journal.index
	least := x.endPosition()
	for _, d := range r.dests {
		least = min(least, d.acked)
	}
	if r.lost { // who gets all of it is not known yet
		least = 0
	}
	x.mu.Lock()
	sealed := len(x.segments)
	if x.isOpen {
		sealed--
	}
	var total int64
	for _, s := range x.segments {
		total += s.size
	}
	for _, s := range x.segments[:sealed] {
		old := now.UnixMilli()-s.last > r.cfg.MaxAge.Milliseconds()
		if least < at(s.seq, s.size) && total <= r.cfg.MaxBytes && !old {
			break
		}
		gone = append(gone, *s)
		total -= s.size
	}
	x.mu.Unlock()
	r.m.logSize.Set(float64(total))
	for _, s := range gone {
		r.pass(s)
	}
	r.dirty = r.dirty || len(gone) > 0
	return gone
}

// pass moves destinations that have not got all of s behind it.
func (r *Relay) pass(s segment) {
	end := at(s.seq, s.size)
	for _, d := range r.dests {
		if d.acked >= end {
			continue
		}
		if !s.checked {
			if _, _, err := checkSegment(r.cfg.Dir, &s); err != nil {
				r.log.Warn("segment not read", "segment", s.seq, "err", err)
			}
			s.checked = true
		}
		from, to := s.created, max(s.last, s.created)
		if s.spanned {
			from, to = min(from, s.from), max(to, s.to)
		}
		d.missed = d.missed.with(from, to)
		d.notify()
		lost := s.size - max(headerSize, min(s.size, r.offsetIn(d, s.seq)))
		r.m.dropped.WithLabelValues(d.id).Add(float64(lost))
		r.log.Error("log too old or too large: entries dropped that a server has not got", "node", d.id, "segment", s.seq, "bytes", lost,
			"from", time.UnixMilli(from), "to", time.UnixMilli(to))
		d.acked, r.dirty = max(d.acked, end), true
	}
}

func (r *Relay) offsetIn(d *destination, seq uint64) int64 {
	if d.acked.segment() != seq {
		return 0
	}
	return d.acked.offset()
}

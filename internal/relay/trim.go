package relay

import (
	"errors"
	"os"
	"slices"
	"time"
)

// saveCursors writes the cursors when they have moved. They may be older than
// what the destinations have: to be sent twice changes nothing.
func (r *Relay) saveCursors() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dirty {
		return nil
	}
	if err := r.saveLocked(); err != nil {
		return err
	}
	r.dirty = false
	return nil
}

func (r *Relay) saveLocked() error {
	x := &r.journal.index
	x.mu.Lock()
	st := state{LogID: r.journal.logID, Next: x.next, Destinations: make(map[string]cursor, len(r.dests))}
	x.mu.Unlock()
	for id, d := range r.dests {
		st.Destinations[id] = cursor{Pos: d.acked, Missed: d.missed}
	}
	return st.save(r.cfg.Dir, r.deps.Sync)
}

// trim deletes segments that every destination has, and the oldest ones when
// the log is too large or too old.
func (r *Relay) trim(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.journal.index
	least := x.endPosition()
	for _, d := range r.dests {
		least = min(least, d.acked)
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
	var gone []*segment
	for _, s := range x.segments[:sealed] {
		old := now.UnixMilli()-s.last > r.cfg.MaxAge.Milliseconds()
		if least < at(s.seq, s.size) && total <= r.cfg.MaxBytes && !old {
			break
		}
		gone = append(gone, s)
		total -= s.size
	}
	x.mu.Unlock()
	r.m.logSize.Set(float64(total))
	if len(gone) == 0 {
		return
	}
	for _, s := range gone {
		r.pass(s)
	}
	// The number of the next segment must be known when the files are gone.
	if err := r.saveLocked(); err != nil {
		r.log.Warn("cursors not saved", "err", err)
		return
	}
	r.dirty = false
	x.mu.Lock()
	x.segments = x.segments[len(gone):]
	x.mu.Unlock()
	for _, s := range gone {
		if s.damaged {
			r.setAside(s.seq, errDamaged)
			continue
		}
		if err := os.Remove(segmentPath(r.cfg.Dir, s.seq)); err != nil {
			r.log.Warn("segment not deleted", "segment", s.seq, "err", err)
		}
	}
}

// pass moves destinations that have not got all of s behind it.
func (r *Relay) pass(s *segment) {
	end := at(s.seq, s.size)
	for _, d := range r.dests {
		if d.acked >= end {
			continue
		}
		if !s.checked {
			if err := r.checkSegment(s); err != nil {
				r.log.Warn("segment not read", "segment", s.seq, "err", err)
			}
		}
		from, to := s.created, max(s.last, s.created)
		if s.spanned {
			from, to = min(from, s.from), max(to, s.to)
		}
		d.missed = d.missed.with(from, to)
		lost := s.size - max(headerSize, min(s.size, r.offsetIn(d, s)))
		r.m.dropped.WithLabelValues(d.id).Add(float64(lost))
		r.log.Error("log too old or too large: entries dropped that a server has not got", "node", d.id, "segment", s.seq, "bytes", lost,
			"from", time.UnixMilli(from), "to", time.UnixMilli(to))
		d.acked, r.dirty = max(d.acked, end), true
	}
}

func (r *Relay) offsetIn(d *destination, s *segment) int64 {
	if d.acked.segment() != s.seq {
		return 0
	}
	return d.acked.offset()
}

// unreadable ends a segment before the place that cannot be read. What came
// behind it is lost for those that have not got it. It returns err when that
// is not the segment's fault.
func (r *Relay) unreadable(err error) error {
	var bad *damage
	if !errors.As(err, &bad) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &r.journal.index
	x.mu.Lock()
	i := slices.IndexFunc(x.segments, func(s *segment) bool { return s.seq == bad.pos.segment() })
	if i < 0 || bad.pos.offset() >= x.segments[i].size || x.isOpen && i == len(x.segments)-1 {
		x.mu.Unlock()
		if i >= 0 && bad.pos.offset() < x.segments[i].size {
			return err // the open one: it will be read again
		}
		return nil // trimmed meanwhile
	}
	s := x.segments[i]
	lost := s.size - bad.pos.offset()
	until := time.Now().UnixMilli()
	if i+1 < len(x.segments) {
		until = x.segments[i+1].created
	}
	s.size, s.damaged = bad.pos.offset(), true
	x.mu.Unlock()
	r.m.damaged.Inc()
	r.log.Error("segment is damaged, the rest of it is lost", "segment", s.seq, "at", bad.pos.offset(), "bytes", lost, "err", bad.err)
	for _, d := range r.dests {
		if d.acked.segment() < s.seq || d.acked.segment() == s.seq && d.acked.offset() < bad.pos.offset()+lost {
			from := s.created
			if s.spanned {
				from = min(from, s.from)
			}
			d.missed, r.dirty = d.missed.with(from, until), true
			r.m.dropped.WithLabelValues(d.id).Add(float64(lost))
		}
	}
	return nil
}

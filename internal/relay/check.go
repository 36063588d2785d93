package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// oddity is a file that cannot be used at all.
type oddity struct {
	seq     uint64
	size    int64
	changed time.Time
	err     error
}

// findSegments looks at the files of the log.
func (r *Relay) findSegments(st *state) (odd []oddity, err error) {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return nil, err
	}
	x := &r.journal.index
	for _, e := range entries {
		seq, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		x.next = max(x.next, seq+1)
		path := segmentPath(r.cfg.Dir, seq)
		fi, err := e.Info()
		if err != nil {
			return nil, err
		}
		s, logID, err := readHeader(path, seq)
		if err == nil && st.LogID != "" && logID != st.LogID {
			err = fmt.Errorf("segment belongs to log %s, not %s", logID, st.LogID)
		}
		if err != nil {
			odd = append(odd, oddity{seq, fi.Size(), fi.ModTime(), err})
			continue
		}
		st.LogID = logID
		x.segments = append(x.segments, s)
	}
	slices.SortFunc(x.segments, func(a, b *segment) int { return cmp.Compare(a.seq, b.seq) })
	return odd, nil
}

// readHeader looks at the beginning of a file only.
func readHeader(path string, seq uint64) (*segment, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	head := make([]byte, min(headerSize, fi.Size()))
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, "", err
	}
	h, err := decodeHeader(head, seq)
	if err != nil {
		return nil, "", err
	}
	return &segment{seq: seq, before: h.previous, size: fi.Size(), created: h.created, last: h.created}, h.logID, nil
}

// checkNewest reads the segment that was written last. It may end in the middle
// of a record after a power cut: that was never acknowledged, unless it is
// before what is known to have been on the disk.
func (r *Relay) checkNewest(known tail) error {
	x := &r.journal.index
	if len(x.segments) == 0 {
		return nil
	}
	s := x.segments[len(x.segments)-1]
	size := s.size
	good, torn, err := checkSegment(r.cfg.Dir, s)
	s.checked = true
	if known.End.segment() == s.seq && good < known.End.offset() {
		torn = false
		size = max(size, known.End.offset())
		err = firstError(err, errShort)
		s.note(s.created, known.From, known.To)
	}
	switch {
	case torn:
		r.log.Warn("segment ends in the middle of a record, as after a power cut", "segment", s.seq, "at", good, "size", size)
		if err := os.Truncate(segmentPath(r.cfg.Dir, s.seq), good); err != nil {
			return err
		}
		s.size = good
	case err != nil:
		r.lose(s, size, good, err)
	}
	x.end = at(s.seq, s.size)
	return nil
}

// checkSizes compares the size of each segment with what the next one says.
func (r *Relay) checkSizes() {
	list := r.journal.index.segments
	for i := 1; i < len(list); i++ {
		s, want := list[i-1], list[i].before
		if s.seq != want.End.segment() {
			continue
		}
		s.note(s.created, want.From, want.To)
		if s.size < want.End.offset() {
			r.lose(s, want.End.offset(), s.size, errShort)
		}
	}
}

// checkOld reads the segments of former runs, so that damage is known before a
// server needs what is in them.
func (r *Relay) checkOld(ctx context.Context) {
	x := &r.journal.index
	for ctx.Err() == nil {
		x.mu.Lock()
		i := slices.IndexFunc(x.segments, func(s *segment) bool { return !s.checked })
		if i < 0 {
			x.mu.Unlock()
			return
		}
		s, found := x.segments[i], *x.segments[i]
		x.mu.Unlock()
		good, _, err := checkSegment(r.cfg.Dir, &found)
		x.mu.Lock()
		s.checked = true
		if found.spanned {
			s.note(found.last, found.from, found.to)
		}
		x.mu.Unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.lose(s, found.size, good, err)
		}
	}
}

// checkSegment reads all records of a segment. It returns the offset behind
// the last that is whole, and what is wrong with the rest; torn says that this
// looks like a write that was interrupted.
func checkSegment(dir string, s *segment) (good int64, torn bool, err error) {
	f, err := os.Open(segmentPath(dir, s.seq))
	if err != nil {
		return headerSize, false, err
	}
	defer f.Close()
	good, err = s.scan(f, s.size)
	if err == nil {
		return good, false, nil
	}
	rest := make([]byte, min(s.size-good, 1<<20))
	if _, rerr := f.ReadAt(rest, good); rerr != nil {
		return good, false, errors.Join(err, rerr)
	}
	n, lerr := recordLen(rest)
	zero := !slices.ContainsFunc(rest, func(b byte) bool { return b != 0 })
	return good, errors.Is(err, errShort) || zero || lerr == nil && good+int64(n) == s.size, err
}

// lose ends a segment of size bytes before what cannot be read. A copy of the
// file is kept, and destinations that have not got the rest will be told.
func (r *Relay) lose(s *segment, size, good int64, cause error) {
	x := &r.journal.index
	x.mu.Lock()
	if s.size < good { // known already
		x.mu.Unlock()
		return
	}
	s.size = good
	until := time.Now().UnixMilli()
	if i := slices.Index(x.segments, s); i >= 0 && i+1 < len(x.segments) {
		until = x.segments[i+1].created
	}
	from := s.created
	if s.spanned {
		from, until = min(from, s.from), max(until, s.to)
	}
	x.mu.Unlock()
	r.m.damaged.Inc()
	path := segmentPath(r.cfg.Dir, s.seq)
	r.log.Error("segment is damaged, the rest of it is lost", "segment", s.seq, "at", good, "bytes", size-good, "copy", path+damagedSuffix, "err", cause)
	r.miss(at(s.seq, size), size-good, from, until)
	if err := errors.Join(copyFile(path+damagedSuffix, path), os.Truncate(path, good)); err != nil {
		r.log.Warn("damaged segment not set aside", "segment", s.seq, "err", err)
	}
}

// miss notes what destinations that have not got everything before end will
// never be sent.
func (r *Relay) miss(end position, bytes, from, to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.dests {
		if d.acked < end {
			d.missed, r.dirty = d.missed.with(from, to), true
			d.notify()
			r.m.dropped.WithLabelValues(d.id).Add(float64(bytes))
		}
	}
}

const damagedSuffix = ".damaged"

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// unreadable ends a segment before the place that cannot be read. It returns
// err when that is not the segment's fault.
func (r *Relay) unreadable(err error) error {
	var bad *damage
	if !errors.As(err, &bad) {
		return err
	}
	x := &r.journal.index
	x.mu.Lock()
	i := slices.IndexFunc(x.segments, func(s *segment) bool { return s.seq == bad.pos.segment() })
	if i < 0 || bad.pos.offset() >= x.segments[i].size { // deleted or ended meanwhile
		x.mu.Unlock()
		return nil
	}
	s, size, open := x.segments[i], x.segments[i].size, x.isOpen && i == len(x.segments)-1
	x.mu.Unlock()
	if open {
		r.journal.seal() // look again when nobody writes to it
		return err
	}
	r.lose(s, size, bad.pos.offset(), bad.err)
	return nil
}

// setAside keeps a file that cannot be used at all out of the way.
func (r *Relay) setAside(o oddity, newest tail) {
	path := segmentPath(r.cfg.Dir, o.seq)
	from, to := o.changed.Add(-r.cfg.MaxAge).UnixMilli(), o.changed.UnixMilli()
	interrupted := o.size < headerSize // while it was made, unless something is known of it
	known := []tail{newest}
	for _, s := range r.journal.index.segments {
		known = append(known, s.before)
	}
	for _, k := range known {
		if k.End.segment() == o.seq {
			from, to, interrupted = k.From, k.To, false
		}
	}
	if interrupted {
		if err := os.Remove(path); err != nil {
			r.log.Warn("empty segment not deleted", "segment", o.seq, "err", err)
		}
		return
	}
	r.m.damaged.Inc()
	r.log.Error("segment set aside", "segment", o.seq, "to", path+damagedSuffix, "err", o.err)
	r.miss(at(o.seq+1, 0), o.size, from, to)
	if err := os.Rename(path, path+damagedSuffix); err != nil {
		r.log.Error("segment not set aside", "segment", o.seq, "err", err)
	}
}

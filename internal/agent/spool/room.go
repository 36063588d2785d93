package spool

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"panoptes/internal/model"
)

// makeRoom drops as many of the oldest segments as the disk needs for another
// one, and reports whether it did. When all of them but the last are not enough,
// or it is not space that is missing, it would be for nothing: all stay.
func (s *Spool) makeRoom(err error) bool {
	if !errors.Is(err, model.ErrNoSpace) && !full(err) {
		return false
	}
	need := int64(1) // of a quota, or where nobody tells what is free, one segment
	if n, err := s.deps.Free(s.cfg.Dir); err == nil && s.cfg.MinFree > 0 {
		need = max(need, s.cfg.MinFree-n)
	}
	n := 0
	for ; need > 0; n++ {
		if n >= len(s.segments)-1 {
			return false
		}
		need -= s.segments[n].size
	}
	for range n {
		s.drop("disk", err)
	}
	return true
}

// trim drops what is too old or too much.
func (s *Spool) trim() {
	now := s.deps.Now()
	for len(s.segments) > 1 || len(s.segments) == 1 && s.file == nil {
		var total int64
		for _, seg := range s.segments {
			total += seg.size
		}
		first := s.segments[0]
		switch {
		case total > s.cfg.MaxBytes-s.cfg.SegmentBytes:
			s.drop("size", nil)
		case first.to != 0 && now.Sub(time.UnixMilli(first.to)) > s.cfg.MaxAge:
			s.drop("age", nil)
		default:
			return
		}
	}
}

func (s *Spool) drop(why string, err error) {
	first := s.segments[0]
	lost := max(first.count-first.done, 0)
	s.dropped += uint64(lost)
	s.log.Warn("part of the buffer dropped, the oldest first", "reason", why, "samples", lost, "from", time.UnixMilli(first.from), "to", time.UnixMilli(first.to), "err", err)
	s.removeFirst()
}

func (s *Spool) removeFirst() {
	first := s.segments[0]
	s.segments = s.segments[1:]
	for p := range s.known {
		if p.segment <= first.n {
			delete(s.known, p)
		}
	}
	if s.reader != nil && s.reader.seg == first {
		s.reader.close()
		s.reader = nil
	}
	if err := os.Remove(first.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("segment of the buffer not removed", "file", first.path, "err", err)
	}
}

// Drop gives up a record that no server takes, which is the first that is not
// acknowledged, and what follows it in its segment, whose dictionary it is part of.
func (s *Spool) Drop(r Record, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 || s.segments[0].n != r.at.segment {
		return
	}
	if len(s.segments) == 1 {
		s.closeFile()
	}
	s.drop("refused", why)
}

// Trim drops what is too old or too much.
func (s *Spool) Trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
}

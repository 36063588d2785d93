// Package spool keeps on disk what the servers have not got yet.
//
// It is a row of segment files. A segment is a header and records; a record is
// one frame with its length, checksum and times. The dictionary of the frames
// begins anew with each segment, so that a segment can be sent as it is. What
// the servers have acknowledged is remembered in a small file beside them, and
// a segment that is done goes.
//
// A record is whole or is not there: what a power cut tore is cut off, and a
// record that is damaged ends its segment.
package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"panoptes/internal/agent/framing"
	"panoptes/internal/model"
)

// Config bounds the spool. The zero value of a field means its default.
type Config struct {
	Dir          string
	MaxBytes     int64         // of all segments; the oldest goes first; default 200 MB
	MaxAge       time.Duration // what is older goes; default 48 h
	SegmentBytes int64         // of one file; default 1 MiB
	MinFree      int64         // bytes that stay free on the disk; default 64 MiB, negative: no limit
}

func (c Config) withDefaults() Config {
	set(&c.MaxBytes, 200e6)
	set(&c.MaxAge, 48*time.Hour)
	set(&c.SegmentBytes, 1<<20)
	set(&c.MinFree, 64<<20)
	c.SegmentBytes = min(c.SegmentBytes, max(c.MaxBytes/4, 4<<10))
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Deps are the collaborators of a Spool; all may be nil.
type Deps struct {
	Logger *slog.Logger
	Now    func() time.Time
	// Free tells how many bytes may still be written below dir; nil asks the system.
	Free func(dir string) (int64, error)
	// Sync makes a file durable; nil means (*os.File).Sync.
	Sync func(*os.File) error
}

// Stats is what a spool holds and has lost.
type Stats struct {
	Bytes    int64
	Segments int
	Waiting  int64     // samples and events that have not been acknowledged
	Oldest   time.Time // of the samples that wait; zero when none do
	Dropped  uint64    // samples and events given up since the start, for age, size or damage
}

// Spool is safe for use by several goroutines; one of them reads.
type Spool struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	mu       sync.Mutex // guards what follows
	segments []*segment // oldest first; the last one may be open for writing
	file     *os.File   // of the last segment; nil: the next record begins another
	enc      *framing.Encoder
	buf      []byte
	dirty    bool
	next     uint64 // number of the next segment
	cursor   position
	saved    position
	dropped  uint64
	reader   *reader
	known    map[position]struct{} // records after the cursor that the servers have
}

// Mark names a record.
type Mark struct{ at position }

// Open reads what is in the directory, which is made when it is missing.
// Damage costs what is damaged and is reported in the log.
func Open(cfg Config, deps Deps) (*Spool, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" {
		return nil, errors.New("open buffer: Dir is missing")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Free == nil {
		deps.Free = free
	}
	if deps.Sync == nil {
		deps.Sync = (*os.File).Sync
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open buffer: %w", err)
	}
	s := &Spool{cfg: cfg, deps: deps, log: deps.Logger, next: 1, known: map[position]struct{}{}}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open buffer %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Spool) load() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.cursor = readCursor(s.path(cursorFile))
	s.saved = s.cursor
	for _, e := range entries {
		n, ok := segmentNumber(e.Name())
		if !ok || e.IsDir() {
			continue
		}
		s.next = max(s.next, n+1)
		if n < s.cursor.segment {
			_ = os.Remove(s.path(e.Name()))
			continue
		}
		seg, err := scan(s.path(e.Name()), n)
		if err != nil {
			return err
		}
		if seg.damaged {
			s.log.Warn("damage in the buffer: what follows in this file is lost", "file", e.Name(), "offset", seg.size, "bytes", seg.lost)
		}
		if seg.records == 0 {
			_ = os.Remove(seg.path)
			continue
		}
		s.segments = append(s.segments, seg)
	}
	slices.SortFunc(s.segments, func(a, b *segment) int {
		if a.n < b.n {
			return -1
		}
		return 1
	})
	s.next = max(s.next, s.cursor.segment+1)
	if len(s.segments) > 0 && s.segments[0].n == s.cursor.segment {
		first := s.segments[0]
		if err := first.walk(s.cursor.offset, func(h recordHead) { first.done += int64(h.count) }); err != nil {
			return err
		}
		if s.cursor.offset >= first.size {
			s.removeFirst()
		}
	}
	return nil
}

func (s *Spool) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// Append writes one record. It is durable after Sync. When the disk is full
// the oldest segments make room, if they are enough for that.
func (s *Spool) Append(samples []model.Sample, events []model.Event) (Mark, error) {
	if len(samples)+len(events) == 0 {
		return Mark{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	m, err := s.append(samples, events)
	if err == nil {
		return m, nil
	}
	// What is half written would hide what comes after it.
	s.closeFile()
	if s.makeRoom(err) {
		if m, err = s.append(samples, events); err == nil {
			return m, nil
		}
		s.closeFile()
	}
	return Mark{}, fmt.Errorf("write to the buffer: %w", err)
}

// ErrRecord says that samples and events cannot be one record, on no disk.
var ErrRecord = errors.New("not to be written as one record")

func (s *Spool) append(samples []model.Sample, events []model.Event) (Mark, error) {
	if s.file == nil {
		if err := s.begin(); err != nil {
			return Mark{}, err
		}
	}
	seg := s.segments[len(s.segments)-1]
	head := recordHead{count: uint32(len(samples) + len(events))}
	for i := range samples {
		head.span(samples[i].T)
	}
	for i := range events {
		head.span(events[i].Time.UnixMilli())
	}
	s.buf = append(s.buf[:0], make([]byte, headBytes)...)
	var err error
	if s.buf, err = s.enc.Append(s.buf, samples, events); err != nil {
		return Mark{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if len(s.buf) > maxRecord {
		return Mark{}, fmt.Errorf("%d bytes: %w", len(s.buf), ErrRecord)
	}
	head.put(s.buf)
	if _, err := s.file.Write(s.buf); err != nil {
		return Mark{}, err
	}
	s.dirty = true
	seg.add(head, int64(len(s.buf)))
	m := Mark{position{seg.n, seg.size}}
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	if seg.size >= s.cfg.SegmentBytes || s.enc.Full() {
		return m, s.finish()
	}
	return m, nil
}

// begin opens another segment.
func (s *Spool) begin() error {
	if s.cfg.MinFree > 0 {
		if n, err := s.deps.Free(s.cfg.Dir); err == nil && n < s.cfg.MinFree {
			return fmt.Errorf("%w: %d bytes are free, %d are left to others", model.ErrNoSpace, n, s.cfg.MinFree)
		}
	}
	if s.enc == nil {
		var err error
		if s.enc, err = framing.New(); err != nil {
			return err
		}
	}
	s.enc.Restart()
	seg := &segment{n: s.next, path: s.path(segmentName(s.next))}
	f, err := os.OpenFile(seg.path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.next++
	if _, err := f.WriteString(magic); err != nil {
		return errors.Join(err, f.Close(), os.Remove(seg.path))
	}
	seg.size = int64(len(magic))
	s.file = f
	s.segments = append(s.segments, seg)
	return syncDir(s.cfg.Dir)
}

// finish makes the segment durable and closes it.
func (s *Spool) finish() error {
	err := s.sync()
	s.closeFile()
	return err
}

func (s *Spool) closeFile() {
	if s.file == nil {
		return
	}
	_ = s.file.Close()
	s.file, s.dirty = nil, false
	if seg := s.segments[len(s.segments)-1]; seg.records == 0 {
		s.segments = s.segments[:len(s.segments)-1]
		_ = os.Remove(seg.path)
	} else {
		// A write that failed may have left a part.
		_ = os.Truncate(seg.path, seg.size)
	}
}

// Sync makes durable what was appended and acknowledged.
func (s *Spool) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.sync(), s.saveCursor())
}

// Durable reports whether Sync has nothing to do.
func (s *Spool) Durable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.dirty && s.cursor == s.saved
}

func (s *Spool) sync() error {
	if !s.dirty {
		return nil
	}
	if err := s.deps.Sync(s.file); err != nil {
		// What was not synced may be gone although a later sync succeeds: the file
		// is not used any more.
		s.dirty = false
		s.closeFile()
		return fmt.Errorf("sync the buffer: %w", err)
	}
	s.dirty = false
	return nil
}

// Close makes everything durable.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.sync(), s.saveCursor())
	s.closeFile()
	s.reader.close()
	s.reader = nil
	return err
}

// SetMaxAge bounds the age by what the servers still take.
func (s *Spool) SetMaxAge(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d > 0 {
		s.cfg.MaxAge = d
	}
}

// Stats tells what is there.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Segments: len(s.segments), Dropped: s.dropped}
	for _, seg := range s.segments {
		st.Bytes += seg.size
		st.Waiting += seg.count - seg.done
	}
	if st.Waiting > 0 {
		st.Oldest = time.UnixMilli(s.segments[0].from)
	}
	return st
}

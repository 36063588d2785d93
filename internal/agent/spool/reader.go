package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Record is one frame of the spool.
type Record struct {
	Start bool   // it begins a segment, and with it a dictionary
	Known bool   // it was acknowledged: it is only read for its dictionary
	Count int    // samples and events
	Frame []byte // valid until the next call of Next
	at    position
}

// position names the end of a record.
type position struct {
	segment uint64
	offset  int64
}

// reader goes through the segments once, oldest first.
type reader struct {
	seg *segment
	f   *os.File
	r   *bufio.Reader
	off int64
	buf []byte
}

func (r *reader) close() {
	if r != nil && r.f != nil {
		_ = r.f.Close()
		r.f = nil
	}
}

// Rewind has Next begin again with what has not been acknowledged. A segment
// that was acknowledged in part is read from its beginning.
func (s *Spool) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reader.close()
	s.reader = nil
}

// Next returns the record after the last one, io.EOF when there is none now.
// Only what has been written whole is returned, synced or not.
func (s *Spool) Next() (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.reader == nil {
			if len(s.segments) == 0 {
				return Record{}, io.EOF
			}
			if err := s.open(s.segments[0]); err != nil {
				return Record{}, err
			}
		}
		r := s.reader
		if r.off >= r.seg.size {
			next := s.after(r.seg)
			if next == nil {
				return Record{}, io.EOF
			}
			if err := s.open(next); err != nil {
				return Record{}, err
			}
			continue
		}
		start := r.off == int64(len(magic))
		h, b, err := readRecord(r.r, r.buf)
		r.buf = b
		if err != nil {
			// It was whole when it was written: the disk has lost it.
			s.lose(r.seg, r.off, err)
			continue
		}
		r.off += int64(len(b))
		at := position{r.seg.n, r.off}
		_, known := s.known[at]
		return Record{
			Start: start, Known: known || !at.after(s.cursor), Count: int(h.count), Frame: b[headBytes:], at: at,
		}, nil
	}
}

func (p position) after(q position) bool {
	return p.segment > q.segment || p.segment == q.segment && p.offset > q.offset
}

func (s *Spool) open(seg *segment) error {
	s.reader.close()
	s.reader = nil
	f, err := os.Open(seg.path)
	if err != nil {
		return fmt.Errorf("read the buffer: %w", err)
	}
	if _, err := f.Seek(int64(len(magic)), io.SeekStart); err != nil {
		_ = f.Close()
		return fmt.Errorf("read the buffer: %w", err)
	}
	s.reader = &reader{seg: seg, f: f, r: bufio.NewReaderSize(f, 16<<10), off: int64(len(magic))}
	return nil
}

func (s *Spool) after(seg *segment) *segment {
	for _, o := range s.segments {
		if o.n > seg.n {
			return o
		}
	}
	return nil
}

// lose gives up the rest of a segment.
func (s *Spool) lose(seg *segment, off int64, err error) {
	lost := int64(0)
	read := int64(0)
	if werr := seg.walk(off, func(h recordHead) { read += int64(h.count) }); werr == nil {
		lost = max(seg.count-read, 0)
	}
	s.log.Warn("damage in the buffer: the rest of a file is lost", "file", seg.path, "offset", off, "samples", lost, "err", err)
	s.dropped += uint64(lost)
	seg.count -= lost
	if s.file != nil && seg == s.segments[len(s.segments)-1] {
		_ = s.file.Close()
		s.file, s.dirty = nil, false
	}
	seg.size = off
	s.reader.off = off
	if s.after(seg) == nil && s.cursor.segment == seg.n && s.cursor.offset >= off {
		s.removeFirst()
	}
}

// Forget says that the servers have a record already; it need not be sent.
func (s *Spool) Forget(m Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.at.after(s.cursor) {
		s.known[m.at] = struct{}{}
	}
}

// Ack says that the servers have this record and all before it.
func (s *Spool) Ack(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.at.after(s.cursor) {
		return
	}
	s.cursor = r.at
	delete(s.known, r.at)
	for len(s.segments) > 0 {
		first := s.segments[0]
		open := s.file != nil && len(s.segments) == 1
		if first.n > s.cursor.segment {
			return
		}
		if first.n == s.cursor.segment && s.cursor.offset < first.size {
			first.done += int64(r.Count)
			return
		}
		if open { // nobody waits in it: the next record begins another
			s.closeFile()
		}
		s.removeFirst()
	}
}

const cursorFile = "cursor"

// saveCursor keeps what was acknowledged. After a crash some of it is sent
// again, which changes nothing.
func (s *Spool) saveCursor() error {
	if s.cursor == s.saved {
		return nil
	}
	b := binary.LittleEndian.AppendUint64(nil, s.cursor.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.cursor.offset))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
	tmp := s.path(cursorFile + ".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("keep the place in the buffer: %w", err)
	}
	if err := os.Rename(tmp, s.path(cursorFile)); err != nil {
		return fmt.Errorf("keep the place in the buffer: %w", err)
	}
	s.saved = s.cursor
	return nil
}

// readCursor returns the zero position when there is none that is whole.
func readCursor(path string) position {
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 20 || crc32.Checksum(b[:16], crcTable) != binary.LittleEndian.Uint32(b[16:]) {
		return position{}
	}
	off := int64(binary.LittleEndian.Uint64(b[8:]))
	return position{binary.LittleEndian.Uint64(b), max(off, 0)}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, os.ErrInvalid) || errors.Is(err, os.ErrPermission) {
		return nil // systems without it
	}
	return err
}

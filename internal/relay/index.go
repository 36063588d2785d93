package relay

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// index knows the segments and keeps the newest records in memory, so that
// senders that are up to date never read the disk.
type index struct {
	dir string

	mu       sync.Mutex // guards the fields below
	segments []*segment // in the order of their numbers; the last may be open
	isOpen   bool       // the last one is being written
	next     uint64     // number of the next segment
	end      position
	durable  tail    // of the open one: what is on the disk
	tail     []block // in order, without a gap up to end
	held     int64   // bytes in tail
}

// block is what one group wrote.
type block struct {
	start   position
	data    []byte
	written int64     // milliseconds since 1970
	shown   time.Time // with the monotonic clock
}

func (b block) end() position { return b.start + position(len(b.data)) }

// nextNumber returns a number that was never used, and what is before it.
func (x *index) nextNumber() (seq uint64, before tail) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.segments); n > 0 {
		before = x.segments[n-1].tail()
	}
	x.next++
	return x.next - 1, before
}

func (x *index) begin(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments = append(x.segments, s)
	x.isOpen = true
	x.end = at(s.seq, s.size)
}

func (x *index) sealed() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.isOpen = false
}

// add makes a block known that was written at the end of s.
func (x *index) add(s *segment, b block, spans segment, most int64) position {
	x.mu.Lock()
	defer x.mu.Unlock()
	b.start = at(s.seq, s.size)
	s.size += int64(len(b.data))
	s.note(spans.last, spans.from, spans.to)
	x.end = at(s.seq, s.size)
	x.tail = append(x.tail, b)
	x.held += int64(len(b.data))
	for x.held > most && len(x.tail) > 1 {
		x.dropTail()
	}
	return x.end
}

func (x *index) dropTail() {
	x.held -= int64(len(x.tail[0].data))
	x.tail[0] = block{}
	x.tail = x.tail[1:]
}

// passed forgets blocks that every destination has.
func (x *index) passed(p position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.tail) > 0 && x.tail[0].end() <= p {
		x.dropTail()
	}
}

// cut ends s at size: what came behind is not to be sent any more.
func (x *index) cut(s *segment, size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s.size = min(s.size, size)
	x.end = at(s.seq, s.size)
	for n := len(x.tail); n > 0 && x.tail[n-1].end() > x.end; n-- {
		x.held -= int64(len(x.tail[n-1].data))
		x.tail = x.tail[:n-1]
	}
}

// synced notes that all of s is on the disk.
func (x *index) synced(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.durable = s.tail()
}

func (x *index) endPosition() position {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.end
}

// behind returns how many bytes of the log come after p.
func (x *index) behind(p position) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	var n int64
	for i := len(x.segments) - 1; i >= 0; i-- {
		s := x.segments[i]
		switch {
		case s.seq < p.segment():
			return n
		case s.seq == p.segment():
			return n + max(0, s.size-max(p.offset(), headerSize))
		}
		n += s.size - headerSize
	}
	return n
}

// since returns when the first record behind p was written; ok is false when
// there is none, and approximate when it is not in memory.
func (x *index) since(p position) (written int64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p >= x.end {
		return 0, false
	}
	i, _ := slices.BinarySearchFunc(x.tail, p, func(b block, p position) int { return cmp.Compare(b.end(), p+1) })
	if i < len(x.tail) && (i > 0 || x.tail[0].start <= p) {
		return x.tail[i].written, true
	}
	for i, s := range x.segments {
		if s.seq == p.segment() && p.offset() < s.size {
			return s.created, true
		}
		if s.seq > p.segment() && (s.size > headerSize || i == len(x.segments)-1) {
			return s.created, true
		}
	}
	return 0, false
}

// chunk is a run of whole records of one segment.
type chunk struct {
	start, next position
	data        []byte // shared: not to be changed
	written     int64  // when the first of it was
	begins      bool   // next in line is the beginning of a segment; no data
}

var errNothing = errors.New("nothing behind this position yet")

// read returns records from p on, at most about limit bytes but at least one.
// errNothing says that p is the end. When p is the end of a segment and there
// is another, the answer is its beginning, without records.
func (x *index) read(p position, limit int) (chunk, error) {
	x.mu.Lock()
	i := slices.IndexFunc(x.segments, func(s *segment) bool { return s.seq >= p.segment() })
	for i >= 0 && i < len(x.segments) && (x.segments[i].seq == p.segment() && p.offset() >= x.segments[i].size) {
		if i++; i == len(x.segments) {
			i = -1
		}
	}
	if i < 0 {
		x.mu.Unlock()
		return chunk{}, errNothing
	}
	s := x.segments[i]
	if s.seq != p.segment() {
		x.mu.Unlock()
		start := at(s.seq, headerSize)
		return chunk{start: start, next: start, begins: true}, nil
	}
	k, _ := slices.BinarySearchFunc(x.tail, p, func(b block, p position) int { return cmp.Compare(b.end(), p+1) })
	if k < len(x.tail) && x.tail[k].start <= p {
		b := x.tail[k]
		x.mu.Unlock()
		return whole(p, b.data[p-b.start:], b.written, limit)
	}
	size := s.size
	x.mu.Unlock()
	return x.readFile(p, size, limit)
}

func (x *index) readFile(p position, size int64, limit int) (chunk, error) {
	f, err := os.Open(segmentPath(x.dir, p.segment()))
	if err != nil {
		return chunk{}, &damage{p, err}
	}
	defer f.Close()
	for {
		n := min(int64(limit), size-p.offset())
		buf := make([]byte, n)
		if _, err := f.ReadAt(buf, p.offset()); err != nil {
			return chunk{}, &damage{p, err}
		}
		r, err := parseRecord(buf)
		if errors.Is(err, errShort) && n < size-p.offset() {
			if limit, err = recordLen(buf[:min(n, recordHead)]); err == nil {
				continue
			}
		}
		if err != nil {
			return chunk{}, &damage{p, err}
		}
		end := 0
		for rest := buf; ; rest = buf[end:] {
			r, err := parseRecord(rest)
			if err != nil {
				break
			}
			end += r.size
		}
		return chunk{start: p, next: p + position(end), data: buf[:end], written: r.written}, nil
	}
}

// whole cuts data behind the last whole record within limit.
func whole(p position, data []byte, written int64, limit int) (chunk, error) {
	end := 0
	for end < len(data) {
		n, err := recordLen(data[end:])
		if err != nil || end+n > len(data) {
			return chunk{}, &damage{p, errDamaged}
		}
		if end > 0 && end+n > limit {
			break
		}
		end += n
	}
	return chunk{start: p, next: p + position(end), data: data[:end], written: written}, nil
}

// damage says that a segment cannot be read from a position on.
type damage struct {
	pos position
	err error
}

func (d *damage) Error() string {
	return fmt.Sprintf("read segment %d at %d: %s", d.pos.segment(), d.pos.offset(), d.err)
}

func (d *damage) Unwrap() error { return d.err }

// beginning returns where to send from so that what comes after p can be
// understood: the beginning of its segment, unless nothing more of that will come.
func (x *index) beginning(p position) position {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range x.segments {
		if s.seq != p.segment() {
			continue
		}
		if p.offset() <= headerSize || p.offset() >= s.size && !(x.isOpen && i == len(x.segments)-1) {
			return p
		}
		return at(s.seq, headerSize)
	}
	return p
}

package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment is a file: a header, then records. Its records are one session of
// wire frames, so that it can be read on its own from its beginning.
//
//	header  magic, version, id of the log, number, time of making, end and span
//	        of the segment before, CRC
//	record  length of the body (4 bytes), CRC-32C of the body (4 bytes), body
//	body    when it was written, the span of its samples, a wire frame
const (
	segmentMagic   = "PANRELAY"
	segmentVersion = 1
	headerSize     = 96
	recordHead     = 8
	maxRecord      = 128 << 20
	segmentSuffix  = ".seg"
)

var (
	errShort   = errors.New("record is cut off")
	errDamaged = errors.New("record is damaged")
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

func segmentPath(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%010d%s", seq, segmentSuffix))
}

func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 28)
	return n, err == nil && n > 0
}

// header is the beginning of a file.
type header struct {
	logID    string
	seq      uint64
	created  int64 // milliseconds since 1970
	previous tail  // of the segment before
}

// tail is what the next segment, or the state, remembers of one, so that a file
// that has become shorter is noticed, and what was in it can be told.
type tail struct {
	End  position `json:"end"` // 0: there was none
	From int64    `json:"from"`
	To   int64    `json:"to"` // span of its samples
}

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = append(b, h.logID[:26]...)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.created))
	for _, v := range [3]uint64{uint64(h.previous.End), uint64(h.previous.From), uint64(h.previous.To)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, make([]byte, headerSize-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func decodeHeader(b []byte, seq uint64) (header, error) {
	if len(b) < headerSize {
		return header{}, errShort
	}
	if binary.LittleEndian.Uint32(b[headerSize-4:]) != checksum(b[:headerSize-4]) || string(b[:8]) != segmentMagic {
		return header{}, errDamaged
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return header{}, fmt.Errorf("segment has format %d, this version reads %d", v, segmentVersion)
	}
	h := header{logID: string(b[12:38]), seq: binary.LittleEndian.Uint64(b[40:]), created: int64(binary.LittleEndian.Uint64(b[48:])),
		previous: tail{position(binary.LittleEndian.Uint64(b[56:])), int64(binary.LittleEndian.Uint64(b[64:])), int64(binary.LittleEndian.Uint64(b[72:]))}}
	if h.seq != seq {
		return header{}, fmt.Errorf("segment is number %d", h.seq)
	}
	return h, nil
}

// record is one frame in the log.
type record struct {
	written  int64 // milliseconds since 1970
	from, to int64 // span of its samples
	frame    []byte
	size     int // bytes in the log
}

// appendRecord writes a record around what encode appends.
func appendRecord(b []byte, written, from, to int64, encode func([]byte) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = binary.AppendVarint(b, written)
	b = binary.AppendVarint(b, from-written)
	b = binary.AppendVarint(b, to-from)
	b, err := encode(b)
	if err != nil {
		return b[:start], err
	}
	body := b[start+recordHead:]
	if len(body) > maxRecord {
		return b[:start], fmt.Errorf("record of %d bytes, %d are allowed", len(body), maxRecord)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], checksum(body))
	return b, nil
}

// recordLen returns the bytes of the first record; errShort when not even its
// head is there.
func recordLen(b []byte) (int, error) {
	if len(b) < recordHead {
		return 0, errShort
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxRecord || n < 4 {
		return 0, errDamaged
	}
	return recordHead + int(n), nil
}

// parseRecord checks and splits the first record of b.
func parseRecord(b []byte) (record, error) {
	n, err := recordLen(b)
	if err != nil {
		return record{}, err
	}
	if len(b) < n {
		return record{}, errShort
	}
	body := b[recordHead:n]
	if checksum(body) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, errDamaged
	}
	r := record{size: n}
	var v [3]int64
	for i := range v {
		x, k := binary.Varint(body)
		if k <= 0 {
			return record{}, errDamaged
		}
		v[i], body = x, body[k:]
	}
	r.written, r.from, r.frame = v[0], v[0]+v[1], body
	r.to = r.from + v[2]
	return r, nil
}

// segment is what is known about one file.
type segment struct {
	seq     uint64
	before  tail  // of the segment before, when this one was begun
	size    int64 // bytes that may be read
	created int64 // milliseconds since 1970
	last    int64 // when its last record was written; created while unknown
	from    int64 // span of its samples, when spanned
	to      int64
	spanned bool
	checked bool // all records have been read since the start, or written
}

func (s *segment) tail() tail {
	t := tail{at(s.seq, s.size), s.created, s.last}
	if s.spanned {
		t.From, t.To = min(t.From, s.from), max(t.To, s.to)
	}
	return t
}

func (s *segment) note(written, from, to int64) {
	s.last = max(s.last, written)
	if !s.spanned {
		s.from, s.to, s.spanned = from, to, true
		return
	}
	s.from, s.to = min(s.from, from), max(s.to, to)
}

// scan reads all records of a file and returns the offset behind the last
// whole one. err is errShort when the rest is the beginning of a record and
// errDamaged when it is none.
func (s *segment) scan(f io.ReaderAt, size int64) (good int64, err error) {
	buf := make([]byte, 0, 1<<20)
	good = headerSize
	for off := int64(headerSize); off < size; {
		n := min(int64(cap(buf)), size-off)
		buf = buf[:n]
		if _, err := f.ReadAt(buf, off); err != nil {
			return good, err
		}
		used := 0
		for used < len(buf) {
			r, err := parseRecord(buf[used:])
			if errors.Is(err, errShort) {
				break
			}
			if err != nil {
				return good, err
			}
			s.note(r.written, r.from, r.to)
			used += r.size
			good += int64(r.size)
		}
		off += int64(used)
		if used > 0 {
			continue
		}
		need, err := recordLen(buf)
		if err != nil {
			return good, err
		}
		if off+int64(need) > size {
			return good, errShort
		}
		buf = make([]byte, 0, need)
	}
	return good, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

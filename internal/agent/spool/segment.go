package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	magic     = "PNPSEG1\n"
	suffix    = ".seg"
	maxRecord = 1<<20 + headBytes // what one message carries
	headBytes = 28
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// recordHead is in front of each frame: checksum of all that follows it, length
// of the frame, how much is in it, and its times.
type recordHead struct {
	length   uint32
	count    uint32
	from, to int64
}

func (h *recordHead) span(t int64) {
	if h.from == 0 || t < h.from {
		h.from = t
	}
	h.to = max(h.to, t)
}

// put fills in the head in front of the frame that is in b already.
func (h *recordHead) put(b []byte) {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-headBytes))
	binary.LittleEndian.PutUint32(b[8:], h.count)
	binary.LittleEndian.PutUint64(b[12:], uint64(h.from))
	binary.LittleEndian.PutUint64(b[20:], uint64(h.to))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], crcTable))
}

var errDamaged = errors.New("damaged record")

// readRecord reads one record into buf. io.EOF: there are no more.
func readRecord(r io.Reader, buf []byte) (recordHead, []byte, error) {
	if cap(buf) < headBytes {
		buf = make([]byte, headBytes, 4<<10)
	}
	buf = buf[:headBytes]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errDamaged
		}
		return recordHead{}, buf, err
	}
	h := recordHead{
		length: binary.LittleEndian.Uint32(buf[4:]), count: binary.LittleEndian.Uint32(buf[8:]),
		from: int64(binary.LittleEndian.Uint64(buf[12:])), to: int64(binary.LittleEndian.Uint64(buf[20:])),
	}
	if h.length == 0 || h.length > maxRecord || h.count > maxRecord {
		return h, buf, errDamaged
	}
	n := headBytes + int(h.length)
	if cap(buf) < n {
		buf = append(make([]byte, 0, n), buf...)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf[headBytes:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errDamaged
		}
		return h, buf, err
	}
	if crc32.Checksum(buf[4:], crcTable) != binary.LittleEndian.Uint32(buf) {
		return h, buf, errDamaged
	}
	return h, buf, nil
}

// segment is what is known of one file.
type segment struct {
	n        uint64
	path     string
	size     int64 // of what is whole
	records  int
	count    int64 // samples and events
	done     int64 // of those, acknowledged
	from, to int64 // times, ms; 0: none
	damaged  bool
	lost     int64 // bytes after the damage
}

func (s *segment) add(h recordHead, bytes int64) {
	s.size += bytes
	s.records++
	s.count += int64(h.count)
	if s.from == 0 || h.from < s.from {
		s.from = h.from
	}
	s.to = max(s.to, h.to)
}

// scan reads a segment and cuts off what is not whole.
func scan(path string, n uint64) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &segment{n: n, path: path}
	r := bufio.NewReaderSize(f, 64<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		s.damaged, s.lost = st.Size() > 0, st.Size()
		return s, nil
	}
	s.size = int64(len(magic))
	var buf []byte
	for {
		h, b, err := readRecord(r, buf)
		buf = b
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if errors.Is(err, errDamaged) {
			s.damaged, s.lost = true, st.Size()-s.size
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		s.add(h, int64(len(b)))
	}
}

// walk tells of the records before an offset.
func (s *segment) walk(until int64, fn func(recordHead)) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	at := int64(len(magic))
	r := bufio.NewReaderSize(io.NewSectionReader(f, at, max(s.size-at, 0)), 64<<10)
	var buf []byte
	for at < until && at < s.size {
		h, b, err := readRecord(r, buf)
		if err != nil {
			return fmt.Errorf("read %s again: %w", s.path, err)
		}
		buf = b
		at += int64(len(b))
		fn(h)
	}
	return nil
}

func segmentName(n uint64) string { return fmt.Sprintf("%016x%s", n, suffix) }

func segmentNumber(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && n > 0
}

package cluster

import (
	"encoding/binary"
	"errors"
)

// Bounds of what other members may send.
const (
	maxIDBytes   = 64
	maxAddrBytes = 300
)

var errDamaged = errors.New("damaged message")

func putString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes a message apart. After the first fault everything it returns is
// empty and ok is false: callers check once, at the end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) ok() bool { return !r.bad }

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes reads a length and so many bytes, at most limit. The result is part of the message.
func (r *reader) bytes(limit int) []byte {
	n := r.uvarint()
	if r.bad || n > uint64(limit) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) string(limit int) string { return string(r.bytes(limit)) }

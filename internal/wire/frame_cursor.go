package wire

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// frameCursor reads from front to back. Once something is missing it is bad
// and gives zeros.
type frameCursor struct {
	b   []byte
	bad bool
}

func (d *frameCursor) uvarint() uint64 {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *frameCursor) fail() { d.b, d.bad = nil, true }

// count reads how many things follow that have at least size bytes each, so
// that nothing is made for what cannot be there.
func (d *frameCursor) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *frameCursor) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *frameCursor) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *frameCursor) text() string { return string(d.bytes(d.count(1))) }

func (d *frameCursor) float() float64 {
	b := d.bytes(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func (d *frameCursor) floats() []float64 {
	n := d.count(8)
	if n == 0 {
		return nil
	}
	vs := make([]float64, n)
	for i := range vs {
		vs[i] = d.float()
	}
	return vs
}

func (d *frameCursor) wholes() []int64 {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = unzigzag(d.uvarint())
	}
	return vs
}

func (d *frameCursor) spans() []histogram.Span {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	list := make([]histogram.Span, n)
	for i := range list {
		list[i] = histogram.Span{Offset: int32(unzigzag(d.uvarint())), Length: uint32(d.uvarint())}
	}
	return list
}

// run reads a difference and how often it comes, at least once and at most n times.
func (d *frameCursor) run(n int) (diff int64, count int) {
	diff = unzigzag(d.uvarint())
	c := d.uvarint()
	if c == 0 || c > uint64(n) {
		d.fail()
		return 0, 0
	}
	return diff, int(c)
}

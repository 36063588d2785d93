package wire

import (
	"encoding/binary"
	"math"
	bits64 "math/bits"

	"github.com/prometheus/prometheus/model/value"
)

// Values of a series mostly are decimal numbers with few digits after the
// point: counts, bytes, seconds in hundredths. So a value is kept as a whole
// number and a power of ten, and what travels is the difference to the whole
// number before. What is no such number travels as the bits that changed.
//
// A value begins with a varint. When it is even, the rest of it is the zigzag
// difference; for a series without a power of ten it is 0 and means "as
// before". When it is odd, the rest is one of these:
const (
	opStale    = 0  // a stale marker; changes nothing else
	opLow      = 1  // + n: the n low bytes of the changed bits follow (0 ≤ n ≤ 8)
	opHigh     = 9  // + n: the n high bytes follow (1 ≤ n ≤ 7)
	opScale    = 17 // + e: the whole number of value·10^e follows, zigzag (0 ≤ e ≤ maxScale)
	maxScale   = 9
	maxWhole   = 1 << 53
	noScale    = -1
	mostMisses = 3 // vain looks for a power of ten before looking less often
)

// last is the value of a series that was sent before.
type last struct {
	whole  int64
	bits   uint64
	scale  int8 // noScale: none yet
	misses uint8
}

func powerOfTen(e int8) float64 {
	return [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}[e]
}

// whole returns v·10^e when that is a whole number from which v can be made
// again to the bit.
func whole(v float64, e int8) (int64, bool) {
	p := powerOfTen(e)
	x := math.RoundToEven(v * p)
	if !(x > -maxWhole && x < maxWhole) {
		return 0, false
	}
	i := int64(x)
	return i, math.Float64bits(float64(i)/p) == math.Float64bits(v)
}

func zigzag(i int64) uint64   { return uint64(i<<1) ^ uint64(i>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func (l *last) append(b []byte, v float64) []byte {
	bits := math.Float64bits(v)
	if l.scale >= 0 {
		if i, ok := whole(v, l.scale); ok {
			d := i - l.whole
			l.whole, l.bits = i, bits
			if u := zigzag(d) << 1; u < 0x80 {
				return append(b, byte(u))
			}
			return binary.AppendUvarint(b, zigzag(d)<<1)
		}
	} else if bits == l.bits {
		return append(b, 0)
	}
	if bits == value.StaleNaN {
		return append(b, opStale<<1|1)
	}
	if l.look() {
		for e := l.scale + 1; e <= maxScale; e++ {
			if i, ok := whole(v, e); ok {
				l.scale, l.whole, l.bits, l.misses = e, i, bits, 0
				b = append(b, byte(opScale+e)<<1|1)
				return binary.AppendUvarint(b, zigzag(i))
			}
		}
	}
	x := bits ^ l.bits
	l.bits = bits
	low, high := (64-bits64.LeadingZeros64(x)+7)/8, (64-bits64.TrailingZeros64(x)+7)/8
	if low <= high {
		b = append(b, byte(opLow+low)<<1|1)
		for range low {
			b = append(b, byte(x))
			x >>= 8
		}
		return b
	}
	b = append(b, byte(opHigh+high)<<1|1)
	for range high {
		b = append(b, byte(x>>56))
		x <<= 8
	}
	return b
}

// look reports whether it is worth while to look for a power of ten: for
// numbers with many digits there is none.
func (l *last) look() bool {
	if l.misses < mostMisses {
		l.misses++
		return true
	}
	l.misses++
	return l.misses%64 == 0
}

// read decodes a value at b[i:]; next is negative when there is none.
func (l *last) read(b []byte, i int) (v float64, next int) {
	var u uint64
	if i < len(b) && b[i] < 0x80 {
		u = uint64(b[i])
		i++
	} else {
		var n int
		u, n = binary.Uvarint(b[min(i, len(b)):])
		if n <= 0 {
			return 0, -1
		}
		i += n
	}
	if u&1 == 0 {
		return l.difference(u>>1, i)
	}
	op := int(u >> 1)
	switch {
	case op == opStale:
		return math.Float64frombits(value.StaleNaN), i
	case op < opHigh+1:
		n := op - opLow
		if len(b)-i < n {
			return 0, -1
		}
		var x uint64
		for k := range n {
			x |= uint64(b[i+k]) << (8 * k)
		}
		l.bits ^= x
		return math.Float64frombits(l.bits), i + n
	case op < opScale:
		n := op - opHigh
		if len(b)-i < n {
			return 0, -1
		}
		var x uint64
		for k := range n {
			x |= uint64(b[i+k]) << (56 - 8*k)
		}
		l.bits ^= x
		return math.Float64frombits(l.bits), i + n
	case op <= opScale+maxScale:
		w, n := binary.Uvarint(b[i:])
		if n <= 0 {
			return 0, -1
		}
		l.scale, l.whole = int8(op-opScale), unzigzag(w)
		v = float64(l.whole) / powerOfTen(l.scale)
		l.bits = math.Float64bits(v)
		return v, i + n
	}
	return 0, -1
}

func (l *last) difference(u uint64, next int) (float64, int) {
	switch {
	case l.scale == 0:
		l.whole += unzigzag(u)
		v := float64(l.whole)
		l.bits = math.Float64bits(v)
		return v, next
	case l.scale > 0:
		l.whole += unzigzag(u)
		v := float64(l.whole) / powerOfTen(l.scale)
		l.bits = math.Float64bits(v)
		return v, next
	case u == 0:
		return math.Float64frombits(l.bits), next
	}
	return 0, -1
}

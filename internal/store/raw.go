package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"panoptes/internal/model"
)

// Raw samples travel as messages. A message is a version and entries; an entry
// is a series' labels and some of its samples in order of time. Series follow
// each other in order of their labels, and a series with many samples has
// several entries in a row.
const (
	rawVersion     = 1
	rawMessage     = 256 << 10 // bytes after which a message is sent
	rawEntry       = 4096      // samples in an entry
	rawMaxLabels   = 1024
	rawMaxLabel    = 1 << 20
	rawMaxElements = 1 << 16 // spans or buckets of a histogram
)

// The kinds of raw sample.
const (
	rawFloat byte = iota
	rawInt
	rawFloatHistogram
)

var errRaw = errors.New("raw samples are damaged")

// sample is one value of a series that is known.
type sample struct {
	t  int64
	v  float64
	ih *histogram.Histogram
	fh *histogram.FloatHistogram
}

// entry is samples of one series in order of time.
type entry struct {
	ls      labels.Labels
	samples []sample
}

// ReadRaw sends the samples of r, as a query would see them, in messages that
// Repair understands. The message is valid until send returns.
func (s *Store) ReadRaw(ctx context.Context, r model.SampleRange, send func([]byte) error) error {
	buf := []byte{rawVersion}
	e := entry{}
	flush := func() error {
		if len(e.samples) == 0 {
			return nil
		}
		buf = appendEntry(buf, e)
		e.samples = e.samples[:0]
		if len(buf) < rawMessage {
			return nil
		}
		err := send(buf)
		buf = append(buf[:0], rawVersion)
		return err
	}
	err := s.scan(ctx, r, true, func(ls labels.Labels, _ uint64, it chunkenc.Iterator, p *pace) error {
		e.ls = ls
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			e.samples = append(e.samples, readSample(typ, it))
			if len(e.samples) < rawEntry {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
			if err := p.step(rawEntry); err != nil {
				return err
			}
		}
		if it.Err() != nil {
			return it.Err()
		}
		return flush()
	})
	if err != nil || len(buf) == 1 {
		return err
	}
	return send(buf)
}

func readSample(typ chunkenc.ValueType, it chunkenc.Iterator) (s sample) {
	switch typ {
	case chunkenc.ValFloat:
		s.t, s.v = it.At()
	case chunkenc.ValHistogram:
		s.t, s.ih = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		s.t, s.fh = it.AtFloatHistogram(nil)
	}
	return s
}

func appendEntry(b []byte, e entry) []byte {
	b = binary.AppendUvarint(b, uint64(e.ls.Len()))
	e.ls.Range(func(l labels.Label) {
		b = appendString(b, l.Name)
		b = appendString(b, l.Value)
	})
	b = binary.AppendUvarint(b, uint64(len(e.samples)))
	var t int64
	for _, s := range e.samples {
		b = binary.AppendVarint(b, s.t-t)
		t = s.t
		switch {
		case s.ih != nil:
			b = appendHistogram(append(b, rawInt), s.ih)
		case s.fh != nil:
			b = appendFloatHistogram(append(b, rawFloatHistogram), s.fh)
		default:
			b = appendFloat(append(b, rawFloat), s.v)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

func appendFloats(b []byte, vs []float64) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = appendFloat(b, v)
	}
	return b
}

func appendInts(b []byte, vs []int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = binary.AppendVarint(b, v)
	}
	return b
}

func appendSpans(b []byte, spans []histogram.Span) []byte {
	b = binary.AppendUvarint(b, uint64(len(spans)))
	for _, s := range spans {
		b = binary.AppendUvarint(binary.AppendVarint(b, int64(s.Offset)), uint64(s.Length))
	}
	return b
}

func appendHistogram(b []byte, h *histogram.Histogram) []byte {
	b = append(b, byte(h.CounterResetHint))
	b = binary.AppendVarint(b, int64(h.Schema))
	b = appendFloat(appendFloat(b, h.ZeroThreshold), h.Sum)
	b = binary.AppendUvarint(binary.AppendUvarint(b, h.ZeroCount), h.Count)
	b = appendSpans(appendSpans(b, h.PositiveSpans), h.NegativeSpans)
	b = appendInts(appendInts(b, h.PositiveBuckets), h.NegativeBuckets)
	return appendFloats(b, h.CustomValues)
}

func appendFloatHistogram(b []byte, h *histogram.FloatHistogram) []byte {
	b = append(b, byte(h.CounterResetHint))
	b = binary.AppendVarint(b, int64(h.Schema))
	for _, v := range []float64{h.ZeroThreshold, h.Sum, h.ZeroCount, h.Count} {
		b = appendFloat(b, v)
	}
	b = appendSpans(appendSpans(b, h.PositiveSpans), h.NegativeSpans)
	b = appendFloats(appendFloats(b, h.PositiveBuckets), h.NegativeBuckets)
	return appendFloats(b, h.CustomValues)
}

// decodeRaw reads one message.
func decodeRaw(b []byte) (out []entry, err error) {
	if len(b) == 0 || b[0] != rawVersion {
		return nil, fmt.Errorf("%w: unknown version", errRaw)
	}
	d := &decoder{b: b[1:]}
	var lb labels.ScratchBuilder
	for d.err == nil && len(d.b) > 0 {
		out = append(out, d.entry(&lb))
	}
	return out, d.err
}

// decoder reads what strangers may have written; after an error it returns
// zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() { d.b, d.err = nil, errRaw }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) float() float64 {
	if v := d.bytes(8); v != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(v))
	}
	return 0
}

// count reads how many elements follow; each has at least size bytes.
func (d *decoder) count(limit, size int) int {
	n := d.uvarint()
	if n > uint64(limit) || n*uint64(size) > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > rawMaxLabel {
		d.fail()
		return ""
	}
	return string(d.bytes(n))
}

func (d *decoder) floats() (out []float64) {
	for range d.count(rawMaxElements, 8) {
		out = append(out, d.float())
	}
	return out
}

func (d *decoder) ints() (out []int64) {
	for range d.count(rawMaxElements, 1) {
		out = append(out, d.varint())
	}
	return out
}

func (d *decoder) spans() (out []histogram.Span) {
	for range d.count(rawMaxElements, 2) {
		off, n := d.varint(), d.uvarint()
		if off < math.MinInt32 || off > math.MaxInt32 || n > rawMaxElements {
			d.fail()
			return nil
		}
		out = append(out, histogram.Span{Offset: int32(off), Length: uint32(n)})
	}
	return out
}

func (d *decoder) schema() int32 {
	v := d.varint()
	if v < math.MinInt8 || v > math.MaxInt8 {
		d.fail()
	}
	return int32(v)
}

func (d *decoder) entry(lb *labels.ScratchBuilder) (e entry) {
	lb.Reset()
	before := ""
	for range d.count(rawMaxLabels, 2) {
		name, value := d.string(), d.string()
		if name <= before {
			d.fail()
		}
		before = name
		lb.Add(name, value)
	}
	e.ls = lb.Labels()
	n := d.count(rawEntry, 10)
	var t int64
	for i := 0; i < n && d.err == nil; i++ {
		before := t
		if t += d.varint(); i > 0 && t <= before {
			d.fail()
		}
		s := sample{t: t}
		switch d.byte() {
		case rawFloat:
			s.v = d.float()
		case rawInt:
			s.ih = d.histogram()
		case rawFloatHistogram:
			s.fh = d.floatHistogram()
		default:
			d.fail()
		}
		e.samples = append(e.samples, s)
	}
	return e
}

func (d *decoder) histogram() *histogram.Histogram {
	h := &histogram.Histogram{CounterResetHint: histogram.CounterResetHint(d.byte()), Schema: d.schema()}
	h.ZeroThreshold, h.Sum = d.float(), d.float()
	h.ZeroCount, h.Count = d.uvarint(), d.uvarint()
	h.PositiveSpans, h.NegativeSpans = d.spans(), d.spans()
	h.PositiveBuckets, h.NegativeBuckets = d.ints(), d.ints()
	h.CustomValues = d.floats()
	if d.err == nil && h.Validate() != nil {
		d.fail()
	}
	return h
}

func (d *decoder) floatHistogram() *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{CounterResetHint: histogram.CounterResetHint(d.byte()), Schema: d.schema()}
	h.ZeroThreshold, h.Sum, h.ZeroCount, h.Count = d.float(), d.float(), d.float(), d.float()
	h.PositiveSpans, h.NegativeSpans = d.spans(), d.spans()
	h.PositiveBuckets, h.NegativeBuckets = d.floats(), d.floats()
	h.CustomValues = d.floats()
	if d.err == nil && h.Validate() != nil {
		d.fail()
	}
	return h
}

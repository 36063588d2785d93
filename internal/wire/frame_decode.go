package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
	cmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"panoptes/internal/model"
)

// frameReader decodes frames of one session into columns.
type frameReader struct {
	limits  Limits
	zstd    *zstd.Decoder
	series  []last
	time    int64
	plain   []byte
	builder labels.ScratchBuilder
}

func newFrameReader(l Limits) (*frameReader, error) {
	l = l.withDefaults()
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(l.MaxDecoded)), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	return &frameReader{limits: l, zstd: z, builder: labels.NewScratchBuilder(16)}, nil
}

func (r *frameReader) reset() { r.series, r.time = r.series[:0], 0 }

// read decodes b and adds it to f. Nothing in f refers to b.
func (r *frameReader) read(b []byte, f *Frame) error {
	if len(b) > r.limits.MaxFrame {
		return fmt.Errorf("a frame of %d bytes, %d are allowed: %w", len(b), r.limits.MaxFrame, model.ErrTooLarge)
	}
	body, err := r.open(b)
	if err != nil {
		return err
	}
	before := 0
	for len(body) > 0 {
		kind := int(body[0])
		d := frameCursor{b: body[1:]}
		content := frameCursor{b: d.bytes(d.count(1))}
		if d.bad {
			return frameError("section %d is cut off", kind)
		}
		body = d.b
		if kind <= before {
			return frameError("section %d comes after section %d", kind, before)
		}
		before = kind
		if err := r.section(kind, &content, f); err != nil {
			return err
		}
		if content.bad || len(content.b) > 0 {
			return frameError("section %d does not fit its length", kind)
		}
	}
	return nil
}

// open checks the flags and returns the sections.
func (r *frameReader) open(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]&^flagZstd != flagVersion {
		return nil, frameError("unknown format")
	}
	if b[0]&flagZstd == 0 {
		if len(b)-1 > r.limits.MaxDecoded {
			return nil, fmt.Errorf("a frame of %d bytes, %d are allowed: %w", len(b)-1, r.limits.MaxDecoded, model.ErrTooLarge)
		}
		return b[1:], nil
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return nil, frameError("no length")
	}
	if size > uint64(r.limits.MaxDecoded) {
		return nil, fmt.Errorf("a frame of %d bytes when decompressed, %d are allowed: %w", size, r.limits.MaxDecoded, model.ErrTooLarge)
	}
	if uint64(cap(r.plain)) < size || cap(r.plain) > 1<<20 && uint64(cap(r.plain)) > 8*size {
		r.plain = make([]byte, 0, size)
	}
	plain, err := r.zstd.DecodeAll(b[1+n:], r.plain[:0:size])
	if err != nil {
		return nil, frameError("decompress: %s", err)
	}
	if uint64(len(plain)) != size {
		return nil, frameError("%d bytes decompressed, %d announced", len(plain), size)
	}
	return plain, nil
}

func (r *frameReader) section(kind int, d *frameCursor, f *Frame) error {
	switch kind {
	case sectionSeries:
		return r.describe(d, f)
	case sectionSamples:
		return r.samples(d, f)
	case sectionHistograms:
		return r.histograms(d, f)
	case sectionExemplars:
		return r.exemplars(d, f)
	case sectionMetadata:
		return r.metadata(d, f)
	case sectionEvents:
		return r.events(d, f)
	}
	return frameError("unknown section %d", kind)
}

func (r *frameReader) describe(d *frameCursor, f *Frame) error {
	texts := make([]string, d.count(1))
	for i := range texts {
		texts[i] = d.text()
	}
	n := d.count(1)
	if d.bad {
		return frameError("labels are cut off")
	}
	if len(r.series)+n > r.limits.MaxSeries {
		return fmt.Errorf("a session with more than %d series: %w", r.limits.MaxSeries, model.ErrLimit)
	}
	for range n {
		count := d.count(2)
		if count > r.limits.MaxLabels {
			return fmt.Errorf("a series with %d labels, %d are allowed: %w", count, r.limits.MaxLabels, model.ErrLimit)
		}
		r.builder.Reset()
		before := ""
		for range count {
			name, val := d.uvarint(), d.uvarint()
			if d.bad || name >= uint64(len(texts)) || val >= uint64(len(texts)) {
				return frameError("a label without a text")
			}
			if texts[name] <= before {
				return frameError("labels are not in order")
			}
			before = texts[name]
			r.builder.Add(texts[name], texts[val])
		}
		f.Series = append(f.Series, r.builder.Labels())
		r.series = append(r.series, last{scale: noScale})
	}
	return nil
}

func (r *frameReader) samples(d *frameCursor, f *Frame) error {
	n := d.count(1)
	if n > r.limits.MaxSamples {
		return fmt.Errorf("a frame of %d samples, %d are allowed: %w", n, r.limits.MaxSamples, model.ErrLimit)
	}
	id, known := int64(-1), int64(len(r.series))
	before, total := len(f.IDs), len(f.IDs)+n
	for len(f.IDs) < total {
		diff, count := d.run(total - len(f.IDs))
		if d.bad {
			return frameError("series of samples are cut off")
		}
		for range count {
			if id += diff; id < 0 || id >= known {
				return frameError("a sample of series %d, %d are described", id, known)
			}
			f.IDs = append(f.IDs, uint32(id))
		}
	}
	t := r.time
	for len(f.Times) < total {
		diff, count := d.run(total - len(f.Times))
		if d.bad {
			return frameError("times are cut off")
		}
		for range count {
			t += diff
			f.Times = append(f.Times, t)
		}
	}
	r.time = t
	f.Values = slices.Grow(f.Values, n)[:total]
	values := f.Values[before:]
	b, at, series := d.b, 0, r.series
	for i, id := range f.IDs[before:] {
		if values[i], at = series[id].read(b, at); at < 0 {
			return frameError("a value is cut off")
		}
	}
	d.b = b[at:]
	return nil
}

func (r *frameReader) id(d *frameCursor) (uint32, error) {
	id := d.uvarint()
	if d.bad || id >= uint64(len(r.series)) {
		return 0, frameError("series %d, %d are described", id, len(r.series))
	}
	return uint32(id), nil
}

func (r *frameReader) histograms(d *frameCursor, f *Frame) error {
	n := d.count(20)
	if n > r.limits.MaxSamples {
		return fmt.Errorf("a frame of %d histograms, %d are allowed: %w", n, r.limits.MaxSamples, model.ErrLimit)
	}
	for range n {
		id, err := r.id(d)
		if err != nil {
			return err
		}
		h := FrameHistogram{ID: id, T: unzigzag(d.uvarint())}
		kind := d.byte()
		hint := histogram.CounterResetHint(kind &^ histogramFloat)
		if hint > histogram.GaugeType {
			return frameError("unknown counter reset hint %d", hint)
		}
		schema := int32(unzigzag(d.uvarint()))
		zero, sum := d.float(), d.float()
		pos, neg := d.spans(), d.spans()
		custom := d.floats()
		if kind&histogramFloat == 0 {
			h.H = &histogram.Histogram{CounterResetHint: hint, Schema: schema, ZeroThreshold: zero, Sum: sum, PositiveSpans: pos, NegativeSpans: neg, CustomValues: custom,
				ZeroCount: d.uvarint(), Count: d.uvarint(), PositiveBuckets: d.wholes(), NegativeBuckets: d.wholes()}
		} else {
			h.FH = &histogram.FloatHistogram{CounterResetHint: hint, Schema: schema, ZeroThreshold: zero, Sum: sum, PositiveSpans: pos, NegativeSpans: neg, CustomValues: custom,
				ZeroCount: d.float(), Count: d.float(), PositiveBuckets: d.floats(), NegativeBuckets: d.floats()}
		}
		if d.bad {
			return frameError("a histogram is cut off")
		}
		f.Histograms = append(f.Histograms, h)
	}
	return nil
}

func (r *frameReader) exemplars(d *frameCursor, f *Frame) error {
	for range d.count(12) {
		id, err := r.id(d)
		if err != nil {
			return err
		}
		x := exemplar.Exemplar{HasTs: d.byte() != 0, Ts: unzigzag(d.uvarint()), Value: d.float()}
		n := d.count(2)
		if n > r.limits.MaxLabels {
			return fmt.Errorf("an exemplar with %d labels, %d are allowed: %w", n, r.limits.MaxLabels, model.ErrLimit)
		}
		r.builder.Reset()
		before := ""
		for range n {
			name, val := d.text(), d.text()
			if name <= before {
				return frameError("labels are not in order")
			}
			before = name
			r.builder.Add(name, val)
		}
		if d.bad {
			return frameError("an exemplar is cut off")
		}
		x.Labels = r.builder.Labels()
		f.Exemplars = append(f.Exemplars, FrameExemplar{ID: id, Exemplar: x})
	}
	return nil
}

func (r *frameReader) metadata(d *frameCursor, f *Frame) error {
	for range d.count(4) {
		id, err := r.id(d)
		if err != nil {
			return err
		}
		m := metadata.Metadata{Type: cmodel.MetricType(d.text()), Unit: d.text(), Help: d.text()}
		if d.bad {
			return frameError("metadata are cut off")
		}
		f.Metadata = append(f.Metadata, FrameMetadata{ID: id, Metadata: m})
	}
	return nil
}

func (r *frameReader) events(d *frameCursor, f *Frame) error {
	for range d.count(3) {
		j := d.bytes(d.count(1))
		if d.bad {
			return frameError("an event is cut off")
		}
		var e model.Event
		if err := json.Unmarshal(j, &e); err != nil {
			return frameError("event: %s", err)
		}
		f.Events = append(f.Events, e)
	}
	return nil
}

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

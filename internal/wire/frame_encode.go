package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Encoder is the sending end of a session of samples. It belongs to one
// goroutine.
type Encoder struct {
	zstd    *zstd.Encoder
	series  []last
	time    int64 // of the last sample
	body    []byte
	column  []byte
	symbols map[string]uint64
}

// NewEncoder begins a session.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	return &Encoder{zstd: z, symbols: map[string]uint64{}}, nil
}

// Reset begins another session.
func (e *Encoder) Reset() {
	e.series, e.time = e.series[:0], 0
}

// Series counts the series that were described in this session.
func (e *Encoder) Series() int { return len(e.series) }

// Encode appends the frame to dst. The frame's series get the next numbers.
// After an error the session cannot go on.
func (e *Encoder) Encode(dst []byte, f *Frame) ([]byte, error) {
	for range f.Series {
		e.series = append(e.series, last{scale: noScale})
	}
	if err := e.check(f); err != nil {
		return dst, err
	}
	e.body = e.body[:0]
	if len(f.Series) > 0 {
		e.section(sectionSeries, e.describe(f.Series))
	}
	if len(f.IDs) > 0 {
		e.section(sectionSamples, e.samples(f))
	}
	if len(f.Histograms) > 0 {
		e.section(sectionHistograms, e.histograms(f.Histograms))
	}
	if len(f.Exemplars) > 0 {
		e.section(sectionExemplars, e.exemplars(f.Exemplars))
	}
	if len(f.Metadata) > 0 {
		e.section(sectionMetadata, e.metadata(f.Metadata))
	}
	if len(f.Events) > 0 {
		b, err := e.events(f)
		if err != nil {
			return dst, err
		}
		e.section(sectionEvents, b)
	}
	if len(e.body) < compressFrom {
		dst = append(dst, flagVersion)
		return append(dst, e.body...), nil
	}
	dst = append(dst, flagVersion|flagZstd)
	dst = binary.AppendUvarint(dst, uint64(len(e.body)))
	return e.zstd.EncodeAll(e.body, dst), nil
}

func (e *Encoder) check(f *Frame) error {
	if len(f.Times) != len(f.IDs) || len(f.Values) != len(f.IDs) {
		return fmt.Errorf("encode frame: %d series, %d times and %d values", len(f.IDs), len(f.Times), len(f.Values))
	}
	n := uint32(len(e.series))
	known := true
	for _, id := range f.IDs {
		known = known && id < n
	}
	for i := range f.Histograms {
		known = known && f.Histograms[i].ID < n
	}
	for i := range f.Exemplars {
		known = known && f.Exemplars[i].ID < n
	}
	for i := range f.Metadata {
		known = known && f.Metadata[i].ID < n
	}
	if !known {
		return fmt.Errorf("encode frame: a series was not described")
	}
	return nil
}

func (e *Encoder) section(kind byte, content []byte) {
	e.body = append(e.body, kind)
	e.body = binary.AppendUvarint(e.body, uint64(len(content)))
	e.body = append(e.body, content...)
	e.column = content[:0]
}

// describe writes the texts of all labels once, then the series by their numbers.
func (e *Encoder) describe(list []labels.Labels) []byte {
	clear(e.symbols)
	var texts, refs []byte
	symbol := func(s string) uint64 {
		n, ok := e.symbols[s]
		if !ok {
			n = uint64(len(e.symbols))
			e.symbols[s] = n
			texts = appendText(texts, s)
		}
		return n
	}
	for _, ls := range list {
		refs = binary.AppendUvarint(refs, uint64(ls.Len()))
		ls.Range(func(l labels.Label) {
			refs = binary.AppendUvarint(refs, symbol(l.Name))
			refs = binary.AppendUvarint(refs, symbol(l.Value))
		})
	}
	b := binary.AppendUvarint(e.column, uint64(len(e.symbols)))
	b = append(b, texts...)
	b = binary.AppendUvarint(b, uint64(len(list)))
	return append(b, refs...)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// samples writes the columns. Numbers and times are runs of equal differences:
// series in the order in which they were described, at one time, cost nothing.
func (e *Encoder) samples(f *Frame) []byte {
	b := binary.AppendUvarint(e.column, uint64(len(f.IDs)))
	before := int64(-1)
	for i := 0; i < len(f.IDs); {
		d, from := int64(f.IDs[i])-before, i
		for before = int64(f.IDs[i]); ; before += d {
			if i++; i == len(f.IDs) || int64(f.IDs[i]) != before+d {
				break
			}
		}
		b = appendRun(b, d, i-from)
	}
	for i := 0; i < len(f.Times); {
		d, from := f.Times[i]-e.time, i
		for e.time = f.Times[i]; ; e.time += d {
			if i++; i == len(f.Times) || f.Times[i] != e.time+d {
				break
			}
		}
		b = appendRun(b, d, i-from)
	}
	for i, v := range f.Values {
		b = e.series[f.IDs[i]].append(b, v)
	}
	return b
}

func appendRun(b []byte, d int64, n int) []byte {
	b = binary.AppendUvarint(b, zigzag(d))
	return binary.AppendUvarint(b, uint64(n))
}

const (
	histogramFloat = 0x80 // the lower bits are the counter reset hint
)

func (e *Encoder) histograms(list []FrameHistogram) []byte {
	b := binary.AppendUvarint(e.column, uint64(len(list)))
	for i := range list {
		f := &list[i]
		b = binary.AppendUvarint(b, uint64(f.ID))
		b = binary.AppendUvarint(b, zigzag(f.T))
		if h := f.H; h != nil {
			b = append(b, byte(h.CounterResetHint))
			b = appendHistogramHead(b, h.Schema, h.ZeroThreshold, h.Sum, h.PositiveSpans, h.NegativeSpans, h.CustomValues)
			b = binary.AppendUvarint(b, h.ZeroCount)
			b = binary.AppendUvarint(b, h.Count)
			b = appendWholes(b, h.PositiveBuckets)
			b = appendWholes(b, h.NegativeBuckets)
			continue
		}
		h := f.FH
		b = append(b, byte(h.CounterResetHint)|histogramFloat)
		b = appendHistogramHead(b, h.Schema, h.ZeroThreshold, h.Sum, h.PositiveSpans, h.NegativeSpans, h.CustomValues)
		b = appendFloat(b, h.ZeroCount)
		b = appendFloat(b, h.Count)
		b = appendFloats(b, h.PositiveBuckets)
		b = appendFloats(b, h.NegativeBuckets)
	}
	return b
}

func appendHistogramHead(b []byte, schema int32, zero, sum float64, pos, neg []histogram.Span, custom []float64) []byte {
	b = binary.AppendUvarint(b, zigzag(int64(schema)))
	b = appendFloat(b, zero)
	b = appendFloat(b, sum)
	for _, spans := range [2][]histogram.Span{pos, neg} {
		b = binary.AppendUvarint(b, uint64(len(spans)))
		for _, s := range spans {
			b = binary.AppendUvarint(b, zigzag(int64(s.Offset)))
			b = binary.AppendUvarint(b, uint64(s.Length))
		}
	}
	return appendFloats(b, custom)
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

func appendWholes(b []byte, vs []int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = binary.AppendUvarint(b, zigzag(v))
	}
	return b
}

func (e *Encoder) exemplars(list []FrameExemplar) []byte {
	b := binary.AppendUvarint(e.column, uint64(len(list)))
	for i := range list {
		x := &list[i].Exemplar
		b = binary.AppendUvarint(b, uint64(list[i].ID))
		has := byte(0)
		if x.HasTs {
			has = 1
		}
		b = append(b, has)
		b = binary.AppendUvarint(b, zigzag(x.Ts))
		b = appendFloat(b, x.Value)
		b = binary.AppendUvarint(b, uint64(x.Labels.Len()))
		x.Labels.Range(func(l labels.Label) { b = appendText(appendText(b, l.Name), l.Value) })
	}
	return b
}

func (e *Encoder) metadata(list []FrameMetadata) []byte {
	b := binary.AppendUvarint(e.column, uint64(len(list)))
	for i := range list {
		m := &list[i].Metadata
		b = binary.AppendUvarint(b, uint64(list[i].ID))
		b = appendText(b, string(m.Type))
		b = appendText(b, m.Unit)
		b = appendText(b, m.Help)
	}
	return b
}

func (e *Encoder) events(f *Frame) ([]byte, error) {
	b := binary.AppendUvarint(e.column, uint64(len(f.Events)))
	for i := range f.Events {
		j, err := json.Marshal(&f.Events[i])
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", f.Events[i].ID, err)
		}
		b = binary.AppendUvarint(b, uint64(len(j)))
		b = append(b, j...)
	}
	return b, nil
}

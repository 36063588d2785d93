package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
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
	text    int // bytes of the labels of the series
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

func (r *frameReader) reset() { r.series, r.time, r.text = r.series[:0], 0, 0 }

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

// textsPerSeries is how many texts a frame may have for each series that the
// session may have.
const textsPerSeries = 8

func (r *frameReader) describe(d *frameCursor, f *Frame) error {
	words := d.count(1)
	if words > textsPerSeries*r.limits.MaxSeries {
		return fmt.Errorf("a frame with %d texts, %d are allowed: %w", words, textsPerSeries*r.limits.MaxSeries, model.ErrLimit)
	}
	texts := make([]string, words)
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
			// One long text can stand in all labels of all series: they are counted
			// before they are made.
			if r.text += len(texts[name]) + len(texts[val]); r.text > r.limits.MaxText {
				return fmt.Errorf("a session with labels of more than %d bytes: %w", r.limits.MaxText, model.ErrLimit)
			}
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

// few reads how many things follow of which a frame has few.
func (r *frameReader) few(d *frameCursor, size int, what string) (int, error) {
	n := d.count(size)
	if n > r.limits.MaxEvents {
		return 0, fmt.Errorf("a frame of %d %s, %d are allowed: %w", n, what, r.limits.MaxEvents, model.ErrLimit)
	}
	return n, nil
}

func (r *frameReader) exemplars(d *frameCursor, f *Frame) error {
	n, err := r.few(d, 12, "exemplars")
	if err != nil {
		return err
	}
	for range n {
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
	n, err := r.few(d, 4, "descriptions")
	if err != nil {
		return err
	}
	for range n {
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
	n, err := r.few(d, 3, "events")
	if err != nil {
		return err
	}
	for range n {
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

package ingest

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"

	"github.com/prometheus/prometheus/model/exemplar"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
)

// The tags of io.prometheus.write.v2.Request and what is in it.
const (
	tagSymbols    = 4<<3 | 2 // Request.symbols
	tagSeries2    = 5<<3 | 2 // Request.timeseries
	tagRefs       = 1<<3 | 2 // TimeSeries.labels_refs, packed
	tagRef        = 1 << 3   // and one of them that is not
	tagSample2    = 2<<3 | 2 // TimeSeries.samples
	tagHistogram2 = 3<<3 | 2 // TimeSeries.histograms
	tagExemplar2  = 4<<3 | 2 // TimeSeries.exemplars
	tagMetadata2  = 5<<3 | 2 // TimeSeries.metadata
	tagStart      = 3 << 3   // Sample.start_timestamp
	tagType       = 1 << 3   // Metadata.type
	tagHelp       = 3 << 3   // Metadata.help_ref
	tagUnit       = 4 << 3   // Metadata.unit_ref
)

// expand bounds what the references of a version 2 message may unfold to,
// relative to the largest message: a symbol is sent once and used at will.
const expand = 4

// scratch2 is what a version 2 message needs beside.
type scratch2 struct {
	symbols  [][]byte // parts of the request
	refs     []uint64
	key      []byte
	unfolded int // bytes of labels so far
	starts   []start
}

// start is when a series' counter began, as was told to the storage.
type start struct {
	e  *entry
	at int64
}

func (s *scratch2) reset() {
	const keep = 1 << 16
	if cap(s.symbols) > keep || cap(s.starts) > keep || cap(s.key) > 1<<20 {
		*s = scratch2{}
		return
	}
	clear(s.symbols)
	clear(s.starts)
	s.symbols, s.starts, s.unfolded = s.symbols[:0], s.starts[:0], 0
}

// began remembers what is stored now.
func (s *scratch2) began() {
	for _, x := range s.starts {
		x.e.start.Store(x.at)
	}
}

func malformed2(err error) error {
	return invalid("protobuf", "the body is not a remote write 2 message: %s", err)
}

// request2 stores a version 2 message. Its series are known by the labels as
// version 1 would send them, so that a sender may change its mind.
func (w *writer) request2(b []byte) error {
	s := &w.v2
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if next < 0 {
			return malformed2(errTruncated)
		}
		switch {
		case tag == tagSymbols:
			text, end := block(b, next)
			if end < 0 {
				return malformed2(errTruncated)
			}
			s.symbols = append(s.symbols, text)
			i = end
			continue
		case tag>>3 < 4:
			// Passing over it would be to acknowledge what is not stored.
			return invalid("protobuf", "the body is a remote write 1 message, but its Content-Type says proto=%s", messageV2)
		case tag>>3 < 6 && tag != tagSeries2:
			return malformed2(errWireType)
		}
		end, err := skip(b, next, tag)
		if err != nil {
			return malformed2(err)
		}
		i = end
	}
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if tag != tagSeries2 {
			end, err := skip(b, next, tag)
			if err != nil {
				return malformed2(err)
			}
			i = end
			continue
		}
		ts, end := block(b, next)
		if err := w.series2(ts); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// shape is what a look over a series finds.
type shape struct {
	meta []byte // nil: none
	data bool   // there is a sample, a histogram, or an exemplar: Prometheus sends those in series of their own
}

// outline gathers the references of a series' labels and checks its fields.
func (s *scratch2) outline(ts []byte) (sh shape, err error) {
	s.refs = s.refs[:0]
	for i := 0; i < len(ts); {
		tag, next := uvarint(ts, i)
		if next < 0 {
			return sh, errTruncated
		}
		switch tag {
		case tagRefs, tagSample2, tagHistogram2, tagExemplar2, tagMetadata2:
			content, end := block(ts, next)
			if end < 0 {
				return sh, errTruncated
			}
			switch tag {
			case tagRefs:
				for j := 0; j < len(content); {
					var ref uint64
					if ref, j = uvarint(content, j); j < 0 {
						return sh, errTruncated
					}
					s.refs = append(s.refs, ref)
				}
			case tagSample2, tagHistogram2, tagExemplar2:
				sh.data = true
			case tagMetadata2:
				sh.meta = content
			}
			i = end
		case tagRef:
			var ref uint64
			if ref, i = uvarint(ts, next); i < 0 {
				return sh, errTruncated
			}
			s.refs = append(s.refs, ref)
		default:
			if i, err = unknown(ts, next, tag, 5); err != nil {
				return sh, err
			}
		}
	}
	return sh, nil
}

// symbol returns the text that a reference stands for.
func (s *scratch2) symbol(ref uint64) ([]byte, error) {
	if ref >= uint64(len(s.symbols)) {
		return nil, invalid("symbol", "a series refers to symbol %d of %d", ref, len(s.symbols))
	}
	return s.symbols[ref], nil
}

// unfold writes labels as version 1 would.
func (w *writer) unfold(key []byte, refs []uint64) ([]byte, error) {
	s := &w.v2
	if len(refs)%2 != 0 {
		return key, invalid("symbol", "the labels of a series are %d references, which is no even number", len(refs))
	}
	if len(refs)/2 > w.g.cfg.MaxLabels {
		return key, limit("label_count", "a series has more than %d labels", w.g.cfg.MaxLabels)
	}
	for i := 0; i < len(refs); i += 2 {
		name, err := s.symbol(refs[i])
		if err != nil {
			return key, err
		}
		value, err := s.symbol(refs[i+1])
		if err != nil {
			return key, err
		}
		size := fieldSize(name) + fieldSize(value)
		if s.unfolded += size; s.unfolded > expand*w.g.cfg.MaxDecoded {
			return key, answer(http.StatusRequestEntityTooLarge, "expanded_size", "the labels unfold to more than %d bytes; send smaller requests", expand*w.g.cfg.MaxDecoded)
		}
		key = append(key, tagLabel)
		key = binary.AppendUvarint(key, uint64(size))
		if len(name) > 0 {
			key = binary.AppendUvarint(append(key, tagName), uint64(len(name)))
			key = append(key, name...)
		}
		if len(value) > 0 {
			key = binary.AppendUvarint(append(key, tagText), uint64(len(value)))
			key = append(key, value...)
		}
	}
	return key, nil
}

func fieldSize(b []byte) int {
	n := len(b)
	switch {
	case n == 0:
		return 0
	case n < 1<<7:
		return n + 2
	case n < 1<<14:
		return n + 3
	}
	return n + 1 + len(binary.AppendUvarint(make([]byte, 0, 10), uint64(n)))
}

func (w *writer) series2(ts []byte) error {
	s := &w.v2
	sh, err := s.outline(ts)
	if err != nil {
		return malformed2(err)
	}
	if s.key, err = w.unfold(s.key[:0], s.refs); err != nil {
		return w.refuse(err)
	}
	if !sh.data {
		return w.refuse(invalid("empty_series", "series %s has no samples", w.name(s.key)))
	}
	e, err := w.find2(s.key)
	if e == nil {
		return err
	}
	w.last = e
	if e.member != nil && !w.elected(e.member) {
		return w.count2(ts)
	}
	ref := e.seriesRef()
	for i := 0; i < len(ts); {
		tag, next := uvarint(ts, i)
		if i, err = skip(ts, next, tag); err != nil {
			return malformed2(err)
		}
		content := ts[:0]
		if tag&7 == 2 {
			content, _ = block(ts, next)
		}
		switch tag {
		case tagSample2:
			t, v, st, err := decodeSample2(content)
			if err != nil {
				return malformed2(err)
			}
			if st != 0 && t != 0 {
				ref = w.zero(e, ref, t, st)
			}
			if ref, err = w.sample(e, ref, t, v); err != nil {
				return err
			}
		case tagHistogram2:
			if ref, err = w.histogram2(e, ref, content); err != nil {
				return err
			}
		case tagExemplar2:
			if err := w.exemplar2(e, content); err != nil {
				return err
			}
		}
	}
	if sh.meta != nil {
		return w.describe2(e, sh.meta)
	}
	return nil
}

// find2 returns the entry of the series with these labels. Without an entry
// and without an error it has been refused.
func (w *writer) find2(key []byte) (*entry, error) {
	if w.last != nil && w.missed < mostMissed {
		e, missed := w.known.after(w.last, key)
		if e != nil {
			return e, nil
		}
		if missed {
			w.missed++
		}
	}
	return w.lookUp(key)
}

// name prints the labels of a series that is refused.
func (w *writer) name(key []byte) string {
	ls, err := w.g.parseLabels(key, string(key), &w.builder)
	if err != nil {
		return fmt.Sprintf("(%s)", err)
	}
	return brief(ls)
}

// count2 counts what is not needed because another replica brings it.
func (w *writer) count2(ts []byte) error {
	for i := 0; i < len(ts); {
		tag, next := uvarint(ts, i)
		var err error
		if i, err = skip(ts, next, tag); err != nil {
			return malformed2(err)
		}
		switch tag {
		case tagSample2:
			w.taken.samples++
		case tagHistogram2:
			w.taken.histograms++
		case tagExemplar2:
			w.taken.exemplars++
		}
	}
	return nil
}

// oldestStart is how long before its sample a counter's start may lie to be
// stored as a zero: older ones matter to no rate.
const oldestStart = int64(2 * 60 * 60 * 1000)

// begins says whether a counter's start is worth a zero.
func begins(t, st, maxT int64) bool { return t <= maxT && st < t && t-st <= oldestStart }

// zero stores that a counter began at zero, unless that has been done. That it
// cannot be stored, for example because a sample is there already, is no error.
func (w *writer) zero(e *entry, ref storage.SeriesRef, t, st int64) storage.SeriesRef {
	if !begins(t, st, w.maxT) || e.start.Load() == st {
		return ref
	}
	got, err := w.app.AppendSTZeroSample(ref, e.labels, t, st)
	return w.zeroed(e, ref, got, st, err)
}

func (w *writer) zeroed(e *entry, ref, got storage.SeriesRef, st int64, err error) storage.SeriesRef {
	w.v2.starts = append(w.v2.starts, start{e, st})
	if err != nil || got == 0 {
		return ref
	}
	e.learn(ref, got)
	return got
}

func (w *writer) histogram2(e *entry, ref storage.SeriesRef, b []byte) (storage.SeriesRef, error) {
	var p writev2.Histogram
	if err := p.Unmarshal(b); err != nil {
		return ref, malformed2(err)
	}
	t, st := p.Timestamp, p.StartTimestamp
	zero := st != 0 && t != 0 && begins(t, st, w.maxT) && e.start.Load() != st
	if p.IsFloatHistogram() {
		fh := p.ToFloatHistogram()
		if zero {
			got, err := w.app.AppendHistogramSTZeroSample(ref, e.labels, t, st, nil, fh)
			ref = w.zeroed(e, ref, got, st, err)
		}
		return w.histogram(e, ref, t, nil, fh)
	}
	h := p.ToIntHistogram()
	if zero {
		got, err := w.app.AppendHistogramSTZeroSample(ref, e.labels, t, st, h, nil)
		ref = w.zeroed(e, ref, got, st, err)
	}
	return w.histogram(e, ref, t, h, nil)
}

func (w *writer) exemplar2(e *entry, b []byte) error {
	var p writev2.Exemplar
	if err := p.Unmarshal(b); err != nil {
		return malformed2(err)
	}
	s := &w.v2
	if len(p.LabelsRefs)%2 != 0 || len(p.LabelsRefs)/2 > w.g.cfg.MaxLabels {
		w.g.metrics.refused.WithLabelValues("exemplar").Inc()
		return nil
	}
	w.builder.Reset()
	for i := 0; i < len(p.LabelsRefs); i += 2 {
		name, err := s.symbol(uint64(p.LabelsRefs[i]))
		if err != nil {
			return w.refuse(err)
		}
		value, err := s.symbol(uint64(p.LabelsRefs[i+1]))
		if err != nil {
			return w.refuse(err)
		}
		if w.g.checkLabel(name, value) != nil {
			w.g.metrics.refused.WithLabelValues("exemplar").Inc()
			return nil
		}
		w.builder.Add(string(name), string(value))
	}
	w.builder.Sort()
	return w.exemplar(e, exemplar.Exemplar{Labels: w.builder.Labels(), Value: p.Value, Ts: p.Timestamp, HasTs: p.Timestamp != 0})
}

// metricTypes are the numbers of version 2.
var metricTypes = [...]string{"unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"}

// describe2 keeps the metadata of a series, once a minute or when it changes.
func (w *writer) describe2(e *entry, b []byte) error {
	var kind, help, unit uint64
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if next < 0 {
			return malformed2(errTruncated)
		}
		var to *uint64
		switch tag {
		case tagType:
			to = &kind
		case tagHelp:
			to = &help
		case tagUnit:
			to = &unit
		default:
			var err error
			if tag>>3 == 2 { // not in use
				i, err = skip(b, next, tag)
			} else {
				i, err = unknown(b, next, tag, 4)
			}
			if err != nil {
				return malformed2(err)
			}
			continue
		}
		if *to, i = uvarint(b, next); i < 0 {
			return malformed2(errTruncated)
		}
	}
	if kind == 0 && help == 0 && unit == 0 || e.labels.IsEmpty() {
		return nil
	}
	helpText, err := w.v2.symbol(help)
	if err != nil {
		return w.refuse(err)
	}
	unitText, err := w.v2.symbol(unit)
	if err != nil {
		return w.refuse(err)
	}
	// A text of the same length that has changed is noticed in the next minute.
	told := uint64(uint32(w.now.Unix()/60))<<32 | kind&15<<28 | uint64(len(helpText))&0x3fff<<14 | uint64(len(unitText))&0x3fff
	if e.told.Load() == told {
		return nil
	}
	e.told.Store(told)
	if kind >= uint64(len(metricTypes)) {
		kind = 0
	}
	w.g.describeSeries(e.labels, Description{Type: metricTypes[kind], Help: string(helpText), Unit: string(unitText)}, w.now)
	return nil
}

// decodeSample2 reads one Sample of version 2.
func decodeSample2(b []byte) (t int64, v float64, st int64, err error) {
	for i := 0; i < len(b); {
		switch b[i] {
		case tagValue:
			if len(b)-i < 9 {
				return 0, 0, 0, errTruncated
			}
			v = math.Float64frombits(binary.LittleEndian.Uint64(b[i+1:]))
			i += 9
		case tagTimestamp, tagStart:
			u, next := uvarint(b, i+1)
			if next < 0 {
				return 0, 0, 0, errTruncated
			}
			if b[i] == tagStart {
				st = int64(u)
			} else {
				t = int64(u)
			}
			i = next
		default:
			tag, next := uvarint(b, i)
			if next < 0 {
				return 0, 0, 0, errTruncated
			}
			if i, err = unknown(b, next, tag, 3); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	return t, v, st, nil
}

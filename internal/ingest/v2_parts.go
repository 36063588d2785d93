package ingest

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
)

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

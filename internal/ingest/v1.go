package ingest

import (
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/prompb"
)

func malformed(err error) error {
	return invalid("protobuf", "the body is not a remote write 1 message: %s", err)
}

// request stores a version 1 message.
func (w *writer) request(b []byte) error {
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if next < 0 {
			return malformed(errTruncated)
		}
		switch tag {
		case tagTimeSeries:
			ts, end := block(b, next)
			if end < 0 {
				return malformed(errTruncated)
			}
			if err := w.series(ts); err != nil {
				return err
			}
			i = end
		case tagMetadata:
			// Types and help texts come apart from any series.
			m, end := block(b, next)
			if end < 0 {
				return malformed(errTruncated)
			}
			var meta prompb.MetricMetadata
			if err := meta.Unmarshal(m); err != nil {
				return malformed(err)
			}
			w.g.describe(&meta, w.now)
			i = end
		case tagSymbols, tagSeries2:
			// Passing over it would be to acknowledge what is not stored.
			return invalid("protobuf", "the body is a remote write 2 message, but its Content-Type does not say proto=%s", messageV2)
		default:
			var err error
			if tag>>3 == 2 { // reserved: something that an old sender may use
				next, err = skip(b, next, tag)
			} else {
				next, err = unknown(b, next, tag, 3)
			}
			if err != nil {
				return malformed(err)
			}
			i = next
		}
	}
	return nil
}

func (w *writer) series(ts []byte) error {
	e, rest, err := w.find(ts)
	if e == nil {
		return err
	}
	if e.member != nil && !w.elected(e.member) {
		return nil
	}
	ref := e.seriesRef()
	for i := 0; i < len(rest); {
		if rest[i] != tagSample {
			if i, err = w.other(e, rest, i); err != nil {
				return err
			}
			ref = e.seriesRef()
			continue
		}
		b, next := block(rest, i+1)
		if next < 0 {
			return malformed(errTruncated)
		}
		t, v, err := decodeSample(b)
		if err != nil {
			return malformed(err)
		}
		i = next
		if ref, err = w.sample(e, ref, t, v); err != nil {
			return err
		}
	}
	return nil
}

// find returns the entry of a series and what follows its labels. Without an
// entry and without an error the series has been refused.
func (w *writer) find(ts []byte) (e *entry, rest []byte, err error) {
	if w.last != nil && w.missed < mostMissed {
		var missed bool
		if e, missed = w.known.after(w.last, ts); missed {
			w.missed++
		}
	}
	var key []byte
	if e != nil {
		rest = ts[len(e.key):]
	} else if key, rest, err = splitLabels(ts); err != nil {
		return nil, nil, malformed(err)
	}
	if !oneSample(rest) {
		whole, err := onlyData(rest)
		if err != nil {
			return nil, nil, malformed(err)
		}
		if !whole { // the leading labels alone do not tell the series
			e, err = w.lookUp(gatherLabels(ts))
			return e, rest, err
		}
	}
	if e == nil {
		if e, err = w.lookUp(key); e == nil {
			return nil, nil, err
		}
	}
	w.last = e
	return e, rest, nil
}

// other handles a field of a series that is not a sample.
func (w *writer) other(e *entry, rest []byte, i int) (next int, err error) {
	tag, i := uvarint(rest, i)
	if i < 0 {
		return 0, malformed(errTruncated)
	}
	switch tag {
	case tagExemplar, tagHistogram:
		b, end := block(rest, i)
		if end < 0 {
			return 0, malformed(errTruncated)
		}
		if tag == tagExemplar {
			return end, w.exemplar1(e, b)
		}
		return end, w.histogram1(e, b)
	case tagLabel: // find has gathered them
		next, err = skip(rest, i, tag)
	default:
		next, err = unknown(rest, i, tag, 4)
	}
	if err != nil {
		return 0, malformed(err)
	}
	return next, nil
}

func (w *writer) exemplar1(e *entry, b []byte) error {
	var p prompb.Exemplar
	if err := p.Unmarshal(b); err != nil {
		return malformed(err)
	}
	var x exemplar.Exemplar
	if len(p.Labels) > w.g.cfg.MaxLabels {
		w.g.metrics.refused.WithLabelValues("exemplar").Inc()
		return nil
	}
	x = p.ToExemplar(&w.builder, nil)
	return w.exemplar(e, x)
}

func (w *writer) histogram1(e *entry, b []byte) error {
	var p prompb.Histogram
	if err := p.Unmarshal(b); err != nil {
		return malformed(err)
	}
	var err error
	if p.IsFloatHistogram() {
		_, err = w.histogram(e, e.seriesRef(), p.Timestamp, nil, p.ToFloatHistogram())
	} else {
		_, err = w.histogram(e, e.seriesRef(), p.Timestamp, p.ToIntHistogram(), nil)
	}
	return err
}

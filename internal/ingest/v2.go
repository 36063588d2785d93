package ingest

import (
	"encoding/binary"
	"fmt"
	"net/http"
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

package wire

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Decoder is the receiving end of a session of samples. It remembers by which
// reference the storage knows each series, so that labels are looked at once.
// It belongs to one goroutine at a time.
type Decoder struct {
	reader *frameReader
	series []resolved
	accept func(labels.Labels) (labels.Labels, error)
}

type resolved struct {
	ref    storage.SeriesRef
	labels labels.Labels
	err    error // why the series is not taken
}

// NewDecoder begins a session. accept looks at each series once: it may change
// its labels or refuse it, which costs that series only; nil takes all.
func NewDecoder(l Limits, accept func(labels.Labels) (labels.Labels, error)) (*Decoder, error) {
	r, err := newFrameReader(l)
	if err != nil {
		return nil, err
	}
	return &Decoder{reader: r, accept: accept}, nil
}

// Reset begins another session.
func (d *Decoder) Reset() {
	d.reader.reset()
	clear(d.series)
	d.series = d.series[:0]
}

// Close frees what the decoder holds.
func (d *Decoder) Close() { d.reader.zstd.Close() }

// Decode adds what a frame carries to f, which does not refer to b afterwards.
// Frames are to be decoded in the order in which they were made, each once. An
// error ends the session, and f is not to be used: it is ErrFrame,
// model.ErrTooLarge or model.ErrLimit.
func (d *Decoder) Decode(b []byte, f *Frame) error {
	before := len(f.Series)
	if err := d.reader.read(b, f); err != nil {
		return err
	}
	for _, ls := range f.Series[before:] {
		s := resolved{labels: ls}
		if d.accept != nil {
			s.labels, s.err = d.accept(ls)
		}
		d.series = append(d.series, s)
	}
	return nil
}

// Refusals counts what a storage refused for good, and why it refused the first.
type Refusals struct {
	Count int
	First error
}

func (r *Refusals) add(ls labels.Labels, err error) {
	if r.Count++; r.First == nil {
		name := ls.String()
		r.First = fmt.Errorf("series %s: %w", name[:min(len(name), 200)], err)
	}
}

// Append hands the samples, histograms, exemplars and metadata of decoded
// frames of this session to app; events are the caller's. What is refused for
// good is counted. An error (model.ErrNoSpace, model.ErrUnavailable) says that
// the storage takes nothing at the moment: roll back and append the frame again
// later.
func (d *Decoder) Append(app storage.Appender, f *Frame) (refused Refusals, err error) {
	for i, id := range f.IDs {
		s := &d.series[id]
		if s.err != nil {
			refused.add(s.labels, s.err)
			continue
		}
		ref, err := app.Append(s.ref, s.labels, f.Times[i], f.Values[i])
		if err == nil && ref == s.ref {
			continue
		}
		if err := d.appended(app, s, ref, err, &refused); err != nil {
			return refused, err
		}
	}
	for i := range f.Histograms {
		h := &f.Histograms[i]
		s := &d.series[h.ID]
		if s.err != nil {
			refused.add(s.labels, s.err)
			continue
		}
		ref, err := app.AppendHistogram(s.ref, s.labels, h.T, h.H, h.FH)
		if err := d.appended(app, s, ref, err, &refused); err != nil {
			return refused, err
		}
	}
	for i := range f.Exemplars {
		x := &f.Exemplars[i]
		if s := &d.series[x.ID]; s.ref != 0 {
			if _, err := app.AppendExemplar(s.ref, s.labels, x.Exemplar); unable(err) {
				return refused, err
			}
		}
	}
	for i := range f.Metadata {
		m := &f.Metadata[i]
		if s := &d.series[m.ID]; s.ref != 0 {
			if _, err := app.UpdateMetadata(s.ref, s.labels, m.Metadata); unable(err) {
				return refused, err
			}
		}
	}
	return refused, nil
}

// appended is the end of an append that failed or gave a new reference.
func (d *Decoder) appended(app storage.Appender, s *resolved, ref storage.SeriesRef, err error, refused *Refusals) error {
	switch {
	case unable(err):
		return err
	case err != nil:
		refused.add(s.labels, err)
		return nil
	case ref == s.ref:
		return nil
	}
	s.ref = ref
	// The storage has its own copy of the labels: one is enough.
	if g, ok := app.(storage.GetRef); ok {
		if got, ls := g.GetRef(s.labels, s.labels.Hash()); got == ref && labels.Equal(ls, s.labels) {
			s.labels = ls
		}
	}
	return nil
}

// unable reports whether a storage takes nothing at the moment.
func unable(err error) bool {
	return err != nil && (errors.Is(err, model.ErrNoSpace) || errors.Is(err, model.ErrUnavailable))
}

package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// Appender returns an appender of the own store that also brings what it takes
// to the other servers. Its Commit returns nil when the own store has the
// samples on its disk and, if any other server is alive, one of those too.
// After an error of Commit the samples may be stored or not: append them again.
//
// Append and the others answer as those of the own store, and
// model.ErrNoSpace or model.ErrUnavailable when the log takes nothing. What
// the own store refuses is not sent.
func (r *Relay) Appender(ctx context.Context) storage.Appender {
	local := r.deps.Store.Appender(ctx)
	if r.alone.Load() {
		return local
	}
	a, ok := r.appended.Get().(*appender)
	if !ok {
		a = &appender{}
	}
	a.r, a.ctx, a.local, a.refuse = r, ctx, local, r.journal.accepting()
	return a
}

// appender belongs to one goroutine, as its store's does, and lives as long as
// one batch: that is why it holds a context.
type appender struct {
	r      *Relay
	ctx    context.Context
	local  storage.Appender
	refuse error // of the log

	samples    []sample
	histograms []pendingHistogram
	exemplars  []pendingExemplar
	metadata   []pendingMetadata
}

type series struct {
	ref    storage.SeriesRef
	labels labels.Labels
}

type sample struct {
	series
	t int64
	v float64
}

type pendingHistogram struct {
	series
	wire.FrameHistogram
}

type pendingExemplar struct {
	series
	exemplar exemplar.Exemplar
}

type pendingMetadata struct {
	series
	metadata metadata.Metadata
}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	got, err := a.local.Append(ref, l, t, v)
	if err != nil {
		return got, err
	}
	a.samples = append(a.samples, sample{series{got, l}, t, v})
	return got, nil
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	if n := histogramBytes(&wire.FrameHistogram{H: h, FH: fh}); n > maxHistogram {
		return 0, fmt.Errorf("a histogram of %d bytes, %d are taken: %w", n, maxHistogram, model.ErrLimit)
	}
	got, err := a.local.AppendHistogram(ref, l, t, h, fh)
	if err == nil {
		a.histograms = append(a.histograms, pendingHistogram{series{got, l}, wire.FrameHistogram{T: t, H: h, FH: fh}})
	}
	return got, err
}

func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	got, err := a.local.AppendExemplar(ref, l, e)
	if err == nil {
		a.exemplars = append(a.exemplars, pendingExemplar{series{got, l}, e})
	}
	return got, err
}

// AppendSTZeroSample is an ordinary sample to the others: what the own store
// took as the zero at the start is stored there all the same.
func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	got, err := a.local.AppendSTZeroSample(ref, l, t, st)
	if err == nil {
		a.samples = append(a.samples, sample{series{got, l}, st, 0})
	}
	return got, err
}

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	got, err := a.local.AppendHistogramSTZeroSample(ref, l, t, st, h, fh)
	if err != nil {
		return got, err
	}
	zero := wire.FrameHistogram{T: st}
	if h != nil {
		zero.H = &histogram.Histogram{CounterResetHint: histogram.CounterReset, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, CustomValues: h.CustomValues}
	} else if fh != nil {
		zero.FH = &histogram.FloatHistogram{CounterResetHint: histogram.CounterReset, Schema: fh.Schema, ZeroThreshold: fh.ZeroThreshold, CustomValues: fh.CustomValues}
	}
	a.histograms = append(a.histograms, pendingHistogram{series{got, l}, zero})
	return got, nil
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, l labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	if a.refuse != nil {
		return 0, a.refuse
	}
	got, err := a.local.UpdateMetadata(ref, l, m)
	if err == nil {
		a.metadata = append(a.metadata, pendingMetadata{series{got, l}, m})
	}
	return got, err
}

// GetRef returns the reference of a series that exists (storage.GetRef).
func (a *appender) GetRef(l labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	if g, ok := a.local.(storage.GetRef); ok {
		return g.GetRef(l, hash)
	}
	return 0, labels.EmptyLabels()
}

// SetOptions goes to the own store. What it takes the others take, too.
func (a *appender) SetOptions(o *storage.AppendOptions) { a.local.SetOptions(o) }

// Commit writes the log and the own store at the same time.
func (a *appender) Commit() error {
	defer a.end()
	if a.refuse != nil {
		return errors.Join(a.refuse, a.local.Rollback())
	}
	if len(a.samples)+len(a.histograms)+len(a.exemplars)+len(a.metadata) == 0 {
		return a.local.Commit()
	}
	g, err := a.r.journal.stage(a.fill)
	if err != nil {
		return errors.Join(err, a.local.Rollback())
	}
	if err := a.local.Commit(); err != nil {
		return err
	}
	return a.r.await(a.ctx, g)
}

// maxHistogram keeps a record within what a message may have.
const maxHistogram = 4 << 20

// fill puts everything into frames.
func (a *appender) fill(s *stager) {
	for i := range a.samples {
		x := &a.samples[i]
		id, f := s.number(uint64(x.ref), x.labels)
		f.IDs = append(f.IDs, id)
		f.Times = append(f.Times, x.t)
		f.Values = append(f.Values, x.v)
	}
	for i := range a.histograms {
		x := &a.histograms[i]
		id, _ := s.number(uint64(x.ref), x.labels)
		f := s.frame(histogramBytes(&x.FrameHistogram))
		x.ID = id
		f.Histograms = append(f.Histograms, x.FrameHistogram)
	}
	for i := range a.exemplars {
		x := &a.exemplars[i]
		id, _ := s.number(uint64(x.ref), x.labels)
		f := s.frame(32 + int(x.exemplar.Labels.ByteSize()))
		f.Exemplars = append(f.Exemplars, wire.FrameExemplar{ID: id, Exemplar: x.exemplar})
	}
	for i := range a.metadata {
		x := &a.metadata[i]
		id, _ := s.number(uint64(x.ref), x.labels)
		f := s.frame(32 + len(x.metadata.Help) + len(x.metadata.Unit))
		f.Metadata = append(f.Metadata, wire.FrameMetadata{ID: id, Metadata: x.metadata})
	}
}

func histogramBytes(h *wire.FrameHistogram) int {
	n := 64
	if h.H != nil {
		n += 8 * (len(h.H.PositiveSpans) + len(h.H.NegativeSpans) + len(h.H.PositiveBuckets) + len(h.H.NegativeBuckets) + len(h.H.CustomValues))
	}
	if h.FH != nil {
		n += 8 * (len(h.FH.PositiveSpans) + len(h.FH.NegativeSpans) + len(h.FH.PositiveBuckets) + len(h.FH.NegativeBuckets) + len(h.FH.CustomValues))
	}
	return n
}

func (a *appender) Rollback() error {
	defer a.end()
	return a.local.Rollback()
}

// end gives the memory back. A second end of the same appender finds the
// store's own, which refuses it.
func (a *appender) end() {
	const keep = 1 << 16
	r := a.r
	if r == nil {
		return
	}
	if cap(a.samples) <= keep {
		clear(a.samples)
		clear(a.histograms)
		clear(a.exemplars)
		clear(a.metadata)
		r.appended.Put(&appender{samples: a.samples[:0], histograms: a.histograms[:0], exemplars: a.exemplars[:0], metadata: a.metadata[:0]})
	}
	a.samples, a.histograms, a.exemplars, a.metadata, a.r = nil, nil, nil, nil, nil
}

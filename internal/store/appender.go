package store

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"panoptes/internal/model"
)

// ErrTooFarInFuture refuses samples whose time is ahead of the clock by more
// than Config.FutureLimit. One of them would move the out-of-order window and
// make everything else too old. It wraps storage.ErrOutOfBounds, which
// Prometheus' write handlers answer with 400.
var ErrTooFarInFuture = fmt.Errorf("the sample's time is too far in the future; check the sender's clock: %w", storage.ErrOutOfBounds)

// References carry the opening of the database that gave them: the TSDB may
// give the same number to another series after it was opened again.
const genShift = 48

// minTime is the earliest time that is taken: year 1.
const minTime = -62_135_596_800_000

// Appender returns an appender. Its Commit returns nil only when the samples
// are on the disk: one sync serves all commits that came before it began.
//
// Append answers model.Invalid for labels that are no labels, model.ErrLimit
// for too many or too long ones, ErrTooFarInFuture, and the errors of the
// TSDB (storage.ErrTooOldSample, storage.ErrOutOfOrderSample, …); none of them
// makes the samples before it void. A second value for the same instant is
// counted and no error. A reference that is not known any more needs labels.
// When nothing can be stored at the moment every method answers
// model.ErrNoSpace or model.ErrUnavailable.
//
// An appender belongs to one goroutine and must be ended by Commit or Rollback.
func (s *Store) Appender(ctx context.Context) storage.Appender {
	h, err := s.acquireWrite()
	if err != nil {
		return &refusing{s: s, err: err}
	}
	return &appender{
		s:    s,
		h:    h,
		app:  h.db.Appender(ctx),
		gen:  storage.SeriesRef(h.gen) << genShift,
		maxT: time.Now().Add(s.cfg.FutureLimit).UnixMilli(),
		late: s.changes.late(),
	}
}

type appender struct {
	s     *Store
	h     *handle
	app   storage.Appender // nil when ended
	opts  *storage.AppendOptions
	gen   storage.SeriesRef
	maxT  int64
	dirty bool // something was appended
	late  late

	met  storage.SeriesRef // the newest series that it did not make itself
	born birth             // the series that it made

	young []young // samples whose series may be forgotten before the commit
}

// known removes the generation from a reference; an old one becomes 0.
func (a *appender) known(ref storage.SeriesRef) storage.SeriesRef {
	if ref>>genShift != a.gen>>genShift {
		return 0
	}
	return ref &^ a.gen
}

// series is the reference for the database of a series that is known, or made now.
func (a *appender) series(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if ref = a.known(ref); ref == 0 {
		return a.find(l, t, v)
	}
	if ref > a.met {
		a.met = ref
	}
	return ref, nil
}

// find looks for a series by its labels, and makes it when there is none.
func (a *appender) find(l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if g, ok := a.app.(storage.GetRef); ok {
		if ref, _ := g.GetRef(l, l.Hash()); ref != 0 {
			a.met = max(a.met, ref)
			return ref, nil
		}
	}
	ref, made, err := a.h.births.bear(&a.born, l, t, v)
	if !made {
		a.met = max(a.met, ref)
	}
	return ref, err
}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t > a.maxT || t < minTime || a.app == nil {
		return 0, a.refuseTime(t)
	}
	if t < a.late.recent {
		a.late.note(t)
	}
	got, err := a.series(ref, l, t, v)
	if err == nil {
		got, err = a.app.Append(got, l, t, v)
	}
	if err == nil && a.isYoung(got) {
		a.remember(young{ref: got, labels: l, t: t, v: v})
	}
	if err != nil || !a.dirty {
		return a.appended(ref, got, err)
	}
	return got | a.gen, nil
}

// refuseTime says what is wrong with a sample's time, or with the appender.
func (a *appender) refuseTime(t int64) error {
	if a.app == nil {
		return tsdb.ErrAppenderClosed
	}
	a.s.m.refused.WithLabelValues(reasonFuture).Inc()
	if t < minTime {
		return fmt.Errorf("the sample's time is before the year 1: %w", storage.ErrOutOfBounds)
	}
	return ErrTooFarInFuture
}

// appended is the end of an append that failed, or was the first.
func (a *appender) appended(ref, got storage.SeriesRef, err error) (storage.SeriesRef, error) {
	if err == nil || errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		if !a.dirty {
			a.dirty = true
			if a.opts != nil { // an empty database forgets options given before the first sample
				a.app.SetOptions(a.opts)
			}
		}
	}
	if err == nil {
		return got | a.gen, nil
	}
	if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		a.s.m.duplicates.Inc()
		return ref, nil
	}
	reason, err := classify(err)
	a.s.m.refused.WithLabelValues(reason).Inc()
	return 0, err
}

// classify names the reason of a refusal and makes the TSDB's own complaint
// about labels a model.Invalid.
func classify(err error) (string, error) {
	var inv model.Invalid
	switch {
	case errors.Is(err, storage.ErrTooOldSample):
		return reasonTooOld, err
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return reasonOutOfOrder, err
	case errors.Is(err, storage.ErrOutOfBounds):
		return reasonBounds, err
	case errors.As(err, &inv):
		return reasonInvalid, err
	case errors.Is(err, tsdb.ErrInvalidSample):
		return reasonInvalid, model.Invalid{{Field: "labels", Msg: err.Error()}}
	case errors.Is(err, model.ErrLimit):
		return reasonLimit, err
	}
	return reasonOther, err
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t > a.maxT || t < minTime || a.app == nil {
		return 0, a.refuseTime(t)
	}
	if t < a.late.recent {
		a.late.note(t)
	}
	got, err := a.series(ref, l, t, 0)
	if err == nil {
		got, err = a.app.AppendHistogram(got, l, t, h, fh)
	}
	if err == nil && a.isYoung(got) {
		a.remember(young{ref: got, labels: l, t: t, h: h, fh: fh})
	}
	return a.appended(ref, got, err)
}

func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	if e.Ts > a.maxT || e.Ts < minTime || a.app == nil {
		return 0, a.refuseTime(e.Ts)
	}
	valid := true
	e.Labels.Range(func(l labels.Label) { valid = valid && utf8.ValidString(l.Name) && utf8.ValidString(l.Value) })
	if !valid {
		a.s.m.refused.WithLabelValues(reasonInvalid).Inc()
		return 0, model.Invalid{{Field: "exemplar", Msg: "a label is not valid UTF-8"}}
	}
	got, err := a.app.AppendExemplar(a.known(ref), l, e)
	return a.related(got, err)
}

func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64) (storage.SeriesRef, error) {
	if t > a.maxT || st > a.maxT || min(t, st) < minTime || a.app == nil {
		return 0, a.refuseTime(min(t, st))
	}
	a.late.note(min(t, st))
	got, err := a.series(ref, l, t, 0)
	if err == nil {
		got, err = a.app.AppendSTZeroSample(got, l, t, st)
	}
	return a.related(got, err)
}

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t > a.maxT || st > a.maxT || min(t, st) < minTime || a.app == nil {
		return 0, a.refuseTime(min(t, st))
	}
	a.late.note(min(t, st))
	got, err := a.series(ref, l, t, 0)
	if err == nil {
		got, err = a.app.AppendHistogramSTZeroSample(got, l, t, st, h, fh)
	}
	return a.related(got, err)
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, l labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	if a.app == nil {
		return 0, tsdb.ErrAppenderClosed
	}
	got, err := a.app.UpdateMetadata(a.known(ref), l, m)
	return a.related(got, err)
}

// related is the end of an append of something that belongs to a sample. Its
// errors are the caller's to judge; they are no refused samples.
func (a *appender) related(got storage.SeriesRef, err error) (storage.SeriesRef, error) {
	if err != nil {
		return 0, err
	}
	a.dirty = true
	if got != 0 {
		got |= a.gen
	}
	return got, nil
}

// GetRef returns the reference of a series that exists (storage.GetRef).
func (a *appender) GetRef(l labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	g, ok := a.app.(storage.GetRef)
	if !ok {
		return 0, labels.EmptyLabels()
	}
	ref, l := g.GetRef(l, hash)
	if ref != 0 {
		ref |= a.gen
	}
	return ref, l
}

// SetOptions is honoured: with DiscardOutOfOrder old samples are refused.
func (a *appender) SetOptions(o *storage.AppendOptions) {
	a.opts = o
	if a.app != nil {
		a.app.SetOptions(o)
	}
}

func (a *appender) Commit() error {
	if a.app == nil {
		return tsdb.ErrAppenderClosed
	}
	defer a.end()
	err := a.h.failed()
	if err == nil && a.dirty && a.s.low.Load() {
		err = errLowSpace
	}
	if err != nil {
		return errors.Join(err, a.h.births.log(&a.born, 0), a.app.Rollback())
	}
	err = a.h.write(func() error {
		if err := a.h.births.log(&a.born, a.met); err != nil {
			return errors.Join(err, a.app.Rollback())
		}
		if err := a.app.Commit(); err != nil {
			return err
		}
		return a.restore()
	})
	a.s.changes.commit(&a.late)     // also when it failed: some of it may be seen
	if errors.Is(err, errCutting) { // nothing has been done
		return errors.Join(err, a.h.births.log(&a.born, 0), a.app.Rollback())
	}
	if err != nil {
		return a.s.fail(a.h, err)
	}
	if !a.dirty {
		return nil
	}
	if err := a.h.group.wait(); err != nil {
		return err
	}
	a.s.m.commits.Inc()
	return nil
}

func (a *appender) Rollback() error {
	if a.app == nil {
		return tsdb.ErrAppenderClosed
	}
	defer a.end()
	if err := errors.Join(a.h.births.log(&a.born, 0), a.app.Rollback()); err != nil {
		return a.s.fail(a.h, err)
	}
	return nil
}

func (a *appender) end() {
	a.app = nil
	a.s.release(a.h)
}

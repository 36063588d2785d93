package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// guard puts our limits between the library's handlers and the storage, and
// notes in the request's outcome what they would hide behind a 500.
type guard struct{ g *Ingest }

// outcome is what became of one request that went through a handler of the
// library.
type outcome struct {
	src   *source
	proto string

	mu         sync.Mutex // guards the fields below
	internal   error      // the first error that is not the client's
	limited    bool       // a limit was met
	duplicates int
	samples    int
	histograms int
	exemplars  int
	open       []storage.Appender // neither committed nor rolled back
}

type outcomeKey struct{}

// Appender implements storage.Appendable.
func (a *guard) Appender(ctx context.Context) storage.Appender {
	o, ok := ctx.Value(outcomeKey{}).(*outcome)
	if !ok {
		o = &outcome{src: a.g.sources.get("")}
	}
	app := a.g.deps.Appendable.Appender(ctx)
	o.mu.Lock()
	o.open = append(o.open, app)
	o.mu.Unlock()
	return &guardedAppender{
		Appender: app, g: a.g, o: o,
		maxT: time.Now().Add(a.g.cfg.MaxAhead).UnixMilli(),
	}
}

type guardedAppender struct {
	storage.Appender
	g    *Ingest
	o    *outcome
	maxT int64
	key  []byte
	raw  []byte
}

// find checks a series at first sight; a known one costs a look into the cache.
func (a *guardedAppender) find(ls labels.Labels) (*entry, error) {
	// No key of remote write 1 begins with this byte.
	a.raw = ls.Bytes(a.raw)
	a.key = append(append(a.key[:0], 0xff), a.raw...)
	e, hash := a.g.known.get(a.key)
	if e != nil {
		return e, nil
	}
	ls = ls.WithoutEmpty()
	err := a.g.checkLabels(ls)
	if err == nil {
		e, err = a.g.admit(hash, string(a.key), ls, a.o.src)
	}
	return e, a.note(err)
}

// note counts a refusal and remembers an error that is not the client's.
func (a *guardedAppender) note(err error) error {
	if err == nil {
		return nil
	}
	var r *refusal
	reason := sampleReason(err)
	if errors.As(err, &r) {
		reason = r.reason
	}
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	switch {
	case reason == "" && a.o.internal == nil:
		a.o.internal = err
	case reason != "":
		a.g.metrics.refused.WithLabelValues(reason).Inc()
	}
	a.o.limited = a.o.limited || r != nil && r.limit
	return err
}

func (a *guardedAppender) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t > a.maxT {
		return 0, a.note(invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), a.g.cfg.MaxAhead))
	}
	var e *entry
	if ref == 0 {
		var err error
		if e, err = a.find(ls); err != nil {
			return 0, err
		}
		ref, ls = e.seriesRef(), e.labels
	}
	got, err := a.Appender.Append(ref, ls, t, v)
	return a.done(e, ref, got, err, &a.o.samples)
}

func (a *guardedAppender) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t > a.maxT {
		return 0, a.note(invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), a.g.cfg.MaxAhead))
	}
	var e *entry
	if ref == 0 {
		var err error
		if e, err = a.find(ls); err != nil {
			return 0, err
		}
		ref, ls = e.seriesRef(), e.labels
	}
	got, err := a.Appender.AppendHistogram(ref, ls, t, h, fh)
	return a.done(e, ref, got, err, &a.o.histograms)
}

func (a *guardedAppender) done(e *entry, ref, got storage.SeriesRef, err error, count *int) (storage.SeriesRef, error) {
	if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		a.o.duplicates++
		*count++ // it is stored
		return ref, nil
	}
	if err != nil {
		return 0, a.note(err)
	}
	if e != nil {
		e.learn(ref, got)
	}
	*count++
	return got, nil
}

// AppendExemplar leaves out what is wrong with an exemplar's own labels.
func (a *guardedAppender) AppendExemplar(ref storage.SeriesRef, ls labels.Labels, x exemplar.Exemplar) (storage.SeriesRef, error) {
	err := a.g.checkExemplar(x.Labels)
	if err == nil && x.Ts > a.maxT {
		err = invalid("future", "series %s, exemplar at %s: more than %s ahead of this server's clock", brief(ls), stamp(x.Ts), a.g.cfg.MaxAhead)
	}
	if err == nil {
		ref, err = a.Appender.AppendExemplar(ref, ls, x)
	}
	if err != nil {
		a.g.metrics.refused.WithLabelValues("exemplar").Inc()
		return 0, err
	}
	a.o.exemplars++
	return ref, nil
}

func (a *guardedAppender) Commit() error {
	a.o.closed(a.Appender)
	err := a.Appender.Commit()
	if err == nil {
		a.g.metrics.stored(a.o.proto, a.o.samples, a.o.histograms, a.o.exemplars, a.o.duplicates)
	}
	return a.note(err)
}

func (a *guardedAppender) Rollback() error {
	a.o.closed(a.Appender)
	return a.Appender.Rollback()
}

func (o *outcome) closed(app storage.Appender) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = slices.DeleteFunc(o.open, func(x storage.Appender) bool { return x == app })
}

// abandon rolls back what a handler that panicked has left open: an appender
// that is never closed would hold the storage's memory for ever.
func (o *outcome) abandon() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, app := range o.open {
		errs = append(errs, app.Rollback())
	}
	o.open = nil
	return errors.Join(errs...)
}

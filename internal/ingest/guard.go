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
	later      bool       // one that passes
	doubles    int        // series of replicas that are not elected
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
	bound := a.g.deps.Bound(ctx)
	app := a.g.deps.Appendable.Appender(ctx)
	o.mu.Lock()
	o.open = append(o.open, app)
	o.mu.Unlock()
	return &guardedAppender{
		Appender: app, g: a.g, o: o,
		maxT: time.Now().Add(a.g.cfg.MaxAhead).UnixMilli(), bound: bound, known: a.g.cacheOf(bound),
	}
}

type guardedAppender struct {
	storage.Appender
	g     *Ingest
	o     *outcome
	maxT  int64
	bound labels.Labels
	known *cache
	key   []byte
	raw   []byte
	last  *entry // found last

	member *replica // whose turn was looked at last
	mine   bool     // whether it is stored
}

// find checks a series at first sight; a known one costs a look into the cache.
func (a *guardedAppender) find(ls labels.Labels) (*entry, error) {
	// No key of remote write 1 begins with this byte.
	a.raw = ls.Bytes(a.raw)
	a.key = append(append(a.key[:0], 0xff), a.raw...)
	e, hash := a.known.get(a.key)
	if e != nil {
		a.last = e
		return e, nil
	}
	ls = ls.WithoutEmpty()
	err := a.g.checkLabels(ls)
	var member *replica
	if err == nil {
		ls, member, err = a.g.identify(ls, a.bound)
	}
	if err == nil {
		e, err = a.g.admit(a.known, hash, &entry{key: string(a.key), labels: ls, owner: a.o.src, member: member}, knownTo(a.Appender, ls))
	}
	a.last = e
	return e, a.note(err)
}

// series returns what a handler's reference and labels stand for: the reference
// and labels for the storage. keep is false for a replica that is not elected.
func (a *guardedAppender) series(ref storage.SeriesRef, ls labels.Labels) (e *entry, _ storage.SeriesRef, _ labels.Labels, keep bool, err error) {
	if ref != 0 && a.last != nil && a.last.seriesRef() == ref {
		return nil, ref, a.last.labels, true, nil
	}
	if e, err = a.find(ls); err != nil {
		return nil, 0, ls, false, err
	}
	if r := e.member; r != nil {
		if a.member != r {
			a.member, a.mine = r, a.g.elections.elected(r, time.Now())
		}
		if !a.mine {
			a.o.doubles++
			return e, 0, ls, false, nil
		}
	}
	return e, e.seriesRef(), e.labels, true, nil
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
	a.o.limited = a.o.limited || reason == reasonLimit || r != nil && r.limit
	a.o.later = a.o.later || r != nil && r.later
	return err
}

func (a *guardedAppender) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t > a.maxT {
		return 0, a.note(invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), a.g.cfg.MaxAhead))
	}
	e, ref, ls, keep, err := a.series(ref, ls)
	if err != nil || !keep {
		return 0, err
	}
	got, err := a.Appender.Append(ref, ls, t, v)
	return a.done(e, ref, got, err, &a.o.samples)
}

func (a *guardedAppender) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t > a.maxT {
		return 0, a.note(invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), a.g.cfg.MaxAhead))
	}
	e, ref, ls, keep, err := a.series(ref, ls)
	if err != nil || !keep {
		return 0, err
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

// AppendSTZeroSample stores that a counter began at zero. That it cannot be
// stored, for example because a sample is there already, is no error of the request.
func (a *guardedAppender) AppendSTZeroSample(ref storage.SeriesRef, ls labels.Labels, t, st int64) (storage.SeriesRef, error) {
	if !begins(t, st, a.maxT) {
		return ref, nil
	}
	e, ref, ls, keep, err := a.series(ref, ls)
	if err != nil || !keep {
		return 0, err
	}
	got, err := a.Appender.AppendSTZeroSample(ref, ls, t, st)
	return zeroed(e, ref, got, err)
}

// AppendHistogramSTZeroSample does the same for a native histogram.
func (a *guardedAppender) AppendHistogramSTZeroSample(ref storage.SeriesRef, ls labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if !begins(t, st, a.maxT) {
		return ref, nil
	}
	e, ref, ls, keep, err := a.series(ref, ls)
	if err != nil || !keep {
		return 0, err
	}
	got, err := a.Appender.AppendHistogramSTZeroSample(ref, ls, t, st, h, fh)
	return zeroed(e, ref, got, err)
}

func zeroed(e *entry, ref, got storage.SeriesRef, err error) (storage.SeriesRef, error) {
	if err != nil {
		return ref, nil
	}
	if e != nil {
		e.learn(ref, got)
	}
	return got, nil
}

// AppendExemplar leaves out what is wrong with an exemplar's own labels.
func (a *guardedAppender) AppendExemplar(ref storage.SeriesRef, ls labels.Labels, x exemplar.Exemplar) (storage.SeriesRef, error) {
	err := a.g.checkExemplar(x.Labels)
	if err == nil && x.Ts > a.maxT {
		err = invalid("future", "series %s, exemplar at %s: more than %s ahead of this server's clock", brief(ls), stamp(x.Ts), a.g.cfg.MaxAhead)
	}
	keep := true
	if err == nil {
		_, ref, ls, keep, err = a.series(ref, ls)
	}
	if err == nil && !keep {
		return 0, nil
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
		a.o.src.spend(a.o.samples+a.o.histograms, time.Now())
		if a.o.doubles > 0 {
			a.g.metrics.doubles.WithLabelValues(a.o.proto).Add(float64(a.o.doubles))
		}
		a.g.metrics.stored(a.o.proto, a.o.samples, a.o.histograms, a.o.exemplars, a.o.duplicates)
	}
	return a.note(err)
}

// Rollback is what the OTLP handler calls when anything in a message is wrong,
// after all that is right was appended: as long as the storage has not
// complained, what is right is stored, and the answer names the rest.
func (a *guardedAppender) Rollback() error {
	if a.o.proto == protoOTLP && a.o.sound() {
		return a.Commit()
	}
	a.o.closed(a.Appender)
	return a.Appender.Rollback()
}

// sound says that nothing but the message is at fault so far.
func (o *outcome) sound() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.internal == nil
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

package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// writer stores one remote write request. What it holds of a request is in a
// buffer that others use later: it keeps copies.
type writer struct {
	g       *Ingest
	app     storage.Appender
	src     *source
	known   *cache
	bound   labels.Labels // that the source is bound to
	now     time.Time
	maxT    int64 // milliseconds; later samples are refused
	builder labels.ScratchBuilder
	last    *entry // the series before; nil = none
	missed  int    // series that did not come behind the one before as they did the last time

	member *replica // whose turn was looked at last
	mine   bool     // whether it is stored

	samples, histograms, exemplars, duplicates int
	doubles                                    int // series of replicas that are not elected
	taken                                      written
	refusals                                   refusals

	v2 scratch2
}

// written is what a request's answer says was taken: stored, there already, or
// not needed because another replica brings it.
type written struct{ samples, histograms, exemplars int }

type writerPool struct{ pool sync.Pool }

func (p *writerPool) get() *writer {
	if w, ok := p.pool.Get().(*writer); ok {
		return w
	}
	return &writer{builder: labels.NewScratchBuilder(16)}
}

func (p *writerPool) put(w *writer) {
	w.v2.reset()
	*w = writer{builder: w.builder, v2: w.v2}
	p.pool.Put(w)
}

// store stores a decompressed request. What is wrong with a series or a sample
// costs that alone and is reported in a *partial; after any other error
// nothing is stored.
func (g *Ingest) store(ctx context.Context, proto string, body []byte, src *source) (written, error) {
	w := g.writers.get()
	defer g.writers.put(w)
	w.g, w.src, w.now, w.bound = g, src, time.Now(), g.deps.Bound(ctx)
	w.known = g.cacheOf(w.bound)
	w.maxT = w.now.Add(g.cfg.MaxAhead).UnixMilli()
	w.app = g.deps.Appendable.Appender(ctx)
	decode := w.request
	if proto == protoV2 {
		decode = w.request2
	}
	if err := decode(body); err != nil {
		return written{}, errors.Join(err, w.app.Rollback())
	}
	if err := w.app.Commit(); err != nil {
		return written{}, fmt.Errorf("store samples: %w", err)
	}
	w.v2.began()
	g.metrics.stored(proto, w.samples, w.histograms, w.exemplars, w.duplicates)
	src.spend(w.samples+w.histograms, w.now)
	if w.doubles > 0 {
		g.metrics.doubles.WithLabelValues(proto).Add(float64(w.doubles))
	}
	return w.taken, w.refusals.err()
}

// refusals gathers what is wrong with parts of a request.
type refusals struct {
	count int
	says  []string // the first of them
	worst *refusal // decides the answer: what helps to know most is that sending again helps
}

// saysMost is how many refusals an answer tells of.
const saysMost = 10

// refuse notes why a part of the request is not stored. An error that is not
// the request's fault is returned.
func (w *writer) refuse(err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	w.g.metrics.refused.WithLabelValues(r.reason).Inc()
	f := &w.refusals
	f.count++
	if len(f.says) < saysMost {
		f.says = append(f.says, r.msg)
	}
	if f.worst == nil || r.later && !f.worst.later {
		f.worst = r
	}
	return nil
}

func (f *refusals) err() error {
	if f.count == 0 {
		return nil
	}
	return &partial{*f}
}

// partial reports what was left out while the rest is stored.
type partial struct{ refusals }

func (p *partial) Error() string {
	var b strings.Builder
	if p.count == 1 {
		return "one series or sample was not stored, the rest was: " + p.says[0]
	}
	fmt.Fprintf(&b, "%d series or samples were not stored, the rest was:", p.count)
	for _, s := range p.says {
		b.WriteString("\n" + s)
	}
	if more := p.count - len(p.says); more > 0 {
		fmt.Fprintf(&b, "\nand %d more", more)
	}
	return b.String()
}

func (p *partial) Unwrap() error { return p.worst }

// mostMissed is how many series of one request may be looked for in vain where
// they stood the last time.
const mostMissed = 64

// elected says whether what a replica sends is stored; the same for all series
// of a request.
func (w *writer) elected(r *replica) bool {
	if w.member != r {
		w.member, w.mine = r, w.g.elections.elected(r, w.now)
	}
	if !w.mine {
		w.doubles++
	}
	return w.mine
}

// lookUp returns the entry of the series with these labels, which came behind
// the last one. Without an entry and without an error it has been refused.
func (w *writer) lookUp(key []byte) (e *entry, err error) {
	e, hash := w.known.get(key)
	if e == nil {
		if e, err = w.meet(hash, key); e == nil {
			return nil, err
		}
	}
	if w.last != nil {
		w.last.follow(e)
	}
	return e, nil
}

// meet checks a series at first sight. Without an entry and without an error
// it has been refused.
func (w *writer) meet(hash uint64, key []byte) (*entry, error) {
	text := string(key)
	e := &entry{key: text, owner: w.src}
	ls, err := w.g.parseLabels(key, text, &w.builder)
	if err == nil {
		e.labels, e.member, err = w.g.identify(ls, w.bound)
	}
	if err == nil {
		if e, err = w.g.admit(w.known, hash, e, knownTo(w.app, e.labels)); err == nil {
			return e, nil
		}
	}
	var r *refusal
	if !errors.As(err, &r) {
		return nil, malformed(err)
	}
	return nil, w.refuse(err)
}

// sample stores a sample and returns the reference for the next one.
func (w *writer) sample(e *entry, ref storage.SeriesRef, t int64, v float64) (storage.SeriesRef, error) {
	if t > w.maxT {
		return ref, w.refuse(w.ahead(e.labels, t))
	}
	got, err := w.app.Append(ref, e.labels, t, v)
	if err != nil {
		return ref, w.failed(e.labels, t, err, &w.taken.samples)
	}
	w.samples++
	w.taken.samples++
	if got != ref {
		e.learn(ref, got)
	}
	return got, nil
}

// histogram stores a native histogram and returns the reference for the next one.
func (w *writer) histogram(e *entry, ref storage.SeriesRef, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t > w.maxT {
		return ref, w.refuse(w.ahead(e.labels, t))
	}
	h, fh, err := coarse(h, fh)
	if err == nil {
		var got storage.SeriesRef
		if got, err = w.app.AppendHistogram(ref, e.labels, t, h, fh); err == nil {
			w.histograms++
			w.taken.histograms++
			e.learn(ref, got)
			return got, nil
		}
	}
	return ref, w.failed(e.labels, t, err, &w.taken.histograms)
}

// coarse brings a histogram whose resolution is finer than what can be stored
// down to it.
func coarse(h *histogram.Histogram, fh *histogram.FloatHistogram) (_ *histogram.Histogram, _ *histogram.FloatHistogram, err error) {
	if fh != nil {
		if histogram.IsExponentialSchemaReserved(fh.Schema) && fh.Schema > histogram.ExponentialSchemaMax {
			err = fh.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		return nil, fh, err
	}
	if histogram.IsExponentialSchemaReserved(h.Schema) && h.Schema > histogram.ExponentialSchemaMax {
		err = h.ReduceResolution(histogram.ExponentialSchemaMax)
	}
	return h, nil, err
}

// exemplar stores an exemplar. One that the storage does not want, such as one
// that is older than another, is counted and no fault of the request: a
// request that comes twice would be full of them.
func (w *writer) exemplar(e *entry, x exemplar.Exemplar) error {
	if x.Ts > w.maxT || w.g.checkExemplar(x.Labels) != nil {
		w.g.metrics.refused.WithLabelValues("exemplar").Inc()
		return nil
	}
	ref := e.seriesRef()
	got, err := w.app.AppendExemplar(ref, e.labels, x)
	if err != nil {
		w.g.metrics.refused.WithLabelValues("exemplar").Inc()
		return nil
	}
	e.learn(ref, got)
	w.exemplars++
	w.taken.exemplars++
	return nil
}

func (g *Ingest) checkExemplar(ls labels.Labels) error {
	return ls.Validate(func(l labels.Label) error { return g.checkLabel([]byte(l.Name), []byte(l.Value)) })
}

func (w *writer) ahead(ls labels.Labels, t int64) error {
	return invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), w.g.cfg.MaxAhead)
}

// failed looks at an error of the storage: a duplicate is as good as stored,
// what is the sample's fault is refused, and the rest is returned.
func (w *writer) failed(ls labels.Labels, t int64, err error, taken *int) error {
	if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		w.duplicates++
		*taken++
		return nil
	}
	switch reason := sampleReason(err); reason {
	case "":
	case reasonLimit:
		return w.refuse(limit(reason, "series %s, sample at %s: %s", brief(ls), stamp(t), err))
	default:
		return w.refuse(invalid(reason, "series %s, sample at %s: %s", brief(ls), stamp(t), err))
	}
	return fmt.Errorf("series %s, sample at %s: %w", brief(ls), stamp(t), err)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
)

// writer stores one remote write 1 request.
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
	doubles                                    int   // series of replicas that are not elected
	skipped                                    int   // series that were left out
	firstSkip                                  error // why the first of them was
}

type writerPool struct{ pool sync.Pool }

func (p *writerPool) get() *writer {
	if w, ok := p.pool.Get().(*writer); ok {
		return w
	}
	return &writer{builder: labels.NewScratchBuilder(16)}
}

func (p *writerPool) put(w *writer) {
	*w = writer{builder: w.builder}
	p.pool.Put(w)
}

// storeV1 stores a decompressed request. Bad labels cost their series only, as
// with Prometheus, and are reported; a sample that the storage refuses takes
// the whole request with it. The strings it keeps are copies.
func (g *Ingest) storeV1(ctx context.Context, body []byte, src *source) (err error) {
	w := g.writers.get()
	defer g.writers.put(w)
	w.g, w.src, w.now, w.bound = g, src, time.Now(), g.deps.Bound(ctx)
	w.known = g.cacheOf(w.bound)
	w.maxT = w.now.Add(g.cfg.MaxAhead).UnixMilli()
	w.app = g.deps.Appendable.Appender(ctx)
	if err := w.request(body); err != nil {
		return errors.Join(err, w.app.Rollback())
	}
	if err := w.app.Commit(); err != nil {
		return fmt.Errorf("store samples: %w", err)
	}
	g.metrics.stored(protoV1, w.samples, w.histograms, w.exemplars, w.duplicates)
	src.spend(w.samples+w.histograms, w.now)
	if w.doubles > 0 {
		g.metrics.doubles.WithLabelValues(protoV1).Add(float64(w.doubles))
	}
	if w.skipped > 0 {
		return &partial{skipped: w.skipped, first: w.firstSkip}
	}
	return nil
}

// partial reports series that were left out while the rest is stored.
type partial struct {
	skipped int
	first   error
}

func (p *partial) Error() string {
	if p.skipped == 1 {
		return "one series was not stored, the rest was: " + p.first.Error()
	}
	return fmt.Sprintf("%d series were not stored, the rest was; the first: %s", p.skipped, p.first)
}

func (p *partial) Unwrap() error { return p.first }

func malformed(err error) error {
	return invalid("protobuf", "the body is not a remote write 1 message: %s", err)
}

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

// mostMissed is how many series of one request may be looked for in vain where
// they stood the last time.
const mostMissed = 64

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
		if t > w.maxT {
			return w.ahead(e.labels, t)
		}
		got, err := w.app.Append(ref, e.labels, t, v)
		if err != nil {
			if err = w.refused(e.labels, t, err); err != nil {
				return err
			}
			continue
		}
		w.samples++
		if got != ref {
			e.learn(ref, got)
			ref = got
		}
	}
	return nil
}

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

// find returns the entry of a series and what follows its labels. Without an
// entry and without an error the series has been dealt with.
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
			e, err = w.meet(0, gatherLabels(ts), false)
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

// lookUp returns the entry of the series with these labels, which came behind
// the last one.
func (w *writer) lookUp(key []byte) (e *entry, err error) {
	e, hash := w.known.get(key)
	if e == nil {
		if e, err = w.meet(hash, key, true); e == nil {
			return nil, err
		}
	}
	if w.last != nil {
		w.last.follow(e)
	}
	return e, nil
}

// meet checks a series at first sight. Without an entry and without an error
// the series has been dealt with. What is not to be kept is for this once.
func (w *writer) meet(hash uint64, key []byte, keep bool) (*entry, error) {
	text := string(key)
	e := &entry{key: text, owner: w.src}
	ls, err := w.g.parseLabels(key, text, &w.builder)
	if err == nil {
		e.labels, e.member, err = w.g.identify(ls, w.bound)
	}
	if err == nil {
		if !keep {
			return e, nil
		}
		if e, err = w.g.admit(w.known, hash, e, knownTo(w.app, e.labels)); err == nil {
			return e, nil
		}
	}
	var r *refusal
	if !errors.As(err, &r) {
		return nil, malformed(err)
	}
	w.g.metrics.refused.WithLabelValues(r.reason).Inc()
	var before *refusal
	if w.skipped++; w.firstSkip == nil || r.later && errors.As(w.firstSkip, &before) && !before.later {
		w.firstSkip = err // what helps to know most: to send it again
	}
	return nil, nil
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
			return end, w.exemplar(e, b)
		}
		return end, w.histogram(e, b)
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

// exemplar stores an exemplar. One that the storage does not want is counted
// and does not fail the request, as with Prometheus.
func (w *writer) exemplar(e *entry, b []byte) error {
	var p prompb.Exemplar
	if err := p.Unmarshal(b); err != nil {
		return malformed(err)
	}
	var x exemplar.Exemplar
	if len(p.Labels) <= w.g.cfg.MaxLabels {
		x = p.ToExemplar(&w.builder, nil)
	}
	if len(p.Labels) > w.g.cfg.MaxLabels || x.Ts > w.maxT || w.g.checkExemplar(x.Labels) != nil {
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
	return nil
}

func (g *Ingest) checkExemplar(ls labels.Labels) error {
	return ls.Validate(func(l labels.Label) error { return g.checkLabel([]byte(l.Name), []byte(l.Value)) })
}

// histogram stores a native histogram.
func (w *writer) histogram(e *entry, b []byte) error {
	var p prompb.Histogram
	if err := p.Unmarshal(b); err != nil {
		return malformed(err)
	}
	if p.Timestamp > w.maxT {
		return w.ahead(e.labels, p.Timestamp)
	}
	h, fh, err := native(&p)
	if err != nil {
		return w.refused(e.labels, p.Timestamp, err)
	}
	ref := e.seriesRef()
	got, err := w.app.AppendHistogram(ref, e.labels, p.Timestamp, h, fh)
	if err != nil {
		return w.refused(e.labels, p.Timestamp, err)
	}
	e.learn(ref, got)
	w.histograms++
	return nil
}

// native converts a histogram and brings a resolution that is finer than what
// can be stored down to it.
func native(p *prompb.Histogram) (h *histogram.Histogram, fh *histogram.FloatHistogram, err error) {
	if p.IsFloatHistogram() {
		fh = p.ToFloatHistogram()
		if histogram.IsExponentialSchemaReserved(fh.Schema) && fh.Schema > histogram.ExponentialSchemaMax {
			err = fh.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		return nil, fh, err
	}
	h = p.ToIntHistogram()
	if histogram.IsExponentialSchemaReserved(h.Schema) && h.Schema > histogram.ExponentialSchemaMax {
		err = h.ReduceResolution(histogram.ExponentialSchemaMax)
	}
	return h, nil, err
}

func (w *writer) ahead(ls labels.Labels, t int64) error {
	return invalid("future", "series %s, sample at %s: more than %s ahead of this server's clock", brief(ls), stamp(t), w.g.cfg.MaxAhead)
}

// refused explains an error of the storage; nil for a duplicate, which is as
// good as stored.
func (w *writer) refused(ls labels.Labels, t int64, err error) error {
	if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		w.duplicates++
		return nil
	}
	if reason := sampleReason(err); reason != "" {
		return invalid(reason, "series %s, sample at %s: %s", brief(ls), stamp(t), err)
	}
	return fmt.Errorf("series %s, sample at %s: %w", brief(ls), stamp(t), err)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

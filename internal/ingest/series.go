package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// refusal says why one series or sample is not stored. It passes for
// storage.ErrOutOfBounds towards the library's handlers, which answer that
// with 400 and go on with the rest.
type refusal struct {
	reason string // value of the counter's label
	limit  bool   // a limit rather than a fault: 422
	later  bool   // a limit that passes: 429
	msg    string
}

func (r *refusal) Error() string { return r.msg }

// Is makes the kinds recognisable with errors.Is.
func (r *refusal) Is(target error) bool {
	return target == storage.ErrOutOfBounds || r.limit && target == model.ErrLimit
}

func invalid(reason, format string, args ...any) *refusal {
	return &refusal{reason: reason, msg: fmt.Sprintf(format, args...)}
}

func limit(reason, format string, args ...any) *refusal {
	return &refusal{reason: reason, limit: true, msg: fmt.Sprintf(format, args...)}
}

// parseLabels decodes the labels of a series at first sight, sorts them, leaves
// out empty ones, and says what is wrong with them. text is raw as a string: one
// copy instead of two for each label.
func (g *Ingest) parseLabels(raw []byte, text string, b *labels.ScratchBuilder) (labels.Labels, error) {
	b.Reset()
	n, sorted, empty, named := 0, true, false, false
	var last []byte
	for i := 0; i < len(raw); {
		content, next := block(raw, i+1)
		if next < 0 {
			return labels.EmptyLabels(), errTruncated
		}
		start := next - len(content)
		nameTo, name, valueTo, value, err := decodeLabel(content)
		if err != nil {
			return labels.EmptyLabels(), err
		}
		i = next
		if n++; n > g.cfg.MaxLabels {
			return labels.EmptyLabels(), limit("label_count", "a series has more than %d labels", g.cfg.MaxLabels)
		}
		if err := g.checkLabel(name, value); err != nil {
			return labels.EmptyLabels(), err
		}
		empty = empty || len(value) == 0
		named = named || len(value) > 0 && string(name) == model.MetricName
		sorted = sorted && (last == nil || bytes.Compare(last, name) < 0)
		last = name
		nameTo, valueTo = start+nameTo, start+valueTo
		b.Add(text[nameTo-len(name):nameTo], text[valueTo-len(value):valueTo])
	}
	if !sorted {
		b.Sort()
	}
	ls := b.Labels()
	if !sorted { // else each name is greater than the one before
		if name, dup := ls.HasDuplicateLabelNames(); dup {
			return ls, invalid("label_duplicate", "series %s: label %q is given twice", brief(ls), name)
		}
	}
	if !named {
		return ls, invalid("label_no_name", "series %s: the label __name__ is missing", brief(ls))
	}
	if empty { // the same as absent
		ls = ls.WithoutEmpty()
	}
	return ls, nil
}

func (g *Ingest) checkLabel(name, value []byte) error {
	switch {
	case len(name) == 0:
		return invalid("label_empty_name", "a label without a name has the value %.100q", value)
	case len(name) > g.cfg.MaxLabelName:
		return limit("label_name_length", "label name %.100q… has %d bytes, %d are allowed", name, len(name), g.cfg.MaxLabelName)
	case len(value) > g.cfg.MaxLabelValue:
		return limit("label_value_length", "the value of label %.100q has %d bytes, %d are allowed", name, len(value), g.cfg.MaxLabelValue)
	case !utf8.Valid(name):
		return invalid("label_utf8", "label name %.100q is not UTF-8", name)
	case !utf8.Valid(value):
		return invalid("label_utf8", "the value %.100q of label %.100q is not UTF-8", value, name)
	}
	return nil
}

// checkLabels does the same for labels that a handler has decoded.
func (g *Ingest) checkLabels(ls labels.Labels) error {
	if n := ls.Len(); n > g.cfg.MaxLabels {
		return limit("label_count", "a series has %d labels, %d are allowed", n, g.cfg.MaxLabels)
	}
	if err := ls.Validate(func(l labels.Label) error { return g.checkLabel([]byte(l.Name), []byte(l.Value)) }); err != nil {
		return err
	}
	if name, dup := ls.HasDuplicateLabelNames(); dup {
		return invalid("label_duplicate", "series %s: label %q is given twice", brief(ls), name)
	}
	if ls.Get(model.MetricName) == "" {
		return invalid("label_no_name", "series %s: the label __name__ is missing", brief(ls))
	}
	return nil
}

// admit counts a new series for its source and remembers it in known. Its
// reference tells whether the storage knows it; 0 = it does not.
func (g *Ingest) admit(known *cache, hash uint64, e *entry, ref storage.SeriesRef) (*entry, error) {
	now := time.Now()
	known.rotate(hash, now)
	ok, first := false, true
	if e.member != nil {
		e.charge, first, ok = g.shared.take(e.owner, e.labels, g.cfg.MaxSeriesPerSource)
	} else {
		ok = e.owner.take(g.cfg.MaxSeriesPerSource)
	}
	if !ok {
		return nil, limit("series_per_source", "series %s: this source has %d active series already, the limit", brief(e.labels), g.cfg.MaxSeriesPerSource)
	}
	if ref == 0 && first && !e.owner.meet(now) {
		e.release()
		return nil, &refusal{reason: "new_series_rate", limit: true, later: true,
			msg: fmt.Sprintf("series %s: this source brings more than %d new series a minute; send it again later", brief(e.labels), g.cfg.MaxNewPerMinute)}
	}
	if err := g.enlist(e); err != nil {
		e.release()
		return nil, err
	}
	e.ref.Store(uint64(ref))
	return known.add(hash, e), nil
}

// knownTo returns the reference of a series that the storage has.
func knownTo(app storage.Appender, ls labels.Labels) storage.SeriesRef {
	if s, ok := app.(storage.GetRef); ok {
		ref, _ := s.GetRef(ls, ls.Hash())
		return ref
	}
	return 0
}

// tenants keep a cache for each set of labels that sources are bound to: the
// same bytes mean another series there.
type tenants struct {
	mu       sync.Mutex // guards byLabels
	byLabels map[string]*cache
}

func (g *Ingest) cacheOf(bound labels.Labels) *cache {
	if bound.IsEmpty() {
		return g.known
	}
	g.tenants.mu.Lock()
	defer g.tenants.mu.Unlock()
	name := bound.String()
	c := g.tenants.byLabels[name]
	if c == nil {
		c = newCache(min(g.cfg.MaxKnownSeries, 4*g.cfg.MaxSeriesPerSource), g.cfg.ActiveWindow)
		g.tenants.byLabels[name] = c
	}
	return c
}

// identify finds out what series these labels stand for: with the labels that
// its source is bound to, and without the one of its replica.
func (g *Ingest) identify(ls, bound labels.Labels) (labels.Labels, *replica, error) {
	if !bound.IsEmpty() {
		b := labels.NewBuilder(ls)
		var err error
		bound.Range(func(l labels.Label) {
			if have := ls.Get(l.Name); have != "" && have != l.Value {
				err = invalid("label_bound", "series %s: label %s is %q, but who sends it is bound to %q", brief(ls), l.Name, have, l.Value)
			}
			b.Set(l.Name, l.Value)
		})
		if err != nil {
			return ls, nil, err
		}
		ls = b.Labels()
	}
	return g.replicaOf(ls, bound)
}

// brief prints labels for people, cut to a sensible length.
func brief(ls labels.Labels) string {
	s := ls.String()
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// reasonLimit is the reason when the storage takes less than we let through.
const reasonLimit = "limit"

// sampleReason names why the storage refused a sample; "" means that it is not
// the sample's fault.
func sampleReason(err error) string {
	var h histogram.Error
	var inv model.Invalid
	switch {
	case errors.Is(err, storage.ErrTooOldSample):
		return "too_old"
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return "out_of_order"
	case errors.Is(err, storage.ErrOutOfBounds):
		return "out_of_bounds"
	case errors.As(err, &h):
		return "histogram"
	case errors.Is(err, model.ErrLimit):
		return reasonLimit
	case errors.As(err, &inv):
		return "invalid"
	}
	return ""
}

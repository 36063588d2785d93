package rules

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sort"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"panoptes/internal/model"
)

var nilLogger = slog.New(slog.DiscardHandler)

// memory is a small store for what rules are tried on. Samples of a series
// must come in the order of their times; others are dropped, as the second
// value of an instant is anywhere.
type memory struct {
	mu     sync.RWMutex // guards the rest
	series map[string]*promql.Series
	byName map[string][]*promql.Series
}

func newMemory() *memory {
	return &memory{series: map[string]*promql.Series{}, byName: map[string][]*promql.Series{}}
}

func (m *memory) add(l labels.Labels, t int64, v float64, h *histogram.FloatHistogram) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := string(l.Bytes(nil))
	s := m.series[key]
	if s == nil {
		s = &promql.Series{Metric: l}
		m.series[key] = s
		name := l.Get(model.MetricName)
		m.byName[name] = append(m.byName[name], s)
	}
	last := int64(-1 << 62)
	if n := len(s.Floats); n > 0 {
		last = s.Floats[n-1].T
	}
	if n := len(s.Histograms); n > 0 {
		last = max(last, s.Histograms[n-1].T)
	}
	switch {
	case t <= last:
	case h != nil:
		s.Histograms = append(s.Histograms, promql.HPoint{T: t, H: h})
	default:
		s.Floats = append(s.Floats, promql.FPoint{T: t, F: v})
	}
}

// Querier implements storage.Queryable.
func (m *memory) Querier(mint, maxt int64) (storage.Querier, error) {
	return &memoryQuerier{LabelQuerier: storage.NoopQuerier(), m: m, mint: mint, maxt: maxt}, nil
}

type memoryQuerier struct {
	storage.LabelQuerier
	m          *memory
	mint, maxt int64
}

// Select implements storage.Querier. What is appended later is not seen.
func (q *memoryQuerier) Select(_ context.Context, sorted bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	q.m.mu.RLock()
	defer q.m.mu.RUnlock()
	set := &memorySet{at: -1}
	for name, list := range q.m.byName {
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == model.MetricName && !m.Matches(name) }) {
			for _, s := range list {
				if matchAll(ms, s.Metric) {
					set.add(s, q.mint, q.maxt)
				}
			}
		}
	}
	if sorted {
		slices.SortFunc(set.list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return set
}

func matchAll(ms []*labels.Matcher, l labels.Labels) bool {
	for _, m := range ms {
		if !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

type memorySet struct {
	list []storage.Series
	at   int
}

func (s *memorySet) add(from *promql.Series, mint, maxt int64) {
	f, h := from.Floats, from.Histograms
	f = f[sort.Search(len(f), func(i int) bool { return f[i].T >= mint }):]
	f = f[:sort.Search(len(f), func(i int) bool { return f[i].T > maxt })]
	h = h[sort.Search(len(h), func(i int) bool { return h[i].T >= mint }):]
	h = h[:sort.Search(len(h), func(i int) bool { return h[i].T > maxt })]
	if len(f)+len(h) > 0 {
		s.list = append(s.list, promql.NewStorageSeries(promql.Series{Metric: from.Metric, Floats: f, Histograms: h}))
	}
}

func (s *memorySet) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *memorySet) At() storage.Series                { return s.list[s.at] }
func (s *memorySet) Err() error                        { return nil }
func (s *memorySet) Warnings() annotations.Annotations { return nil }

// Appender implements storage.Appendable.
func (m *memory) Appender(context.Context) storage.Appender { return &memoryAppender{m: m} }

// memoryAppender stores at Commit. The engine's rules append floats and
// histograms only; the rest of the interface is the embedded nil.
type memoryAppender struct {
	storage.Appender
	m    *memory
	list []memorySample
}

type memorySample struct {
	labels labels.Labels
	t      int64
	v      float64
	h      *histogram.FloatHistogram
}

func (a *memoryAppender) Append(_ storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.list = append(a.list, memorySample{l, t, v, nil})
	return 0, nil
}

func (a *memoryAppender) AppendHistogram(_ storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if h != nil {
		fh = h.ToFloat(nil)
	}
	a.list = append(a.list, memorySample{l, t, 0, fh})
	return 0, nil
}

func (a *memoryAppender) SetOptions(*storage.AppendOptions) {}
func (a *memoryAppender) Rollback() error                   { a.list = nil; return nil }

func (a *memoryAppender) Commit() error {
	slices.SortStableFunc(a.list, func(x, y memorySample) int { return cmp.Compare(x.t, y.t) })
	for _, s := range a.list {
		a.m.add(s.labels, s.t, s.v, s.h)
	}
	a.list = nil
	return nil
}

package query

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"panoptes/internal/model"
)

// limited is a Storage whose queriers refuse to select too many series and to
// evaluate long regular expressions. Its errors wrap model.ErrLimit.
type limited struct {
	Storage
	maxSeries  int
	maxRegexp  int
	bound      func(context.Context) labels.Labels
	incomplete func() string // why answers may lack something now; empty when they do not
	trim       bool          // series end where the querier does; else their samples may reach beyond
}

// gap is a warning when answers may lack something.
func (l *limited) gap() annotations.Annotations {
	if l.incomplete == nil {
		return nil
	}
	if why := l.incomplete(); why != "" {
		return annotations.New().Add(fmt.Errorf("the answer may be incomplete: %s", why))
	}
	return nil
}

// incompleteNow reports whether answers may lack something now.
func (l *limited) incompleteNow() bool { return l.incomplete != nil && l.incomplete() != "" }

// Querier implements storage.Queryable.
func (l *limited) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := l.Storage.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &querier{Querier: q, budget: l.newBudget(), bound: l.bound, gap: l.gap(), trim: l.trim}, nil
}

// ChunkQuerier implements storage.ChunkQueryable.
func (l *limited) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := l.Storage.ChunkQuerier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &chunkQuerier{ChunkQuerier: q, budget: l.newBudget(), bound: l.bound}, nil
}

// ExemplarQuerier implements storage.ExemplarQueryable.
func (l *limited) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	q, err := l.Storage.ExemplarQuerier(ctx)
	if err != nil {
		return nil, err
	}
	return &exemplarQuerier{ExemplarQuerier: q, budget: l.newBudget(), bound: matchersOf(l.bound(ctx))}, nil
}

// budget is shared by all selects of one querier: one query has one querier.
type budget struct {
	left      atomic.Int64
	maxSeries int
	maxRegexp int
}

func (l *limited) newBudget() *budget {
	b := &budget{maxSeries: l.maxSeries, maxRegexp: l.maxRegexp}
	b.left.Store(int64(l.maxSeries))
	return b
}

// take counts one selected series.
func (b *budget) take() error {
	if b.left.Add(-1) < 0 {
		return fmt.Errorf("%w: the query selects more than %d series; narrow its matchers", model.ErrLimit, b.maxSeries)
	}
	return nil
}

func (b *budget) check(matchers []*labels.Matcher) error {
	for _, m := range matchers {
		if (m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp) && len(m.Value) > b.maxRegexp {
			return fmt.Errorf("%w: the regular expression for label %q has %d bytes, %d are allowed",
				model.ErrLimit, m.Name, len(m.Value), b.maxRegexp)
		}
	}
	return nil
}

// matchersOf are the matchers that only let through what has these labels.
func matchersOf(bound labels.Labels) []*labels.Matcher {
	var out []*labels.Matcher
	bound.Range(func(l labels.Label) {
		out = append(out, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value)) // only a regular expression can be wrong
	})
	return out
}

// within adds what ctx's user is bound to; the slice that came is not changed.
func within(ctx context.Context, bound func(context.Context) labels.Labels, ms []*labels.Matcher) []*labels.Matcher {
	return append(ms[:len(ms):len(ms)], matchersOf(bound(ctx))...)
}

type querier struct {
	storage.Querier
	*budget
	bound func(context.Context) labels.Labels
	gap   annotations.Annotations
	trim  bool
}

func (q *querier) Select(ctx context.Context, sort bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if err := q.check(ms); err != nil {
		return storage.ErrSeriesSet(noted(ctx, err))
	}
	if hints != nil && !q.trim {
		// The TSDB fails when it trims a series of which two parts or more were
		// deleted; the engine looks at no sample outside of its times anyway.
		h := *hints
		h.DisableTrimming = true
		hints = &h
	}
	return &seriesSet{SeriesSet: q.Querier.Select(ctx, sort, hints, within(ctx, q.bound, ms)...), ctx: ctx, budget: q.budget, gap: q.gap, cost: costOf(ctx)}
}

func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := q.check(ms); err != nil {
		return nil, nil, err
	}
	values, notes, err := q.Querier.LabelValues(ctx, name, hints, within(ctx, q.bound, ms)...)
	return values, merged(notes, q.gap), err
}

func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := q.check(ms); err != nil {
		return nil, nil, err
	}
	names, notes, err := q.Querier.LabelNames(ctx, hints, within(ctx, q.bound, ms)...)
	return names, merged(notes, q.gap), err
}

type chunkQuerier struct {
	storage.ChunkQuerier
	*budget
	bound func(context.Context) labels.Labels
}

func (q *chunkQuerier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := q.check(ms); err != nil {
		return nil, nil, err
	}
	return q.ChunkQuerier.LabelValues(ctx, name, hints, within(ctx, q.bound, ms)...)
}

func (q *chunkQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := q.check(ms); err != nil {
		return nil, nil, err
	}
	return q.ChunkQuerier.LabelNames(ctx, hints, within(ctx, q.bound, ms)...)
}

func (q *chunkQuerier) Select(ctx context.Context, sort bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	if err := q.check(ms); err != nil {
		return storage.ErrChunkSeriesSet(noted(ctx, err))
	}
	return &chunkSeriesSet{ChunkSeriesSet: q.ChunkQuerier.Select(ctx, sort, hints, within(ctx, q.bound, ms)...), ctx: ctx, budget: q.budget}
}

// seriesSet ends with an error when the budget is used up. It lives as long as
// one select, so it may hold that select's context.
type seriesSet struct {
	storage.SeriesSet
	ctx    context.Context
	budget *budget
	gap    annotations.Annotations
	cost   *cost
	err    error
}

// Warnings implements storage.SeriesSet.
func (s *seriesSet) Warnings() annotations.Annotations { return merged(s.SeriesSet.Warnings(), s.gap) }

// merged returns the notes of both and changes neither.
func merged(a, b annotations.Annotations) annotations.Annotations {
	if len(b) == 0 {
		return a
	}
	out := annotations.New()
	out.Merge(a)
	return out.Merge(b)
}

func (s *seriesSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	if err := s.budget.take(); err != nil {
		s.err = noted(s.ctx, err)
		return false
	}
	s.cost.series.Add(1)
	return true
}

func (s *seriesSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

type chunkSeriesSet struct {
	storage.ChunkSeriesSet
	ctx    context.Context
	budget *budget
	err    error
}

func (s *chunkSeriesSet) Next() bool {
	if s.err != nil || !s.ChunkSeriesSet.Next() {
		return false
	}
	if err := s.budget.take(); err != nil {
		s.err = noted(s.ctx, err)
		return false
	}
	return true
}

func (s *chunkSeriesSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.ChunkSeriesSet.Err()
}

type exemplarQuerier struct {
	storage.ExemplarQuerier
	*budget
	bound []*labels.Matcher
}

func (q *exemplarQuerier) Select(start, end int64, sets ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	for _, ms := range sets {
		if err := q.check(ms); err != nil {
			return nil, err
		}
	}
	if len(q.bound) > 0 {
		all := make([][]*labels.Matcher, len(sets))
		for i, ms := range sets {
			all[i] = append(ms[:len(ms):len(ms)], q.bound...)
		}
		sets = all
	}
	res, err := q.ExemplarQuerier.Select(start, end, sets...)
	if err != nil {
		return nil, err
	}
	for range res {
		if err := q.take(); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// noteKey finds the place in a context where a limit that was hit is noted, for
// handlers of the library that turn every error into a 500.
type noteKey struct{}

func noted(ctx context.Context, err error) error {
	if n, ok := ctx.Value(noteKey{}).(*atomic.Bool); ok {
		n.Store(true)
	}
	return err
}

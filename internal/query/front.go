package query

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Versions tells whether samples changed.
type Versions interface {
	// Settled is the time in milliseconds before which Version tells about
	// every change. It never goes back.
	Settled() int64
	// Version stands for the samples between two times, both inclusive, as far
	// as they are settled: it differs when they do. It is asked for before the
	// samples are read. ok is false when it is not known.
	Version(mint, maxt int64) (version uint64, ok bool)
}

// front is the engine behind the HTTP API. It notes what queries cost, and
// answers range queries in parts, some of which it has kept. Rules do not use
// it: they ask for each instant once.
type front struct{ q *Query }

// NewInstantQuery implements promql.QueryEngine.
func (f *front) NewInstantQuery(ctx context.Context, s storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	inner, err := f.q.engine.NewInstantQuery(ctx, s, opts, qs, ts)
	if err != nil {
		return nil, err
	}
	return &measured{inner}, nil
}

// NewRangeQuery implements promql.QueryEngine.
func (f *front) NewRangeQuery(ctx context.Context, s storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	inner, err := f.q.engine.NewRangeQuery(ctx, s, opts, qs, start, end, step)
	if err != nil {
		return nil, err
	}
	c := costOf(ctx)
	c.steps.Store(int64(end.Sub(start)/step) + 1)
	whole := &measured{inner}
	if f.q.cache == nil || opts != nil && opts.EnablePerStepStats() || unsplittable(inner.Statement(), step) != "" {
		return whole, nil
	}
	return f.q.newSplit(ctx, whole, s, opts, qs, start, end, step), nil
}

// measured notes what a query cost.
type measured struct{ promql.Query }

// Exec implements promql.Query.
func (m *measured) Exec(ctx context.Context) *promql.Result {
	res := m.Query.Exec(ctx)
	costOf(ctx).add(m.Stats())
	return res
}

// unsplittable says why the parts of a range query's answer cannot be computed
// by themselves; empty when they can. Each step must depend on its own time and
// on nothing younger.
func unsplittable(stmt parser.Statement, step time.Duration) string {
	es, ok := stmt.(*parser.EvalStmt)
	if !ok {
		return "it is no expression"
	}
	if step < time.Millisecond || step%time.Millisecond != 0 {
		return "its step is not a whole number of milliseconds"
	}
	why, selectors := "", 0
	parser.Inspect(es.Expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			selectors++
			why = firstOf(why, fixed(n.Timestamp, n.StartOrEnd, n.OriginalOffset))
			if n.Smoothed || n.Anchored {
				why = firstOf(why, "it reads samples after its steps")
			}
			why = firstOf(why, computed(n.OriginalOffsetExpr))
		case *parser.MatrixSelector:
			why = firstOf(why, computed(n.RangeExpr))
		case *parser.SubqueryExpr:
			why = firstOf(why, fixed(n.Timestamp, n.StartOrEnd, n.OriginalOffset))
			why = firstOf(why, computed(n.RangeExpr), computed(n.StepExpr), computed(n.OriginalOffsetExpr))
		case *parser.Call:
			if n.Func.Experimental {
				why = firstOf(why, fmt.Sprintf("%s() is experimental", n.Func.Name))
			}
		case *parser.AggregateExpr:
			if n.Op.IsExperimentalAggregator() {
				why = firstOf(why, fmt.Sprintf("%s is experimental", n.Op))
			}
		}
		return nil
	})
	if selectors == 0 {
		return "it reads no samples"
	}
	return why
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func fixed(at *int64, startOrEnd parser.ItemType, offset time.Duration) string {
	switch {
	case at != nil || startOrEnd != 0:
		return "it has an @ modifier"
	case offset < 0:
		return "it has a negative offset"
	}
	return ""
}

func computed(e *parser.DurationExpr) string {
	if e != nil {
		return "it computes a duration"
	}
	return ""
}

// queryHash is equal for queries whose answers differ in start and end alone.
func queryHash(bound, qs string, lookback time.Duration, step, phase int64) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q %d %d %d %s", bound, lookback, step, phase, qs))
}

// windowWidth is the length of the windows in which answers of a step are kept:
// two hours, or so many times twelve that there are sixty steps.
func windowWidth(step int64) int64 {
	w := (2 * time.Hour).Milliseconds()
	for w/step < 60 {
		w *= 12
	}
	return w
}

// floor is the largest multiple of n that is not above t.
func floor(t, n int64) int64 {
	r := t % n
	if r < 0 {
		r += n
	}
	return t - r
}

func (q *Query) newSplit(ctx context.Context, whole *measured, s storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) *split {
	lookback := q.cfg.Lookback
	if opts != nil && opts.LookbackDelta() > 0 {
		lookback = opts.LookbackDelta()
	}
	from, ms := timestamp.FromTime(start), step.Milliseconds()
	to := from + (timestamp.FromTime(end)-from)/ms*ms
	return &split{
		q: q, whole: whole, storage: s, opts: opts, text: qs, start: from, end: to, step: ms, width: windowWidth(ms),
		hash: queryHash(q.deps.Bound(ctx).String(), qs, lookback, ms, from-floor(from, ms)),
	}
}

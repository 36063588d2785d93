package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// guarded is the engine without the queries that it cannot end: where a
// subquery's inner part does not depend on time the engine counts its steps one
// by one and looks at neither the time limit nor the number of samples.
type guarded struct {
	*promql.Engine
	maxSteps int64 // evaluations of a subquery
}

// maxDepth is how deep a query may nest. Parsing a deeper one takes a time that
// grows with the square of its depth, writing it out one that grows with the cube.
const maxDepth = 250

// maxOperators is how many operators a query may have. Parsing a chain of them
// takes a time that grows with the square of its length.
const maxOperators = 1000

// tooLong refuses the text of an expression that takes long to parse. Other
// faults are the parser's to find.
func tooLong(text string) error {
	l := parser.Lex(text)
	var it parser.Item
	for n, open := 0, 0; ; {
		l.NextItem(&it)
		switch {
		case it.Typ == parser.EOF || it.Typ == parser.ERROR:
			return nil
		case it.Typ == parser.LEFT_PAREN:
			if open++; open > maxDepth {
				return errTooDeep
			}
		case it.Typ == parser.RIGHT_PAREN:
			open--
		case it.Typ.IsOperator():
			if n++; n > maxOperators {
				return fmt.Errorf("%w: the query has more than %d operators", model.ErrLimit, maxOperators)
			}
		}
	}
}

// tooDeep refuses an expression that nests too deep.
func tooDeep(expr parser.Expr) error {
	depth := 0
	parser.Inspect(expr, func(_ parser.Node, path []parser.Node) error {
		depth = max(depth, len(path))
		if depth > maxDepth {
			return errors.New("deep enough") // ends the walk
		}
		return nil
	})
	if depth > maxDepth {
		return errTooDeep
	}
	return nil
}

var errTooDeep = fmt.Errorf("%w: the query nests more than %d levels deep", model.ErrLimit, maxDepth)

// noStep is the step of subqueries that name none.
func noStep(int64) int64 { return time.Minute.Milliseconds() }

// NewInstantQuery implements promql.QueryEngine.
func (g *guarded) NewInstantQuery(ctx context.Context, s storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	if err := tooLong(qs); err != nil {
		return nil, err
	}
	return g.checked(g.Engine.NewInstantQuery(ctx, s, opts, qs, ts))
}

// NewRangeQuery implements promql.QueryEngine.
func (g *guarded) NewRangeQuery(ctx context.Context, s storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	if err := tooLong(qs); err != nil {
		return nil, err
	}
	return g.checked(g.Engine.NewRangeQuery(ctx, s, opts, qs, start, end, step))
}

func (g *guarded) checked(q promql.Query, err error) (promql.Query, error) {
	if err != nil {
		return nil, err
	}
	if es, ok := q.Statement().(*parser.EvalStmt); ok {
		if err := g.check(es); err != nil {
			q.Close()
			return nil, err
		}
	}
	return q, nil
}

// check refuses subqueries with too many steps. The steps of an inner one cover
// what those around it reach back to as well.
func (g *guarded) check(es *parser.EvalStmt) (err error) {
	if err := tooDeep(es.Expr); err != nil {
		return err
	}
	parser.Inspect(es.Expr, func(node parser.Node, path []parser.Node) error {
		sub, ok := node.(*parser.SubqueryExpr)
		if !ok || err != nil {
			return nil
		}
		reach := float64(es.End.Sub(es.Start)) + float64(sub.Range)
		for _, outer := range path {
			if o, ok := outer.(*parser.SubqueryExpr); ok {
				reach += float64(o.Range)
			}
		}
		step := sub.Step
		if step < time.Millisecond {
			step = time.Duration(noStep(0)) * time.Millisecond
		}
		if reach/float64(step) > float64(g.maxSteps) {
			err = fmt.Errorf("%w: the subquery [%s:%s] has more than %d steps; use a longer step or a shorter range", model.ErrLimit, sub.Range, step, g.maxSteps)
		}
		return nil
	})
	return err
}

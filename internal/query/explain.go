package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Explanation says what answering a query takes, without answering it.
type Explanation struct {
	Query     string              `json:"query"`           // as the engine reads it, over several lines
	Type      string              `json:"type"`            // vector, scalar, matrix, string
	Start     time.Time           `json:"start,omitzero"`  // of the first step
	End       time.Time           `json:"end,omitzero"`    // of the last step
	Step      float64             `json:"step,omitempty"`  // seconds; 0 for an instant
	Steps     int64               `json:"steps"`           // evaluations
	Selectors []ExplainedSelector `json:"selectors"`       // in the order in which they are written
	Parts     int                 `json:"parts"`           // runs of the engine
	Cached    float64             `json:"cached"`          // share of the steps whose answer is kept, 0 to 1
	Whole     string              `json:"whole,omitempty"` // why it is answered at once and not kept; empty when in parts
	Warnings  []string            `json:"warnings"`
	Tree      json.RawMessage     `json:"tree,omitempty"` // as /api/v1/parse_query shows it
}

// ExplainedSelector is what one selector reads.
type ExplainedSelector struct {
	Selector string    `json:"selector"`
	Series   int       `json:"series"` // that match in the time read
	From     time.Time `json:"from"`   // the oldest sample that may count
	To       time.Time `json:"to"`     // the youngest
}

// explain answers GET /v1/explain?query=&start=&end=&step=, or &time= for an
// instant. It counts series in the index and reads no samples.
func (q *Query) explain(w http.ResponseWriter, r *http.Request) {
	e, err := q.explained(r.Context(), r.Form.Get("query"), r.Form.Get("start"), r.Form.Get("end"), r.Form.Get("step"), r.Form.Get("time"))
	if err != nil {
		refuseOwn(w, err)
		return
	}
	if tree, err := q.tree(r); err == nil {
		e.Tree = tree
	}
	w.Header().Set("Content-Type", "application/json")
	q.encode(w, e)
}

func (q *Query) explained(ctx context.Context, text, from, to, every, at string) (e Explanation, err error) {
	var inv model.Invalid
	read := func(field, s string, otherwise time.Time) time.Time {
		if s == "" {
			return otherwise
		}
		t, err := parseTime(s)
		if err != nil {
			inv.Add(field, "%s", err)
		}
		return t
	}
	now := time.Now()
	instant := from == "" && to == ""
	end := read("end", to, read("time", at, now))
	start, step := end, time.Duration(0)
	if !instant {
		start = read("start", from, end.Add(-time.Hour))
		step = max(end.Sub(start)/250, time.Second).Truncate(time.Second)
		if every != "" {
			if step, err = parseStep(every); err != nil {
				inv.Add("step", "%s", err)
			}
		}
		switch {
		case len(inv) > 0:
		case end.Before(start):
			inv.Add("end", "must not be before start")
		case step < time.Millisecond:
			inv.Add("step", "must be at least 1ms")
		case end.Sub(start)/step > maxPoints:
			inv.Add("step", "makes more than %d points per series; use a longer one", maxPoints)
		}
	}
	expr, err := parser.ParseExpr(text)
	if err != nil {
		inv.Add("query", "%s", err)
	}
	if err := inv.Err(); err != nil {
		return e, err
	}
	e = Explanation{Query: expr.Pretty(0), Type: string(expr.Type()), Start: start.UTC(), End: end.UTC(), Step: step.Seconds(), Steps: 1, Parts: 1, Selectors: []ExplainedSelector{}, Warnings: []string{}}
	if !instant {
		e.Steps = int64(end.Sub(start)/step) + 1
		if expr.Type() != parser.ValueTypeVector && expr.Type() != parser.ValueTypeScalar {
			e.Warnings = append(e.Warnings, "a range query needs a vector or a number, this is a "+string(expr.Type()))
		}
	}
	if err := q.explainParts(ctx, &e, text, start, end, step, instant); err != nil {
		return e, err
	}
	return e, q.explainSelectors(ctx, &e, expr, start, end, step)
}

// explainParts says how the query would be divided and what of it is kept.
func (q *Query) explainParts(ctx context.Context, e *Explanation, text string, start, end time.Time, step time.Duration, instant bool) error {
	switch {
	case instant:
		e.Whole = "it is evaluated once"
		return nil
	case q.cache == nil:
		e.Whole = "no answers are kept here"
		return nil
	}
	qry, err := q.engine.NewRangeQuery(ctx, q.store, nil, text, start, end, step)
	if err != nil {
		return nil // a warning says so
	}
	defer qry.Close()
	if e.Whole = unsplittable(qry.Statement(), step); e.Whole != "" {
		return nil
	}
	if q.store.incompleteNow() {
		e.Whole = "the answer may be incomplete"
		return nil
	}
	s := q.newSplit(ctx, &measured{qry}, q.store, nil, text, start, end, step)
	sections := s.sections()
	s.look(sections)
	kept := int64(0)
	e.Parts = 0
	for i := 0; i < len(sections); {
		if p := sections[i].kept; p != nil {
			kept += (min(p.to, sections[i].to)-sections[i].from)/s.step + 1
			if p.to >= sections[i].to {
				i++
				continue
			}
		}
		i += s.together(sections[i:])
		e.Parts++
	}
	e.Cached = float64(kept) / float64(e.Steps)
	return nil
}

// explainSelectors counts what each selector matches, from the index alone.
func (q *Query) explainSelectors(ctx context.Context, e *Explanation, expr parser.Expr, start, end time.Time, step time.Duration) error {
	if gap := q.store.gap(); gap != nil {
		warnings, _ := gap.AsStrings("", 1, 0)
		e.Warnings = append(e.Warnings, warnings...)
	}
	expr, err := promql.PreprocessExpr(expr, start, end, step)
	if err != nil {
		return model.Invalid{{Field: "query", Msg: err.Error()}}
	}
	stmt := &parser.EvalStmt{Expr: expr, Start: start, End: end, Interval: step, LookbackDelta: q.cfg.Lookback}
	var found []*parser.VectorSelector
	var paths [][]parser.Node
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			found = append(found, v)
			paths = append(paths, append([]parser.Node{}, path...))
		}
		return nil
	})
	total := 0
	for i, v := range found {
		mint, maxt := promql.FindMinMaxTime(&parser.EvalStmt{Expr: alone(paths[i], v), Start: stmt.Start, End: stmt.End, Interval: step, LookbackDelta: stmt.LookbackDelta})
		n, err := q.countSeries(ctx, mint, maxt, v.LabelMatchers)
		if err != nil {
			return err
		}
		total += n
		e.Selectors = append(e.Selectors, ExplainedSelector{Selector: v.String(), Series: n, From: timestamp.Time(mint).UTC(), To: timestamp.Time(maxt).UTC()})
		if n == 0 {
			e.Warnings = append(e.Warnings, fmt.Sprintf("%s matches no series in that time", v))
		}
	}
	if total > q.cfg.MaxSeries {
		e.Warnings = append(e.Warnings, fmt.Sprintf("the query selects %d series, %d are allowed", total, q.cfg.MaxSeries))
	}
	return nil
}

// alone is the outermost subquery around a selector, or what reads the
// selector, without what stands beside it: its times are those of the selector.
func alone(path []parser.Node, v *parser.VectorSelector) parser.Expr {
	var inner parser.Expr = v
	for i := len(path) - 1; i >= 0; i-- {
		switch n := path[i].(type) {
		case *parser.MatrixSelector:
			inner = n
		case *parser.SubqueryExpr:
			c := *n
			c.Expr = inner
			inner = &c
		}
	}
	return inner
}

// countSeries counts the series that match between two times.
func (q *Query) countSeries(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) (n int, err error) {
	querier, err := q.store.Querier(mint, maxt)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, querier.Close()) }()
	set := querier.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt, Func: "series"}, ms...)
	for set.Next() {
		n++
		if n%1000 == 0 && ctx.Err() != nil {
			return n, fmt.Errorf("%w: %w", model.ErrUnavailable, ctx.Err())
		}
	}
	return n, set.Err()
}

// tree is what the library's own parse_query says.
func (q *Query) tree(r *http.Request) (json.RawMessage, error) {
	r2 := r.Clone(r.Context())
	r2.URL.Path = "/api/v1/parse_query"
	r2.Method = http.MethodGet
	r2.Header = http.Header{}
	w := &buffer{header: http.Header{}}
	q.library.ServeHTTP(w, r2)
	var out struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(w.body, &out); err != nil {
		return nil, err
	}
	return out.Data, nil
}

// buffer keeps an answer.
type buffer struct {
	header http.Header
	body   []byte
}

func (b *buffer) Header() http.Header { return b.header }
func (b *buffer) WriteHeader(int)     {}
func (b *buffer) Write(p []byte) (int, error) {
	b.body = append(b.body, p...)
	return len(p), nil
}

// refuseOwn answers in the form of our own API.
func refuseOwn(w http.ResponseWriter, err error) {
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Field   string `json:"field,omitempty"`
	}
	status, f := http.StatusInternalServerError, fault{Code: "internal", Message: err.Error()}
	var inv model.Invalid
	switch {
	case errors.As(err, &inv) && len(inv) > 0:
		status, f = http.StatusUnprocessableEntity, fault{Code: "invalid", Message: inv[0].Msg, Field: inv[0].Field}
	case errors.Is(err, model.ErrLimit):
		status, f.Code = http.StatusUnprocessableEntity, "limit"
	case errors.Is(err, model.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status, f.Code = http.StatusServiceUnavailable, "unavailable"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]fault{"error": f}) // the client may have left
}

// slowQueries answers GET /v1/slow-queries: one's own, or those of everybody on
// all servers for who may see them.
func (q *Query) slowQueries(w http.ResponseWriter, r *http.Request) {
	list := q.slow.newest()
	all := q.deps.SeesAll != nil && q.deps.SeesAll(r.Context())
	if q.deps.OtherSlow != nil {
		list = append(list, q.deps.OtherSlow(r.Context())...)
	}
	user := q.deps.User(r.Context())
	items := []Slow{}
	for _, s := range list {
		if all || s.User == user {
			items = append(items, s)
		}
	}
	newestFirst(items)
	w.Header().Set("Content-Type", "application/json")
	q.encode(w, map[string]any{"items": items[:min(len(items), 5*slowKept)]})
}

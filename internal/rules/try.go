package rules

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Trial says what a group would have done in a stretch of time.
type Trial struct {
	Name        string         `json:"name"` // of the group
	From        time.Time      `json:"from"`
	To          time.Time      `json:"to"`
	Interval    model.Duration `json:"interval"`
	Evaluations int            `json:"evaluations"`
	Rules       []RuleTrial    `json:"rules"`
	Capped      bool           `json:"capped,omitempty"` // a limit was met: there would have been more
	Note        string         `json:"note,omitempty"`   // which
}

// RuleTrial says what one rule would have done.
type RuleTrial struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Series   int      `json:"series"` // different ones that the expression gave
	Samples  int      `json:"samples"`
	Firings  []Firing `json:"firings,omitempty"` // by the time at which they began
	Pendings int      `json:"pendings"`          // alerts that ended before they fired
	Errors   int      `json:"errors,omitempty"`  // evaluations that would have failed
	Error    string   `json:"error,omitempty"`   // the first
}

// Firing is one alert that would have fired.
type Firing struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Value       string            `json:"value"`     // when it began to fire, as text: it may be NaN
	ActiveAt    time.Time         `json:"active_at"` // when its condition was first met
	FiredAt     time.Time         `json:"fired_at"`
	Earlier     bool              `json:"earlier,omitempty"`    // it fired at From already; ActiveAt and FiredAt are From
	ResolvedAt  time.Time         `json:"resolved_at,omitzero"` // zero: it would still fire at the end
}

// The limits of a trial.
const (
	maxTries      = 2 // at once
	maxTrySpan    = 31 * 24 * time.Hour
	maxTrySteps   = 200_000
	maxTryFirings = 1000
	tryWindow     = 500            // evaluations that are computed at once, fewer of many series
	tryPoints     = 500_000        // samples of a window, about
	maxTryLead    = 24 * time.Hour // before From, so that `for` and recorded series are right at From
)

// Try evaluates a group from one time to another without writing or telling
// anything. Series that the group itself records are computed too; those
// recorded elsewhere are taken from the store as they are.
//
// Faults of the arguments are model.Invalid; model.ErrLimit says that others
// are trying already. Try works whether or not Run does.
func (r *Rules) Try(ctx context.Context, g Group, from, to time.Time) (Trial, error) {
	select {
	case r.tries <- struct{}{}:
		defer func() { <-r.tries }()
	default:
		return Trial{}, &busy{}
	}
	rg, err := g.engine(boundTexts(boundOf(ctx)))
	if err != nil {
		return Trial{}, err
	}
	interval := time.Duration(rg.Interval)
	if interval == 0 {
		interval = r.cfg.Interval
	}
	var inv model.Invalid
	switch {
	case !from.Before(to):
		inv.Add("from", "must be before to")
	case to.Sub(from) > maxTrySpan:
		inv.Add("from", "must not be more than %s before to", model.Duration(maxTrySpan))
	case to.Sub(from)/interval > maxTrySteps:
		inv.Add("from", "the group would be evaluated %d times, once in %s; %d are allowed: try a shorter time or a longer interval", to.Sub(from)/interval, model.Duration(interval), maxTrySteps)
	}
	if err := inv.Err(); err != nil {
		return Trial{}, err
	}
	from = from.Truncate(interval)
	t := &trial{r: r, rg: rg, interval: interval, from: from, to: to, offset: r.cfg.QueryOffset, left: r.cfg.MaxTrySamples, memory: newMemory(), recorded: map[string]bool{}}
	if rg.QueryOffset != nil {
		t.offset = time.Duration(*rg.QueryOffset)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.TryTimeout, errTryTimeout)
	defer cancel()
	out := Trial{Name: rg.Name, From: from, To: to, Interval: model.Duration(interval), Evaluations: int(to.Sub(from)/interval) + 1}
	lead, err := leadOf(rg)
	if err != nil {
		return out, err
	}
	for _, rule := range rg.Rules {
		if rule.Record != "" {
			t.recorded[rule.Record] = true
		}
	}
	for _, rule := range rg.Rules {
		early := lead
		if rule.Record == "" {
			early = min(time.Duration(rule.For+rule.KeepFiringFor), maxTryLead)
		}
		// A multiple of the interval, so that all rules have the same instants.
		rt, err := t.rule(ctx, rule, from.Add(-(early/interval+1)*interval))
		if err != nil {
			return out, err
		}
		out.Rules = append(out.Rules, rt)
	}
	out.Capped, out.Note = t.note != "", t.note
	return out, nil
}

var errTryTimeout = errors.New("a trial takes too long")

// busy is a model.ErrLimit that says when to come back.
type busy struct{}

func (*busy) Error() string {
	return fmt.Sprintf("%s: %d rule groups are being tried already; try again in a moment", model.ErrLimit, maxTries)
}
func (*busy) Unwrap() error             { return model.ErrLimit }
func (*busy) RetryAfter() time.Duration { return 5 * time.Second }

// leadOf is how far before the beginning recorded series are needed.
func leadOf(rg rulefmt.RuleGroup) (time.Duration, error) {
	lead := 5 * time.Minute
	for _, rule := range rg.Rules {
		expr, err := parser.ParseExpr(rule.Expr)
		if err != nil {
			return 0, fmt.Errorf("rule %s%s: %w", rule.Alert, rule.Record, err)
		}
		parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
			switch n := node.(type) {
			case *parser.MatrixSelector:
				lead = max(lead, n.Range+5*time.Minute)
			case *parser.SubqueryExpr:
				lead = max(lead, n.Range+n.OriginalOffset+5*time.Minute)
			case *parser.VectorSelector:
				lead = max(lead, n.OriginalOffset+5*time.Minute)
			}
			return nil
		})
	}
	return min(2*lead, maxTryLead), nil
}

// trial is one Try under way.
type trial struct {
	r        *Rules
	rg       rulefmt.RuleGroup
	interval time.Duration
	offset   time.Duration
	from, to time.Time
	left     int // samples
	note     string
	memory   *memory
	recorded map[string]bool
}

// Querier implements storage.Queryable: what the group records comes from this
// trial, all else from the store.
func (t *trial) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := t.r.deps.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	own, err := t.memory.Querier(mint, maxt)
	return &trialQuerier{Querier: q, own: own, recorded: t.recorded}, err
}

type trialQuerier struct {
	storage.Querier
	own      storage.Querier
	recorded map[string]bool
}

func (q *trialQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	for _, m := range ms {
		if m.Name == model.MetricName && m.Type == labels.MatchEqual && q.recorded[m.Value] {
			return q.own.Select(ctx, sorted, hints, ms...)
		}
	}
	return q.Querier.Select(ctx, sorted, hints, ms...)
}

// rule evaluates one rule over the whole time, a window at a time.
func (t *trial) rule(ctx context.Context, rule rulefmt.Rule, begin time.Time) (RuleTrial, error) {
	out := RuleTrial{Name: rule.Record, Type: "recording"}
	series := map[string]bool{}
	var m *machine
	if rule.Alert != "" {
		out.Name, out.Type = rule.Alert, "alerting"
		m = newMachine(t, rule, &out)
	}
	record := recorder{memory: t.memory, rule: rule, labels: t.rg.Labels}
	steps := time.Duration(20) // until it is known how many series there are
	for at, next := begin, begin; !at.After(t.to) && t.left > 0; at = next {
		end := at.Add((steps - 1) * t.interval)
		if end.After(t.to) {
			end = at.Add(t.to.Sub(at) / t.interval * t.interval)
		}
		next = end.Add(t.interval)
		matrix, err := t.window(ctx, rule.Expr, at, end)
		if err != nil {
			if errors.Is(context.Cause(ctx), errTryTimeout) {
				t.cap(fmt.Sprintf("more than %s of computing; %s was tried up to %s only", model.Duration(t.r.cfg.TryTimeout), out.Name, at.UTC().Format(time.DateTime)))
				break
			}
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			out.Errors++
			if out.Error == "" {
				out.Error = err.Error()
			}
			continue
		}
		steps = min(max(tryPoints/time.Duration(len(matrix)+1), 1), tryWindow)
		for _, s := range matrix {
			n := len(s.Floats) + len(s.Histograms)
			out.Samples += n
			t.left -= n
			if len(series) <= t.r.cfg.MaxSeries {
				series[s.Metric.String()] = true
			}
			if m == nil {
				record.add(s)
			}
		}
		if m != nil {
			m.window(ctx, matrix, at, end)
		}
	}
	out.Series = len(series)
	if t.left <= 0 {
		t.cap(fmt.Sprintf("more than %d samples", t.r.cfg.MaxTrySamples))
	}
	if m != nil {
		m.finish()
	}
	return out, nil
}

func (t *trial) cap(note string) {
	if t.note == "" {
		t.note = note
	}
}

// window evaluates an expression at each instant from at to end.
func (t *trial) window(ctx context.Context, expr string, at, end time.Time) (promql.Matrix, error) {
	ctx, cancel := context.WithTimeout(ctx, t.r.cfg.EvalTimeout)
	defer cancel()
	if relative(expr) {
		return t.instants(ctx, expr, at, end)
	}
	q, err := t.r.deps.Engine.NewRangeQuery(ctx, t, nil, expr, at.Add(-t.offset), end.Add(-t.offset), t.interval)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	matrix, err := q.Exec(ctx).Matrix()
	if err != nil {
		return nil, err
	}
	if len(matrix) > t.r.cfg.MaxSeries {
		return nil, fmt.Errorf("%w: the expression gives %d series, a rule may produce %d; aggregate it", model.ErrLimit, len(matrix), t.r.cfg.MaxSeries)
	}
	out := make(promql.Matrix, len(matrix))
	for i, s := range matrix { // the engine uses its memory again
		out[i] = promql.Series{Metric: s.Metric, Floats: append([]promql.FPoint(nil), s.Floats...), Histograms: append([]promql.HPoint(nil), s.Histograms...)}
	}
	return out, nil
}

// relative reports whether an expression names the start or end of its query,
// which in a rule are the instant of the evaluation.
func relative(expr string) bool {
	e, err := parser.ParseExpr(expr)
	if err != nil {
		return false
	}
	found := false
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			found = found || n.StartOrEnd != 0
		case *parser.SubqueryExpr:
			found = found || n.StartOrEnd != 0
		}
		return nil
	})
	return found
}

func (t *trial) instants(ctx context.Context, expr string, at, end time.Time) (promql.Matrix, error) {
	m := newMemory()
	for ; !at.After(end); at = at.Add(t.interval) {
		q, err := t.r.deps.Engine.NewInstantQuery(ctx, t, nil, expr, at.Add(-t.offset))
		if err != nil {
			return nil, err
		}
		v, err := t.r.vector(q.Exec(ctx))
		q.Close()
		if err != nil {
			return nil, err
		}
		for _, s := range v {
			m.add(s.Metric, s.T, s.F, s.H)
		}
	}
	var out promql.Matrix
	for _, s := range m.series {
		out = append(out, *s)
	}
	return out, nil
}

// recorder stores what a recording rule gives.
type recorder struct {
	memory *memory
	rule   rulefmt.Rule
	labels map[string]string // of the group
}

func (r recorder) add(s promql.Series) {
	b := labels.NewBuilder(s.Metric)
	b.Set(model.MetricName, r.rule.Record)
	for _, more := range []map[string]string{r.labels, r.rule.Labels} {
		for k, v := range more {
			b.Set(k, v)
		}
	}
	l := b.Labels()
	for _, p := range s.Floats {
		r.memory.add(l, p.T, p.F, nil)
	}
	for _, p := range s.Histograms {
		r.memory.add(l, p.T, 0, p.H)
	}
}

package rules

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/strutil"

	"panoptes/internal/model"
)

// evaluation travels with the context of one evaluation of a group.
type evaluation struct {
	group *engine.Group
	muted bool // tell nobody
}

type evaluationKey struct{}

// query evaluates an expression for a rule or a template.
func (r *Rules) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.EvalTimeout)
	defer cancel()
	q, err := r.deps.Engine.NewInstantQuery(ctx, r.deps.Queryable, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	return r.vector(q.Exec(ctx))
}

// vector is the result of an instant query as rules want it.
func (r *Rules) vector(res *promql.Result) (promql.Vector, error) {
	if res.Err != nil {
		return nil, res.Err
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		if len(v) > r.cfg.MaxSeries {
			return nil, fmt.Errorf("%w: the expression gives %d series, a rule may produce %d; aggregate it", model.ErrLimit, len(v), r.cfg.MaxSeries)
		}
		return v, nil
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V, Metric: labels.EmptyLabels()}}, nil
	}
	return nil, fmt.Errorf("the expression gives a %s; a rule needs a vector or a number", res.Value.Type())
}

// iterate is one evaluation of a group.
func (r *Rules) iterate(ctx context.Context, g *engine.Group, at time.Time) {
	if !r.ready(time.Now()) {
		r.met.skipped.Inc()
		return
	}
	from, ok := r.origin(g)
	if !ok {
		return // it has left; what it was bound to is not known any more
	}
	ctx = Bind(ctx, from.bound)
	r.prime(ctx, g, at)
	engine.DefaultEvalIterationFunc(context.WithValue(ctx, evaluationKey{}, evaluation{group: g}), g, at)
}

// ready reports whether rules may be evaluated. absent() and thresholds lie
// about samples that are on their way; but when they do not come, rules that may
// err are better than none.
func (r *Rules) ready(now time.Time) bool {
	if r.deps.Current() {
		r.behind.Store(0)
		return true
	}
	if r.behind.CompareAndSwap(0, now.UnixMilli()) {
		r.log.Warn("rules wait until the samples are complete", "at_most", r.cfg.Patience)
	}
	return now.Sub(time.UnixMilli(r.behind.Load())) >= r.cfg.Patience
}

// priming is what is left to do before the alerts of a group count.
type priming struct {
	begun bool
	left  map[*engine.AlertingRule]bool
}

// prime finds out, before the first evaluation of a group that counts, since
// when its alerts have been pending or firing: on the server that evaluated it
// before, or here before a restart or a change of the rules. It evaluates once
// without telling anybody, so that what is active is known, and sets the start
// of each alert to what the store says. The evaluation that follows at the same
// instant goes on as if nothing had happened.
//
// The engine's own restoring would wait an interval longer, and count the time
// of a hand-over as if nobody had watched.
func (r *Rules) prime(ctx context.Context, g *engine.Group, at time.Time) {
	v, _ := r.primed.LoadOrStore(g, &priming{})
	p, ok := v.(*priming)
	if !ok || p.begun && len(p.left) == 0 {
		return
	}
	if !p.begun {
		p.begun, p.left = true, map[*engine.AlertingRule]bool{}
		for _, rule := range g.Rules() {
			ar, ok := rule.(*engine.AlertingRule)
			if !ok {
				continue
			}
			if active(ar) { // it came with the group that this one replaces
				ar.SetRestored(true)
				continue
			}
			p.left[ar] = true
			ar.SetRestored(false) // nothing of it is written until its start is known
		}
		if len(p.left) == 0 {
			return
		}
		g.Eval(context.WithValue(ctx, evaluationKey{}, evaluation{group: g, muted: true}), at)
		unsend(g, at)
	} else {
		for ar := range p.left {
			_, err := ar.Eval(ctx, g.QueryOffset(), at, r.query, r.deps.ExternalURL, g.Limit())
			ar.SetLastError(err)
		}
	}
	for ar := range p.left {
		if ar.LastError() != nil {
			continue // once more at the next instant
		}
		if err := r.restore(ctx, g, ar, at); err != nil {
			r.log.Warn("start of alerts not read", "group", g.Name(), "alert", ar.Name(), "err", err)
			continue
		}
		ar.SetRestored(true)
		delete(p.left, ar)
	}
}

// active reports whether a rule has alerts already.
func active(ar *engine.AlertingRule) (yes bool) {
	ar.ForEachActiveAlert(func(*engine.Alert) { yes = true })
	return yes
}

// unsend makes what a muted evaluation would have sent look unsent.
func unsend(g *engine.Group, at time.Time) {
	for _, rule := range g.Rules() {
		ar, ok := rule.(*engine.AlertingRule)
		if !ok {
			continue
		}
		ar.ForEachActiveAlert(func(a *engine.Alert) {
			if a.LastSentAt.Equal(at) {
				a.LastSentAt = time.Time{}
			}
		})
	}
}

// handOver is the gap in the evaluations of a group that counts as watched:
// the time in which another server takes over.
func handOver(interval time.Duration) time.Duration { return max(4*interval, time.Minute) }

// start is what the store knows of an active alert.
type start struct {
	activeAt time.Time
	last     time.Time // when it was last seen active
}

// restore sets since when the alerts of a rule have been active.
func (r *Rules) restore(ctx context.Context, g *engine.Group, ar *engine.AlertingRule, at time.Time) error {
	starts, err := r.starts(ctx, ar, at)
	if err != nil {
		return err
	}
	restored := 0
	ar.ForEachActiveAlert(func(a *engine.Alert) {
		s, ok := starts[a.Labels.String()]
		if !ok || !s.activeAt.Before(a.ActiveAt) {
			return
		}
		gap := at.Sub(s.last)
		pending := s.last.Sub(s.activeAt) < ar.HoldDuration()
		if pending && gap > handOver(g.Interval()) {
			// Nobody watched for long: that time does not count.
			s.activeAt = s.activeAt.Add(gap)
			if !s.activeAt.Before(a.ActiveAt) {
				return
			}
		}
		a.ActiveAt = s.activeAt
		restored++
	})
	r.met.restored.Add(float64(restored))
	return nil
}

// starts reads the series in which the engine keeps the starts of alerts.
func (r *Rules) starts(ctx context.Context, ar *engine.AlertingRule, at time.Time) (map[string]start, error) {
	q, err := r.deps.Queryable.Querier(at.Add(-r.cfg.OutageLookback).UnixMilli(), at.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	defer func() { _ = q.Close() }() // it was only read
	ms, err := startMatchers(ar)
	if err != nil {
		return nil, err
	}
	set := q.Select(ctx, false, nil, ms...)
	out := map[string]start{}
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		t, v := int64(0), math.NaN()
		for kind := it.Next(); kind != 0; kind = it.Next() {
			if kind.String() == "float" {
				t, v = it.At()
			}
		}
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Labels(), err)
		}
		if math.IsNaN(v) || value.IsStaleNaN(v) { // it had ended
			continue
		}
		key := s.Labels().DropReserved(func(n string) bool { return n == model.MetricName }).String()
		out[key] = start{activeAt: time.Unix(int64(v), 0), last: time.UnixMilli(t)}
	}
	return out, set.Err()
}

// startMatchers selects the starts of a rule's alerts. Labels with templates
// differ from alert to alert and are left to the comparison.
func startMatchers(ar *engine.AlertingRule) ([]*labels.Matcher, error) {
	want := map[string]string{model.MetricName: "ALERTS_FOR_STATE", labels.AlertName: ar.Name()}
	ar.Labels().Range(func(l labels.Label) {
		if l.Name != labels.AlertName && l.Name != model.MetricName && !hasTemplate(l.Value) {
			want[l.Name] = l.Value
		}
	})
	var out []*labels.Matcher
	for k, v := range want {
		m, err := labels.NewMatcher(labels.MatchEqual, k, v)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// notify takes what one evaluation of one rule has to tell.
func (r *Rules) notify(ctx context.Context, expr string, alerts ...*engine.Alert) {
	ev, ok := ctx.Value(evaluationKey{}).(evaluation)
	if !ok || ev.muted || len(alerts) == 0 {
		return
	}
	link := r.deps.ExternalURL.String() + strutil.TableLinkForExpression(expr)
	out := make([]Alert, 0, len(alerts))
	for _, a := range alerts {
		n := Alert{Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), StartsAt: startsAt(ev.group, expr, a), EndsAt: a.ValidUntil, GeneratorURL: link}
		if !a.ResolvedAt.IsZero() {
			n.EndsAt = a.ResolvedAt
		}
		// What the store knows comes in the zone of this server: told as a text, the
		// same instant would be another one there.
		n.StartsAt, n.EndsAt = n.StartsAt.UTC(), n.EndsAt.UTC()
		out = append(out, n)
	}
	r.outbox.put(out)
}

// startsAt is when an alert began to fire, and the same on every server that
// has evaluated it: it follows from what the store knows, the second in which
// its condition was first met. The engine's own time is that of the server that
// says so first.
func startsAt(g *engine.Group, expr string, a *engine.Alert) time.Time {
	hold, ok := holdOf(g, expr, a)
	if !ok {
		return a.FiredAt
	}
	interval := g.Interval()
	if rest := hold % interval; rest != 0 {
		hold += interval - rest
	}
	at := a.ActiveAt.Truncate(time.Second).Add(hold)
	if a.FiredAt.Before(at) { // rules were changed meanwhile
		return a.FiredAt
	}
	return at
}

// holdOf finds the `for` of the rule that an alert belongs to. Several rules of
// a group may have the same name and expression.
func holdOf(g *engine.Group, expr string, a *engine.Alert) (time.Duration, bool) {
	for _, rule := range g.Rules() {
		ar, ok := rule.(*engine.AlertingRule)
		if !ok || ar.Name() != a.Labels.Get(labels.AlertName) || ar.Query().String() != expr {
			continue
		}
		found := false
		ar.ForEachActiveAlert(func(own *engine.Alert) {
			found = found || own.ActiveAt.Equal(a.ActiveAt) && labels.Equal(own.Labels, a.Labels)
		})
		if found {
			return ar.HoldDuration(), true
		}
	}
	return 0, false
}

package rules

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/template"

	"panoptes/internal/model"
)

// machine goes through the evaluations of an alerting rule, as the engine's
// rule does, but expands annotations only when something fires.
type machine struct {
	t      *trial
	rule   rulefmt.Rule
	labels labels.Labels
	static bool // no label is a template
	out    *RuleTrial
	active map[uint64]*tried
}

// tried is an alert that is pending or fires.
type tried struct {
	labels   labels.Labels
	metric   labels.Labels // what the expression gave
	value    float64
	activeAt time.Time
	firing   *Firing // nil while pending
	fading   time.Time
}

func newMachine(t *trial, rule rulefmt.Rule, out *RuleTrial) *machine {
	m := &machine{t: t, rule: rule, labels: engine.FromMaps(t.rg.Labels, rule.Labels), static: true, out: out, active: map[uint64]*tried{}}
	m.labels.Range(func(l labels.Label) { m.static = m.static && !hasTemplate(l.Value) })
	return m
}

// at is one series of a window and how far it was read.
type at struct {
	metric labels.Labels
	points []promql.FPoint
	labels labels.Labels // of its alert, when no label is a template
	hash   uint64
}

// window takes the evaluations from begin to end.
func (m *machine) window(ctx context.Context, matrix promql.Matrix, begin, end time.Time) {
	list := make([]at, 0, len(matrix))
	for _, s := range matrix {
		a := at{metric: s.Metric, points: s.Floats}
		for _, h := range s.Histograms { // the value of a histogram is 0 to a rule
			a.points = append(a.points, promql.FPoint{T: h.T})
		}
		if len(s.Histograms) > 0 {
			slices.SortFunc(a.points, func(x, y promql.FPoint) int { return cmp.Compare(x.T, y.T) })
		}
		if m.static {
			a.labels = m.alertLabels(ctx, s.Metric, 0, time.Time{})
			a.hash = a.labels.Hash()
		}
		list = append(list, a)
	}
	for now := begin; !now.After(end) && ctx.Err() == nil; now = now.Add(m.t.interval) {
		m.step(ctx, list, now)
	}
}

// step is one evaluation.
func (m *machine) step(ctx context.Context, list []at, now time.Time) {
	ms := now.Add(-m.t.offset).UnixMilli()
	found := map[uint64]*tried{}
	for i := range list {
		a := &list[i]
		for len(a.points) > 0 && a.points[0].T < ms {
			a.points = a.points[1:]
		}
		if len(a.points) == 0 || a.points[0].T != ms {
			continue
		}
		value, l, h := a.points[0].F, a.labels, a.hash
		if !m.static {
			l = m.alertLabels(ctx, a.metric, value, now)
			h = l.Hash()
		}
		if found[h] != nil {
			m.fail(engine.ErrDuplicateAlertLabelSet)
			return
		}
		found[h] = &tried{labels: l, metric: a.metric, value: value, activeAt: now}
	}
	for h, f := range found {
		if old := m.active[h]; old != nil {
			old.value, old.metric = f.value, f.metric
		} else {
			m.active[h] = f
		}
	}
	n := 0
	for h, a := range m.active {
		if found[h] == nil && !m.fades(a, now) {
			m.end(a, now)
			delete(m.active, h)
			continue
		}
		if found[h] != nil {
			a.fading = time.Time{}
		}
		n++
		if a.firing == nil && now.Sub(a.activeAt) >= time.Duration(m.rule.For) {
			a.firing = &Firing{ActiveAt: a.activeAt, FiredAt: now, Labels: a.labels.Map(), Annotations: m.annotations(ctx, a, now), Value: strconv.FormatFloat(a.value, 'g', -1, 64)}
		}
	}
	if m.t.rg.Limit > 0 && n > m.t.rg.Limit {
		for _, a := range m.active {
			m.end(a, now)
		}
		clear(m.active)
		m.fail(fmt.Errorf("exceeded limit of %d with %d alerts", m.t.rg.Limit, n))
	}
}

// fades reports whether an alert goes on to fire although its condition is over.
func (m *machine) fades(a *tried, now time.Time) bool {
	if a.firing == nil || m.rule.KeepFiringFor == 0 {
		return false
	}
	if a.fading.IsZero() {
		a.fading = now
	}
	return now.Sub(a.fading) < time.Duration(m.rule.KeepFiringFor)
}

func (m *machine) fail(err error) {
	m.out.Errors++
	if m.out.Error == "" {
		m.out.Error = err.Error()
	}
}

// end takes note of an alert that is over; a zero time means that it is not.
func (m *machine) end(a *tried, now time.Time) {
	if !now.IsZero() && now.Before(m.t.from) {
		return
	}
	switch {
	case a.firing == nil:
		if !now.IsZero() {
			m.out.Pendings++
		}
	case len(m.out.Firings) >= maxTryFirings:
		m.t.cap(fmt.Sprintf("more than %d alerts of one rule", maxTryFirings))
	default:
		if a.firing.FiredAt.Before(m.t.from) { // since when is not known: nobody looked further back
			a.firing.Earlier, a.firing.ActiveAt, a.firing.FiredAt = true, m.t.from, m.t.from
		}
		a.firing.ResolvedAt = now
		m.out.Firings = append(m.out.Firings, *a.firing)
	}
}

func (m *machine) finish() {
	for _, a := range m.active {
		m.end(a, time.Time{})
	}
	slices.SortFunc(m.out.Firings, func(a, b Firing) int {
		return cmp.Or(a.FiredAt.Compare(b.FiredAt), labels.Compare(labels.FromMap(a.Labels), labels.FromMap(b.Labels)))
	})
}

func (m *machine) alertLabels(ctx context.Context, metric labels.Labels, value float64, now time.Time) labels.Labels {
	b := labels.NewBuilder(metric)
	b.Del(model.MetricName)
	var expand func(string) string
	if !m.static {
		expand = m.expander(ctx, metric, value, now)
	}
	m.labels.Range(func(l labels.Label) {
		if expand != nil {
			l.Value = expand(l.Value)
		}
		b.Set(l.Name, l.Value)
	})
	b.Set(labels.AlertName, m.rule.Alert)
	return b.Labels()
}

func (m *machine) annotations(ctx context.Context, a *tried, now time.Time) map[string]string {
	out := make(map[string]string, len(m.rule.Annotations))
	expand := m.expander(ctx, a.metric, a.value, now)
	for k, v := range m.rule.Annotations {
		out[k] = expand(v)
	}
	return out
}

// expander fills in templates. Their queries see what the trial sees.
func (m *machine) expander(ctx context.Context, metric labels.Labels, value float64, now time.Time) func(string) string {
	data := template.AlertTemplateData(metric.Map(), m.t.r.cfg.ExternalLabels.Map(), m.t.r.deps.ExternalURL.String(), promql.Sample{Metric: metric, F: value})
	query := func(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
		q, err := m.t.r.deps.Engine.NewInstantQuery(ctx, m.t, nil, expr, at)
		if err != nil {
			return nil, err
		}
		defer q.Close()
		return m.t.r.vector(q.Exec(ctx))
	}
	return func(text string) string {
		if !hasTemplate(text) {
			return text
		}
		s, err := template.NewTemplateExpander(ctx, templateHead+text, "__alert_"+m.rule.Alert, data, pm.TimeFromUnixNano(now.UnixNano()), query, m.t.r.deps.ExternalURL, nil).Expand()
		if err != nil {
			return fmt.Sprintf("<error expanding template: %s>", err)
		}
		return s
	}
}

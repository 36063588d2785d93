package rules

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	engine "github.com/prometheus/prometheus/rules"

	"panoptes/internal/model"
)

// RuleGroups lists the groups that this server evaluates, as Prometheus' HTTP
// API wants them. With AlertingRules it makes a Rules what that API calls a
// rules retriever.
func (r *Rules) RuleGroups() []*engine.Group {
	r.mu.RLock()
	m := r.manager
	r.mu.RUnlock()
	if m == nil {
		return nil
	}
	return m.RuleGroups()
}

// AlertingRules lists the alerting rules of RuleGroups.
func (r *Rules) AlertingRules() []*engine.AlertingRule { return alertingRules(r.RuleGroups()) }

func alertingRules(groups []*engine.Group) []*engine.AlertingRule {
	var out []*engine.AlertingRule
	for _, g := range groups {
		out = append(out, g.AlertingRules()...)
	}
	return out
}

// GroupState is a group with the state of its rules, for calls between servers
// and for pages.
type GroupState struct {
	Name        string         `json:"name"`
	Source      string         `json:"source"` // the record or file
	File        bool           `json:"file,omitempty"`
	Node        string         `json:"node"` // who evaluates it
	Interval    model.Duration `json:"interval"`
	QueryOffset model.Duration `json:"query_offset,omitempty"`
	Limit       int            `json:"limit,omitempty"`
	Evaluated   time.Time      `json:"evaluated,omitzero"` // last; zero: not yet
	Took        float64        `json:"took_seconds"`
	Rules       []RuleState    `json:"rules"`
}

// RuleState is a rule with its state.
type RuleState struct {
	Type          string            `json:"type"` // alerting, recording
	Name          string            `json:"name"`
	Expr          string            `json:"expr"`
	State         string            `json:"state,omitempty"` // of alerting rules: inactive, pending, firing, unknown
	For           model.Duration    `json:"for,omitempty"`
	KeepFiringFor model.Duration    `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Alerts        []AlertState      `json:"alerts,omitempty"`
	Health        string            `json:"health"` // ok, err, unknown
	Error         string            `json:"error,omitempty"`
	Evaluated     time.Time         `json:"evaluated,omitzero"`
	Took          float64           `json:"took_seconds"`
}

// AlertState is a pending or firing alert.
type AlertState struct {
	State           string            `json:"state"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	ActiveAt        time.Time         `json:"active_at"`
	KeepFiringSince time.Time         `json:"keep_firing_since,omitzero"`
	Value           string            `json:"value"` // as text: it may be NaN
}

// Groups returns the groups that this server evaluates.
func (r *Rules) Groups() []GroupState {
	groups := r.RuleGroups()
	out := make([]GroupState, 0, len(groups))
	for _, g := range groups {
		from, ok := r.origin(g)
		if !ok {
			continue // it is leaving
		}
		s := GroupState{
			Name: g.Name(), Source: from.source, File: from.local, Node: r.cfg.Node, Interval: model.Duration(g.Interval()), QueryOffset: model.Duration(g.QueryOffset()),
			Limit: g.Limit(), Evaluated: g.GetLastEvaluation(), Took: g.GetEvaluationTime().Seconds(), Rules: []RuleState{},
		}
		for _, rule := range g.Rules() {
			s.Rules = append(s.Rules, ruleState(rule))
		}
		out = append(out, s)
	}
	return out
}

func ruleState(rule engine.Rule) RuleState {
	s := RuleState{
		Type: "recording", Name: rule.Name(), Expr: rule.Query().String(), Labels: rule.Labels().Map(), Health: string(rule.Health()),
		Evaluated: rule.GetEvaluationTimestamp(), Took: rule.GetEvaluationDuration().Seconds(),
	}
	if err := rule.LastError(); err != nil {
		s.Error = err.Error()
	}
	ar, ok := rule.(*engine.AlertingRule)
	if !ok {
		return s
	}
	s.Type, s.State, s.Annotations = "alerting", ar.State().String(), ar.Annotations().Map()
	s.For, s.KeepFiringFor = model.Duration(ar.HoldDuration()), model.Duration(ar.KeepFiringFor())
	for _, a := range ar.ActiveAlerts() {
		s.Alerts = append(s.Alerts, AlertState{
			State: a.State.String(), Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), ActiveAt: a.ActiveAt,
			KeepFiringSince: a.KeepFiringSince, Value: strconv.FormatFloat(a.Value, 'e', -1, 64),
		})
	}
	slices.SortFunc(s.Alerts, func(a, b AlertState) int {
		return cmp.Or(a.ActiveAt.Compare(b.ActiveAt), cmp.Compare(labels.FromMap(a.Labels).String(), labels.FromMap(b.Labels).String()))
	})
	return s
}

// Merge joins what several servers say. Of a group that more than one
// evaluates – in a split, or while it moves – the latest evaluation counts.
func Merge(lists ...[]GroupState) []GroupState {
	type key struct{ source, name string }
	latest := map[key]GroupState{}
	for _, list := range lists {
		for _, g := range list {
			k := key{g.Source, g.Name}
			if old, ok := latest[k]; !ok || g.Evaluated.After(old.Evaluated) {
				latest[k] = g
			}
		}
	}
	out := make([]GroupState, 0, len(latest))
	for _, g := range latest {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b GroupState) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// View shows groups of all servers as a rules retriever.
type View struct{ groups []*engine.Group }

// RuleGroups implements the interface of Prometheus' HTTP API.
func (v View) RuleGroups() []*engine.Group { return v.groups }

// AlertingRules implements the interface of Prometheus' HTTP API.
func (v View) AlertingRules() []*engine.AlertingRule { return alertingRules(v.groups) }

// ViewOf makes the engine's groups of their states. They are shown and never
// evaluated; of the group itself only the time of the last evaluation is lost,
// its rules have it. What does not parse – from a newer server – is left out.
func ViewOf(states []GroupState) View {
	m := engine.NewGroupMetrics(nil)
	var v View
	for _, s := range states {
		var list []engine.Rule
		for _, rs := range s.Rules {
			if rule := rs.rebuild(); rule != nil {
				list = append(list, rule)
			}
		}
		offset := s.QueryOffset.D()
		v.groups = append(v.groups, engine.NewGroup(engine.GroupOptions{
			Name: s.Name, File: s.Source, Interval: s.Interval.D(), Limit: s.Limit, Rules: list, QueryOffset: &offset,
			Opts: &engine.ManagerOptions{Metrics: m},
		}))
	}
	return v
}

func (s RuleState) rebuild() engine.Rule {
	expr, err := parser.ParseExpr(s.Expr)
	if err != nil {
		return nil
	}
	var rule engine.Rule
	if s.Type == "alerting" {
		rule = s.rebuildAlerting(expr)
	} else {
		rule = engine.NewRecordingRule(s.Name, expr, labels.FromMap(s.Labels))
	}
	rule.SetHealth(engine.RuleHealth(s.Health))
	if s.Error != "" {
		rule.SetLastError(errors.New(s.Error))
	}
	rule.SetEvaluationTimestamp(s.Evaluated)
	rule.SetEvaluationDuration(time.Duration(s.Took * float64(time.Second)))
	return rule
}

// rebuildAlerting lets a rule find one series for each alert, which makes it
// hold an alert, and then gives the alerts what they really have.
func (s RuleState) rebuildAlerting(expr parser.Expr) *engine.AlertingRule {
	bare := engine.NewAlertingRule(s.Name, expr, s.For.D(), s.KeepFiringFor.D(), labels.FromMap(s.Labels), labels.FromMap(s.Annotations), labels.EmptyLabels(), "", true, nilLogger)
	if len(s.Alerts) == 0 {
		return bare
	}
	const number = "__number__"
	found := func(context.Context, string, time.Time) (promql.Vector, error) {
		out := make(promql.Vector, len(s.Alerts))
		for i := range s.Alerts {
			out[i] = promql.Sample{Metric: labels.FromStrings(number, strconv.Itoa(i))}
		}
		return out, nil
	}
	if _, err := bare.Eval(context.Background(), 0, time.Unix(0, 0), found, nil, 0); err != nil {
		return bare
	}
	bare.ForEachActiveAlert(func(a *engine.Alert) {
		i, err := strconv.Atoi(a.Labels.Get(number))
		if err != nil || i < 0 || i >= len(s.Alerts) {
			return
		}
		from := s.Alerts[i]
		a.State = engine.StatePending
		if from.State == engine.StateFiring.String() {
			a.State = engine.StateFiring
		}
		a.Labels, a.Annotations = labels.FromMap(from.Labels), labels.FromMap(from.Annotations)
		a.ActiveAt, a.KeepFiringSince = from.ActiveAt, from.KeepFiringSince
		if a.Value, err = strconv.ParseFloat(from.Value, 64); err != nil {
			a.Value = math.NaN()
		}
	})
	return bare
}

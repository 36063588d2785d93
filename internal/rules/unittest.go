package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	engine "github.com/prometheus/prometheus/rules"
	"gopkg.in/yaml.v3"
)

// UnitFile is a file of unit tests in promtool's format.
type UnitFile struct {
	RuleFiles          []string    `yaml:"rule_files"`
	EvaluationInterval pm.Duration `yaml:"evaluation_interval"`
	GroupEvalOrder     []string    `yaml:"group_eval_order"`
	FuzzyCompare       bool        `yaml:"fuzzy_compare"`
	Tests              []UnitTest  `yaml:"tests"`
}

// UnitTest is one test: series that come in, and what rules and expressions
// must give at some times.
type UnitTest struct {
	Name           string            `yaml:"name"`
	Interval       pm.Duration       `yaml:"interval"` // between two values of the series
	StartTimestamp unitStart         `yaml:"start_timestamp"`
	ExternalLabels map[string]string `yaml:"external_labels"`
	ExternalURL    string            `yaml:"external_url"`
	InputSeries    []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Alerts []unitAlert `yaml:"alert_rule_test"`
	Exprs  []unitExpr  `yaml:"promql_expr_test"`
}

type unitAlert struct {
	EvalTime  pm.Duration `yaml:"eval_time"`
	Alertname string      `yaml:"alertname"`
	Expected  []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type unitExpr struct {
	Expr     string      `yaml:"expr"`
	EvalTime pm.Duration `yaml:"eval_time"`
	Expected []struct {
		Labels    string  `yaml:"labels"`
		Value     float64 `yaml:"value"`
		Histogram string  `yaml:"histogram"` // instead of Value
	} `yaml:"exp_samples"`
}

// unitStart is a time written as RFC 3339 or in seconds since 1970.
type unitStart struct{ time.Time }

// UnmarshalYAML implements the interface of package yaml.
func (s *unitStart) UnmarshalYAML(n *yaml.Node) error {
	if t, err := time.Parse(time.RFC3339Nano, n.Value); err == nil {
		s.Time = t.UTC()
		return nil
	}
	var seconds float64
	if err := n.Decode(&seconds); err != nil {
		return fmt.Errorf("start_timestamp %q: write a time as 2026-01-02T15:04:05Z or in seconds since 1970", n.Value)
	}
	s.Time = time.UnixMilli(int64(seconds * 1000)).UTC()
	return nil
}

// UnitResult is what became of one test.
type UnitResult struct {
	Name   string
	Faults []string // empty: it passed
}

// maxUnitSteps keeps a mistyped time from running for days.
const maxUnitSteps = 2_000_000

// TestFile runs the unit tests of a file. Its rule files are found from the
// file's directory; * in their names stands for many. The error says that the
// tests could not be run at all.
func TestFile(ctx context.Context, path string) ([]UnitResult, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f UnitFile
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if f.EvaluationInterval <= 0 {
		f.EvaluationInterval = pm.Duration(time.Minute)
	}
	sets, err := f.load(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	order := map[string]int{}
	for i, name := range f.GroupEvalOrder {
		if _, ok := order[name]; ok {
			return nil, fmt.Errorf("%s: group_eval_order names %q twice", path, name)
		}
		order[name] = i
	}
	out := make([]UnitResult, 0, len(f.Tests))
	for i, t := range f.Tests {
		if t.Name == "" {
			t.Name = fmt.Sprintf("test %d", i+1)
		}
		if t.Interval <= 0 {
			t.Interval = f.EvaluationInterval
		}
		u := &unit{file: &f, test: &t, sets: sets, order: order, memory: newMemory()}
		faults, err := u.run(ctx)
		if err != nil {
			faults = append(faults, err.Error())
		}
		out = append(out, UnitResult{Name: t.Name, Faults: faults})
	}
	return out, nil
}

// load reads the rule files: by path, their groups.
func (f *UnitFile) load(dir string) (plan, error) {
	p := plan{groups: map[string][]rulefmt.RuleGroup{}}
	for _, pattern := range f.RuleFiles {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return p, fmt.Errorf("rule file %s: %w", pattern, err)
		}
		if len(paths) == 0 {
			return p, fmt.Errorf("rule file %s: there is none", pattern)
		}
		for _, path := range paths {
			groups, err := loadFile(path)
			if err != nil {
				return p, fmt.Errorf("rule file %s: %w", path, err)
			}
			p.groups[path] = nil
			for _, g := range groups {
				e, err := g.engine(nil)
				if err != nil {
					return p, fmt.Errorf("rule file %s: %w", path, err)
				}
				p.groups[path] = append(p.groups[path], e)
			}
			p.sources = append(p.sources, path)
		}
	}
	return p, nil
}

// unit is one test under way.
type unit struct {
	file   *UnitFile
	test   *UnitTest
	sets   plan
	order  map[string]int
	memory *memory
	engine *promql.Engine
	begin  time.Time
	groups []*engine.Group
	faults []string
}

func (u *unit) run(ctx context.Context) ([]string, error) {
	u.begin = time.Unix(0, 0).UTC()
	if !u.test.StartTimestamp.IsZero() {
		u.begin = u.test.StartTimestamp.Time
	}
	interval := time.Duration(u.file.EvaluationInterval)
	u.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1_000_000, Timeout: 100 * time.Second, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return interval.Milliseconds() },
	})
	defer func() { _ = u.engine.Close() }() // it keeps nothing
	input, err := u.parseSeries()
	if err != nil {
		return nil, err
	}
	if err := u.makeGroups(ctx); err != nil {
		return nil, err
	}
	last := time.Duration(0)
	for _, a := range u.test.Alerts {
		if a.Alertname == "" {
			return nil, fmt.Errorf("alert_rule_test at %s has no alertname", a.EvalTime)
		}
		last = max(last, time.Duration(a.EvalTime))
	}
	for _, e := range u.test.Exprs {
		last = max(last, time.Duration(e.EvalTime))
	}
	if last/interval > maxUnitSteps {
		return nil, fmt.Errorf("%s at %s are more than %d evaluations", last, interval, maxUnitSteps)
	}
	for after := time.Duration(0); after <= last; after += interval {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		now := u.begin.Add(after)
		input.until(u.memory, now.UnixMilli())
		if !u.evaluate(ctx, now) {
			return u.faults, nil
		}
		for _, a := range u.test.Alerts {
			if at := time.Duration(a.EvalTime); at >= after && at < after+interval {
				u.checkAlert(a)
			}
		}
	}
	for _, e := range u.test.Exprs {
		u.checkExpr(ctx, e)
	}
	return u.faults, nil
}

// evaluate runs all groups at one instant; false when a rule failed.
func (u *unit) evaluate(ctx context.Context, now time.Time) bool {
	good := true
	for _, g := range u.groups {
		g.Eval(ctx, now)
		for _, rule := range g.Rules() {
			if err := rule.LastError(); err != nil {
				good = false
				u.fault("group %q, rule %q at %s: %s", g.Name(), rule.Name(), pm.Duration(now.Sub(u.begin)), err)
			}
		}
	}
	return good
}

func (u *unit) fault(format string, args ...any) {
	u.faults = append(u.faults, fmt.Sprintf(format, args...))
}

func (u *unit) makeGroups(ctx context.Context) error {
	m := engine.NewManager(&engine.ManagerOptions{
		QueryFunc: engine.EngineQueryFunc(u.engine, u.memory), Appendable: u.memory, Queryable: u.memory, Context: ctx,
		NotifyFunc: func(context.Context, string, ...*engine.Alert) {}, Logger: nilLogger, GroupLoader: &loader{plan: u.sets},
	})
	external := engine.FromMaps(u.test.ExternalLabels)
	byKey, errs := m.LoadGroups(time.Duration(u.test.Interval), external, u.test.ExternalURL, nil, false, u.sets.sources...)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, g := range byKey {
		for _, rule := range g.Rules() {
			if ar, ok := rule.(*engine.AlertingRule); ok {
				ar.SetRestored(true) // else it writes no ALERTS
			}
		}
		u.groups = append(u.groups, g)
	}
	// Those that group_eval_order does not name come first, as with promtool;
	// among them the order is that of their names, so that a test is repeatable.
	slices.SortFunc(u.groups, func(a, b *engine.Group) int {
		if d := u.order[a.Name()] - u.order[b.Name()]; d != 0 {
			return d
		}
		return strings.Compare(engine.GroupKey(a.File(), a.Name()), engine.GroupKey(b.File(), b.Name()))
	})
	return nil
}

// unitSeries are the values of the input that are still to come.
type unitSeries struct{ list []memorySample }

// parseSeries reads the series' short notation: "0+10x5 _ stale".
func (u *unit) parseSeries() (*unitSeries, error) {
	step := time.Duration(u.test.Interval).Milliseconds()
	var out unitSeries
	for i, in := range u.test.InputSeries {
		l, values, err := parser.ParseSeriesDesc(in.Series + " " + in.Values)
		if err != nil {
			return nil, fmt.Errorf("input_series[%d] %s: %w", i, in.Series, err)
		}
		for j, v := range values {
			if !v.Omitted {
				out.list = append(out.list, memorySample{l, u.begin.UnixMilli() + int64(j)*step, v.Value, v.Histogram})
			}
		}
	}
	slices.SortStableFunc(out.list, func(a, b memorySample) int { return int(max(min(a.t-b.t, 1), -1)) })
	return &out, nil
}

// until stores the values up to a time.
func (s *unitSeries) until(m *memory, t int64) {
	for len(s.list) > 0 && s.list[0].t <= t {
		m.add(s.list[0].labels, s.list[0].t, s.list[0].v, s.list[0].h)
		s.list = s.list[1:]
	}
}

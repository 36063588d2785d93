package rules

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	engine "github.com/prometheus/prometheus/rules"
)

// checkAlert compares the alerts of one name that fire now.
func (u *unit) checkAlert(want unitAlert) {
	var expected, got []string
	for _, a := range want.Expected {
		l := maps.Clone(a.Labels)
		if l == nil {
			l = map[string]string{}
		}
		l[labels.AlertName] = want.Alertname // people write only what the rule and the series bring
		expected = append(expected, alertText(labels.FromMap(l), labels.FromMap(a.Annotations)))
	}
	for _, g := range u.groups {
		for _, ar := range g.AlertingRules() {
			if ar.Name() != want.Alertname {
				continue
			}
			for _, a := range ar.ActiveAlerts() {
				if a.State == engine.StateFiring {
					got = append(got, alertText(a.Labels, a.Annotations))
				}
			}
		}
	}
	slices.Sort(expected)
	slices.Sort(got)
	if !slices.Equal(expected, got) {
		u.fault("alert %s at %s\n  expected: %s\n  got:      %s", want.Alertname, want.EvalTime, listText(expected), listText(got))
	}
}

func alertText(l, annotations labels.Labels) string {
	return l.String() + "\n              with " + annotations.String()
}

func listText(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, "\n            ")
}

// unitSample is one sample, expected or got.
type unitSample struct {
	labels labels.Labels
	value  float64
	hist   string // its notation; then value does not count
}

func (s unitSample) String() string {
	if s.hist != "" {
		return s.labels.String() + " " + s.hist
	}
	return s.labels.String() + " " + strconv.FormatFloat(s.value, 'g', -1, 64)
}

// checkExpr compares what an expression gives.
func (u *unit) checkExpr(ctx context.Context, want unitExpr) {
	query := engine.EngineQueryFunc(u.engine, u.memory)
	vector, err := query(ctx, want.Expr, u.begin.Add(time.Duration(want.EvalTime)))
	if err != nil {
		u.fault("expression %s at %s: %s", want.Expr, want.EvalTime, err)
		return
	}
	var got, expected []unitSample
	for _, s := range vector {
		got = append(got, unitSample{s.Metric, s.F, histogramText(s.H)})
	}
	for _, e := range want.Expected {
		s := unitSample{value: e.Value}
		if s.labels, err = parser.ParseMetric(e.Labels); err == nil && e.Histogram != "" {
			s.hist, err = parseHistogram(e.Histogram)
		}
		if err != nil {
			u.fault("expression %s at %s: expected sample %q: %s", want.Expr, want.EvalTime, e.Labels, err)
			return
		}
		expected = append(expected, s)
	}
	for _, list := range [][]unitSample{got, expected} {
		slices.SortFunc(list, func(a, b unitSample) int { return labels.Compare(a.labels, b.labels) })
	}
	same := slices.EqualFunc(expected, got, func(a, b unitSample) bool {
		return labels.Equal(a.labels, b.labels) && a.hist == b.hist && (a.hist != "" || u.equal(a.value, b.value))
	})
	if !same {
		u.fault("expression %s at %s\n  expected: %s\n  got:      %s", want.Expr, want.EvalTime, samplesText(expected), samplesText(got))
	}
}

// equal allows the last bit to differ when the file says so: not all machines
// round alike.
func (u *unit) equal(a, b float64) bool {
	if a == b { // NaN equals nothing, as with promtool
		return true
	}
	return u.file.FuzzyCompare && (math.Nextafter(a, math.Inf(-1)) == b || math.Nextafter(a, math.Inf(1)) == b)
}

func samplesText(list []unitSample) string {
	var out []string
	for _, s := range list {
		out = append(out, s.String())
	}
	return listText(out)
}

// histogramText is a notation in which equal histograms are equal. Empty
// buckets at the ends, how spans are cut, and what a store notes about counter
// resets make no difference.
func histogramText(h *histogram.FloatHistogram) string {
	if h == nil {
		return ""
	}
	h = h.Copy().Compact(0)
	if h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return h.TestExpression()
}

func parseHistogram(text string) (string, error) {
	_, values, err := parser.ParseSeriesDesc("{} " + text)
	switch {
	case err != nil:
		return "", err
	case len(values) != 1 || values[0].Histogram == nil:
		return "", fmt.Errorf("%q is not one histogram", text)
	}
	return histogramText(values[0].Histogram), nil
}

package rules

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/template"

	"panoptes/internal/model"
)

// check judges everything of a group but its rules.
func (g Group) check(inv *model.Invalid) {
	if g.Name == "" || len(g.Name) > maxNameBytes || !utf8.ValidString(string(g.Name)) {
		inv.Add("name", "a group needs a name of up to %d bytes", maxNameBytes)
	}
	where := "group \"" + string(g.Name) + "\": "
	if d, err := duration(g.Interval); err != nil {
		inv.Add("interval", "%s%s", where, err)
	} else if v := time.Duration(d); v != 0 && (v < minInterval || v > maxInterval) {
		inv.Add("interval", "%smust lie between %s and %s", where, model.Duration(minInterval), model.Duration(maxInterval))
	}
	if g.QueryOffset != nil {
		if d, err := duration(*g.QueryOffset); err != nil {
			inv.Add("query_offset", "%s%s", where, err)
		} else if time.Duration(d) > maxOffset {
			inv.Add("query_offset", "%smust not be above %s", where, model.Duration(maxOffset))
		}
	}
	if g.Limit < 0 || g.Limit > maxGroupLimit {
		inv.Add("limit", "%smust lie between 0 and %d; 0 means none", where, maxGroupLimit)
	}
	checkTexts(inv, "labels", where, g.Labels, isLabel)
}

// check judges a rule: what Prometheus refuses, and what would fail at every
// evaluation.
func (r Rule) check(inv *model.Invalid) {
	switch {
	case r.Record != "" && r.Alert != "":
		inv.Add("alert", "a rule has either record or alert; remove one")
	case r.Record == "" && r.Alert == "":
		inv.Add("alert", "a rule needs the name of an alert, or of a series in record")
	}
	if len(r.Name()) > maxNameBytes || !utf8.ValidString(r.Name()) {
		inv.Add("alert", "the name must be valid UTF-8 of up to %d bytes", maxNameBytes)
	}
	r.checkExpr(inv)
	for field, text := range map[string]Text{"for": r.For, "keep_firing_for": r.KeepFiringFor} {
		if d, err := duration(text); err != nil {
			inv.Add(field, "%s", err)
		} else if time.Duration(d) > maxHold {
			inv.Add(field, "must not be above one year")
		} else if d != 0 && r.Record != "" {
			inv.Add(field, "is for alerts only; remove it from the recording rule")
		}
	}
	if r.Record != "" {
		if !pm.UTF8Validation.IsValidMetricName(string(r.Record)) || strings.ContainsAny(string(r.Record), "{}") {
			inv.Add("record", "%q is no name of a series; labels go into labels", string(r.Record))
		}
		if len(r.Annotations) > 0 {
			inv.Add("annotations", "are for alerts only; remove them from the recording rule")
		}
	}
	checkTexts(inv, "labels", "", r.Labels, isLabel)
	checkTexts(inv, "annotations", "", r.Annotations, pm.UTF8Validation.IsValidLabelName)
	if r.Alert != "" {
		r.checkTemplates(inv, "labels", r.Labels)
		r.checkTemplates(inv, "annotations", r.Annotations)
	}
	r.checkAsPrometheus(inv)
}

func (r Rule) checkExpr(inv *model.Invalid) {
	switch {
	case strings.TrimSpace(string(r.Expr)) == "":
		inv.Add("expr", "must be given, for example up == 0")
		return
	case len(r.Expr) > MaxExprBytes:
		inv.Add("expr", "has %d bytes; %d are allowed", len(r.Expr), MaxExprBytes)
		return
	}
	if err := tangled(string(r.Expr)); err != nil {
		inv.Add("expr", "%s", err)
		return
	}
	expr, err := parser.ParseExpr(string(r.Expr))
	if err != nil {
		inv.Add("expr", "is no PromQL: %s", err)
		return
	}
	if t := expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		inv.Add("expr", "gives a %s; a rule needs an instant vector or a number, for example rate(x[5m])", parser.DocumentedType(t))
	}
}

// tangled refuses an expression that takes long to parse: the time grows with
// the square of how deep it nests and of how many operators it has.
func tangled(text string) error {
	l := parser.Lex(text)
	var it parser.Item
	for operators, depth := 0, 0; ; {
		l.NextItem(&it)
		switch {
		case it.Typ == parser.EOF || it.Typ == parser.ERROR:
			return nil
		case it.Typ == parser.LEFT_PAREN:
			depth++
		case it.Typ == parser.RIGHT_PAREN:
			depth--
		case it.Typ.IsOperator():
			operators++
		}
		if depth > maxDepth || operators > maxOperators {
			return fmt.Errorf("nests more than %d levels deep or has more than %d operators; record parts of it", maxDepth, maxOperators)
		}
	}
}

// checkAsPrometheus catches what its own loader refuses and the checks above
// let pass, so that no stored record can ever fail to load.
func (r Rule) checkAsPrometheus(inv *model.Invalid) {
	if len(*inv) > 0 {
		return
	}
	e, err := r.engine()
	if err != nil {
		inv.Add("", "%s", err)
		return
	}
	for _, fault := range e.Validate(rulefmt.RuleNode{}, pm.UTF8Validation) {
		inv.Add("", "%s", fault.Unwrap())
	}
}

func isLabel(name string) bool {
	return pm.UTF8Validation.IsValidLabelName(name) && name != pm.MetricNameLabel
}

func checkTexts(inv *model.Invalid, field, where string, texts map[string]Text, valid func(string) bool) {
	if len(texts) > MaxEntries {
		inv.Add(field, "%shas %d entries; %d are allowed", where, len(texts), MaxEntries)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		switch v := string(texts[k]); {
		case !valid(k) || len(k) > maxNameBytes:
			inv.Add(field+"."+k, "%sis no name for it", where)
		case !utf8.ValidString(v) || len(v) > MaxTextBytes:
			inv.Add(field+"."+k, "%smust be valid UTF-8 of up to %d bytes", where, MaxTextBytes)
		}
	}
}

// templateHead gives templates the short names that Prometheus gives them.
const templateHead = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"

func (r Rule) checkTemplates(inv *model.Invalid, field string, texts map[string]Text) {
	data := template.AlertTemplateData(nil, nil, "", promql.Sample{})
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		text := string(texts[k])
		if !strings.Contains(text, "{{") {
			continue
		}
		// The name is what people see in the fault.
		t := template.NewTemplateExpander(context.Background(), templateHead+text, r.Name(), data, pm.Now(), nil, nil, nil)
		if err := t.ParseTest(); err != nil {
			inv.Add(field+"."+k, "is no template: %s", strings.TrimPrefix(err.Error(), "template: "))
		}
	}
}

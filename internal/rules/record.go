package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"

	"panoptes/internal/model"
)

// Record is the record "rules": groups in Prometheus' own format.
type Record struct {
	Name     string          `json:"name"`
	Groups   []Group         `json:"groups"`
	Disabled bool            `json:"disabled,omitempty"` // kept, not evaluated
	Labels   map[string]Text `json:"labels,omitempty"`   // added to what all its rules produce; groups and rules override
	// Matchers bind the record: its rules see only series with these labels, and
	// what they produce has them. See model.Bound.
	Matchers []string `json:"matchers,omitempty"`
}

// Group is a Prometheus rule group. Durations and expressions stay as they
// were written.
type Group struct {
	Name        Text            `json:"name"`
	Interval    Text            `json:"interval,omitempty"`
	QueryOffset *Text           `json:"query_offset,omitempty"`
	Limit       int             `json:"limit,omitempty"` // of the series or alerts of one rule; 0: only the server's own
	Labels      map[string]Text `json:"labels,omitempty"`
	Rules       []Rule          `json:"rules"`
}

// Rule is a recording or an alerting rule.
type Rule struct {
	Record        Text            `json:"record,omitempty"`
	Alert         Text            `json:"alert,omitempty"`
	Expr          Text            `json:"expr"`
	For           Text            `json:"for,omitempty"`
	KeepFiringFor Text            `json:"keep_firing_for,omitempty"`
	Labels        map[string]Text `json:"labels,omitempty"`
	Annotations   map[string]Text `json:"annotations,omitempty"`
}

// Name is the name of the alert or of the recorded series.
func (r Rule) Name() string {
	if r.Alert != "" {
		return string(r.Alert)
	}
	return string(r.Record)
}

// Text is a string that may be written as a number or as true or false, as in
// YAML: "expr: 1" and "tier: 2" are texts to Prometheus.
type Text string

// UnmarshalJSON takes any scalar.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if len(b) > 0 && (b[0] == '{' || b[0] == '[') {
		return model.Invalid{{Msg: "must be a text"}}
	}
	if string(b) != "null" {
		*t = Text(b)
	}
	return nil
}

// The limits of what people write.
const (
	MaxGroups     = 1000 // of one record, of all records, and of a server's files
	MaxRules      = 1000 // of one group
	MaxExprBytes  = 64 << 10
	MaxTextBytes  = 8 << 10 // of a label or annotation
	MaxEntries    = 64      // labels or annotations of a rule
	maxDepth      = 250     // levels of an expression
	maxOperators  = 1000
	maxNameBytes  = 256
	maxInterval   = 24 * time.Hour
	minInterval   = time.Second
	maxOffset     = time.Hour
	maxHold       = 366 * 24 * time.Hour
	maxGroupLimit = 1_000_000
)

// Normalize is the catalog's function for the kind: it decodes strictly,
// validates, and returns the canonical form. Its faults name the field, the
// group and the rule. The record before the change is not looked at.
func Normalize(spec, _ json.RawMessage) (json.RawMessage, error) {
	rec, err := ParseRecord(spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(rec)
}

// Fits refuses a record that adds groups when all records would have more than
// are evaluated. spec is the new one, valid; old what it was, empty when it is
// being created; all may have the old one as well.
func Fits(spec json.RawMessage, old model.Record, all []model.Record) error {
	mine, before := groupsOf(spec), groupsOf(old.Spec)
	if mine <= before {
		return nil
	}
	// A group has this field at least once: to count it is enough as long as
	// there is room, and hundreds of records that come together cost little.
	total := mine
	for _, rec := range all {
		total += bytes.Count(rec.Spec, []byte(`"rules"`))
	}
	if total <= MaxGroups {
		return nil
	}
	total = mine
	for _, rec := range all {
		if rec.ID != old.ID || old.ID == "" {
			total += groupsOf(rec.Spec)
		}
	}
	if total > MaxGroups {
		return model.Invalid{{Field: "groups", Msg: fmt.Sprintf("all records together would have %d groups; %d are allowed: put rules together, or disable records that nobody needs", total, MaxGroups)}}
	}
	return nil
}

// groupsOf counts the groups of a record that are to be evaluated.
func groupsOf(spec json.RawMessage) int {
	var raw RawRecord
	if json.Unmarshal(spec, &raw) != nil || raw.Disabled {
		return 0
	}
	return len(raw.Groups)
}

// RawRecord is a record whose groups are not decoded yet.
type RawRecord struct {
	Name     string            `json:"name"`
	Groups   []json.RawMessage `json:"groups"`
	Disabled bool              `json:"disabled"`
	Labels   map[string]Text   `json:"labels"`
	Matchers []string          `json:"matchers"`
}

// ParseRecord decodes and validates a spec.
func ParseRecord(spec json.RawMessage) (Record, error) {
	var rec Record
	var raw RawRecord
	if err := model.DecodeStrict(spec, &raw); err != nil {
		return rec, err
	}
	rec = Record{Name: raw.Name, Disabled: raw.Disabled, Labels: raw.Labels, Matchers: raw.Matchers}
	var inv model.Invalid
	inv.AddErr("", model.CheckName(rec.Name))
	checkTexts(&inv, "labels", "", rec.Labels, isLabel)
	var err error
	rec.Groups, err = parseGroups(raw.Groups)
	inv.AddErr("", err)
	rec.checkBound(&inv)
	return rec, inv.Err()
}

// ParseGroup decodes and validates one group.
func ParseGroup(spec json.RawMessage) (Group, error) {
	groups, err := parseGroups([]json.RawMessage{spec})
	if err != nil {
		return Group{}, err
	}
	return groups[0], nil
}

func parseGroups(raw []json.RawMessage) ([]Group, error) {
	var inv model.Invalid
	if len(raw) == 0 {
		inv.Add("groups", "must have at least one group")
	}
	if len(raw) > MaxGroups {
		return nil, model.Invalid{{Field: "groups", Msg: fmt.Sprintf("has %d groups; %d are allowed", len(raw), MaxGroups)}}
	}
	seen := map[Text]bool{}
	out := make([]Group, len(raw))
	for i, b := range raw {
		field := model.Index("groups", i)
		g, err := parseGroup(b)
		inv.AddErr(field, err)
		if g.Name != "" && seen[g.Name] {
			inv.Add(field+".name", "group %q is there already; names must differ", g.Name)
		}
		seen[g.Name] = true
		out[i] = g
	}
	return out, inv.Err()
}

func parseGroup(b json.RawMessage) (Group, error) {
	type plain Group
	var raw struct {
		plain
		Rules []json.RawMessage `json:"rules"`
	}
	if err := model.DecodeStrict(b, &raw); err != nil {
		return Group{}, err
	}
	g := Group(raw.plain)
	var inv model.Invalid
	g.check(&inv)
	if len(raw.Rules) > MaxRules {
		inv.Add("rules", "group %q has %d rules; %d are allowed", g.Name, len(raw.Rules), MaxRules)
		return g, inv
	}
	g.Rules = make([]Rule, len(raw.Rules))
	for i, b := range raw.Rules {
		field, r := model.Index("rules", i), &g.Rules[i]
		if err := model.DecodeStrict(b, r); err != nil {
			inv.AddErr(field, named(err, g, i, *r))
			continue
		}
		var own model.Invalid
		r.check(&own)
		inv.AddErr(field, named(own.Err(), g, i, *r))
	}
	return g, inv.Err()
}

// named puts the group and the rule in front of each fault: a path of numbers
// alone is hard to find in a long file.
func named(err error, g Group, i int, r Rule) error {
	if err == nil {
		return nil
	}
	var inv, out model.Invalid
	if !errors.As(err, &inv) {
		inv.AddErr("", err)
	}
	for _, f := range inv {
		out.Add(f.Field, "group %q, rule %d %q: %s", g.Name, i+1, r.Name(), f.Msg)
	}
	return out
}

// engine is the group as the engine takes it. The group is valid.
func (g Group) engine(extra map[string]Text) (rulefmt.RuleGroup, error) {
	out := rulefmt.RuleGroup{Name: string(g.Name), Limit: g.Limit, Labels: plainTexts(extra, g.Labels)}
	var err error
	if out.Interval, err = duration(g.Interval); err != nil {
		return out, fmt.Errorf("interval of group %s: %w", g.Name, err)
	}
	if g.QueryOffset != nil {
		d, err := duration(*g.QueryOffset)
		if err != nil {
			return out, fmt.Errorf("query_offset of group %s: %w", g.Name, err)
		}
		out.QueryOffset = &d
	}
	for _, r := range g.Rules {
		e, err := r.engine()
		if err != nil {
			return out, fmt.Errorf("group %s: rule %s: %w", g.Name, r.Name(), err)
		}
		out.Rules = append(out.Rules, e)
	}
	return out, nil
}

func (r Rule) engine() (rulefmt.Rule, error) {
	hold, err := duration(r.For)
	if err != nil {
		return rulefmt.Rule{}, fmt.Errorf("for: %w", err)
	}
	keep, err := duration(r.KeepFiringFor)
	if err != nil {
		return rulefmt.Rule{}, fmt.Errorf("keep_firing_for: %w", err)
	}
	return rulefmt.Rule{
		Record: string(r.Record), Alert: string(r.Alert), Expr: string(r.Expr), For: hold, KeepFiringFor: keep,
		Labels: plainTexts(r.Labels), Annotations: plainTexts(r.Annotations),
	}, nil
}

func duration(t Text) (pm.Duration, error) {
	if t == "" {
		return 0, nil
	}
	d, err := pm.ParseDuration(string(t))
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write for example 30s, 5m or 1h30m", string(t))
	}
	return d, nil
}

// plainTexts merges maps; the later ones win.
func plainTexts(maps ...map[string]Text) map[string]string {
	var out map[string]string
	for _, m := range maps {
		for k, v := range m {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = string(v)
		}
	}
	return out
}

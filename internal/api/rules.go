package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Rules knows what rules do on all servers, and what they would have done.
type Rules interface {
	// Groups returns the groups that are evaluated, and the sources that did not
	// load, which have the state broken and no rules.
	Groups(ctx context.Context) ([]RuleGroup, error)
	// Try evaluates groups, as records have them, over a stretch of the past.
	Try(ctx context.Context, t Try) ([]Trial, error)
}

// Try is what is to be tried. Matchers bind it as they bind a record.
type Try struct {
	Groups   []json.RawMessage
	Matchers []string
	From, To time.Time
}

// RuleGroup is a group with its state.
type RuleGroup struct {
	Name        string          `json:"name"`
	Source      string          `json:"source"`           // the name of the record, or the path of the file
	File        bool            `json:"file,omitempty"`   // source is a file on the server
	Node        string          `json:"node,omitempty"`   // id of the server that evaluates it
	Server      string          `json:"server,omitempty"` // its name
	State       string          `json:"state"`            // firing, pending, inactive, broken: the worst of its rules
	Error       string          `json:"error,omitempty"`  // of the first rule that fails, or of the source
	Counts      map[string]int  `json:"counts,omitempty"` // rules by state; a broken one that fires counts as both
	Alerts      int             `json:"alerts"`           // pending or firing
	Interval    model.Duration  `json:"interval"`
	QueryOffset model.Duration  `json:"query_offset,omitempty"`
	Limit       int             `json:"limit,omitempty"`
	Evaluated   time.Time       `json:"evaluated,omitzero"` // last; absent: not yet
	Took        float64         `json:"took_seconds"`
	Rules       []RuleWithState `json:"rules"`
}

// RuleWithState is one rule of a group.
type RuleWithState struct {
	Type          string            `json:"type"` // alerting, recording
	Name          string            `json:"name"`
	Expr          string            `json:"expr"`
	State         string            `json:"state,omitempty"` // of alerting rules: inactive, pending, firing, unknown
	For           model.Duration    `json:"for,omitempty"`
	KeepFiringFor model.Duration    `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Alerts        []RuleAlert       `json:"alerts,omitempty"`
	Health        string            `json:"health"` // ok, err, unknown
	Error         string            `json:"error,omitempty"`
	Evaluated     time.Time         `json:"evaluated,omitzero"`
	Took          float64           `json:"took_seconds"`
}

// RuleAlert is a pending or firing alert of a rule.
type RuleAlert struct {
	State           string            `json:"state"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	ActiveAt        time.Time         `json:"active_at"`
	KeepFiringSince time.Time         `json:"keep_firing_since,omitzero"`
	Value           string            `json:"value"` // as text: it may be NaN
}

// Trial says what a group would have done.
type Trial struct {
	Name        string         `json:"name"`
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
	Firings  []Firing `json:"firings"`
	Pendings int      `json:"pendings"`         // alerts that ended before they fired
	Errors   int      `json:"errors,omitempty"` // evaluations that would have failed
	Error    string   `json:"error,omitempty"`  // the first
}

// Firing is one alert that would have fired.
type Firing struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Value       string            `json:"value"`     // when it began to fire
	ActiveAt    time.Time         `json:"active_at"` // when its condition was first met
	FiredAt     time.Time         `json:"fired_at"`
	Earlier     bool              `json:"earlier,omitempty"`    // it fired at the beginning of the time already
	ResolvedAt  time.Time         `json:"resolved_at,omitzero"` // absent: it would still fire at the end
}

type tryBody struct {
	Group    json.RawMessage   `json:"group,omitempty"`
	Groups   []json.RawMessage `json:"groups,omitempty"`
	Matchers []string          `json:"matchers,omitempty"`
	Range    string            `json:"range,omitempty"` // 7d when left out
	From     time.Time         `json:"from,omitzero"`
	To       time.Time         `json:"to,omitzero"` // now when left out
}

// tryAnswer is that of several groups; of one it is a Trial.
type tryAnswer struct {
	Groups []Trial `json:"groups"`
}

// maxTryGroups bounds how many groups are tried in one request.
const maxTryGroups = 20

// tryRules answers POST /v1/rules/try.
func (a *API) tryRules(r *http.Request) (any, error) {
	if a.deps.Rules == nil {
		return nil, missing("rules")
	}
	var b tryBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	t := Try{Groups: b.Groups, Matchers: b.Matchers, From: b.From, To: b.To}
	if b.To.IsZero() {
		t.To = time.Now()
	}
	var inv model.Invalid
	single := len(b.Group) > 0 && string(b.Group) != "null"
	switch {
	case single && len(b.Groups) > 0:
		inv.Add("groups", "is there beside group; send one of them")
	case single:
		t.Groups = []json.RawMessage{b.Group}
	case len(b.Groups) == 0:
		inv.Add("group", `must be given: one rule group, for example {"name":"g","rules":[{"alert":"Down","expr":"up == 0"}]}`)
	case len(b.Groups) > maxTryGroups:
		inv.Add("groups", "has %d groups; %d can be tried at once", len(b.Groups), maxTryGroups)
	}
	switch {
	case b.Range != "" && !b.From.IsZero():
		inv.Add("range", "is there beside from; send one of them")
	case b.From.IsZero():
		d, err := model.ParseDuration(cmp.Or(b.Range, "7d"))
		if err != nil {
			inv.Add("range", "%s", err)
		}
		t.From = t.To.Add(-d.D())
	}
	matchers, err := withBound(boundTo(r), t.Matchers)
	inv.AddErr("", err)
	t.Matchers = matchers
	if err := inv.Err(); err != nil {
		return nil, err
	}
	list, err := a.deps.Rules.Try(r.Context(), t)
	if err != nil {
		return nil, tryField(err, single)
	}
	if single && len(list) == 1 {
		return list[0], nil
	}
	return tryAnswer{list}, nil
}

// tryField names the fields as they were sent.
func tryField(err error, single bool) error {
	inv, ok := err.(model.Invalid)
	if !ok || !single {
		return err
	}
	var out model.Invalid
	for _, f := range inv {
		if rest, ok := strings.CutPrefix(f.Field, "groups[0]"); ok {
			out.Add("group"+rest, "%s", f.Msg)
		} else {
			out.Add(f.Field, "%s", f.Msg)
		}
	}
	return out
}

type ruleGroupsAnswer struct {
	Items  []RuleGroup    `json:"items"`
	Next   string         `json:"next"`
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"` // by state, of all that match q; a group with a broken and a firing rule counts as both
}

// is reports whether a group has a rule in a state; inactive is one that has no
// rule in another state.
func (g RuleGroup) is(state string) bool {
	return g.State == state || state != "inactive" && g.Counts[state] > 0
}

var groupStates = []string{"firing", "pending", "inactive", "broken"}

// ruleGroups answers GET /v1/rule-groups.
func (a *API) ruleGroups(r *http.Request) (any, error) {
	if a.deps.Rules == nil {
		return nil, missing("rules")
	}
	w, err := parseWindow(r, "name")
	if err != nil {
		return nil, err
	}
	q, err := parseQuery(r.URL.Query().Get("q"))
	if err != nil {
		return nil, err
	}
	states, err := oneOf(r, "state", groupStates)
	if err != nil {
		return nil, err
	}
	source := r.URL.Query().Get("source")
	all, err := a.deps.Rules.Groups(r.Context())
	if err != nil {
		return nil, err
	}
	out := ruleGroupsAnswer{Items: []RuleGroup{}, Counts: map[string]int{}}
	for _, s := range groupStates {
		out.Counts[s] = 0
	}
	var hits []RuleGroup
	for _, g := range all {
		if !boundTo(r).IsEmpty() && (g.File || !a.seesRecord(who(r), model.KindRules, g.Source)) {
			continue
		}
		if source != "" && g.Source != source || !q.matches(groupText(g)) {
			continue
		}
		hit := len(states) == 0
		for _, s := range groupStates {
			if g.is(s) {
				out.Counts[s]++
				hit = hit || slices.Contains(states, s)
			}
		}
		if hit {
			hits = append(hits, g)
		}
	}
	out.Total = len(hits)
	part, next := cut(hits, w, func(g RuleGroup) place {
		return place{Sort: w.sort, Text: strings.ToLower(g.Source), ID: g.Source + "/" + g.Name}
	})
	out.Items, out.Next = append(out.Items, part...), next
	return out, nil
}

// groupText is what q looks at in a group.
func groupText(g RuleGroup) searchable {
	s := searchable{"name": strings.ToLower(g.Name), "source": strings.ToLower(g.Source), "server": strings.ToLower(g.Server)}
	var names, exprs strings.Builder
	for _, r := range g.Rules {
		names.WriteString(strings.ToLower(r.Name) + "\n")
		exprs.WriteString(strings.ToLower(r.Expr) + "\n")
	}
	s["rule"], s["expr"] = names.String(), exprs.String()
	return s
}

// oneOf reads a list of words of the query.
func oneOf(r *http.Request, name string, known []string) ([]string, error) {
	list := commas(r.URL.Query().Get(name))
	for _, v := range list {
		if !slices.Contains(known, v) {
			return nil, invalid(name, "%q is none of %s", v, strings.Join(known, ", "))
		}
	}
	return list, nil
}

package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/model"
)

// checkBody and receiverBody stand for the flat form with a block named after
// the type, in the document.
type checkBody struct{ model.Check }
type receiverBody struct{ model.Receiver }

var checkParams = []param{
	{"status", "states, with commas"}, {"type", "types, with commas"}, {"region", "a region that probes the check"},
	{"label", "a label as name:value; may be repeated"}, {"bars", "number of parts of the past to add, up to 120"},
	{"range", "how far back the parts go, 24h when left out"},
}

// checkCache keeps decoded checks: a list of 10,000 is not decoded each time.
type checkCache struct {
	mu   sync.Mutex
	byID map[string]*decoded // guarded by mu
}

// decoded is a check as lists need it. It is not changed once made.
type decoded struct {
	rec   model.Record
	check model.Check
	text  searchable
}

// checkEntry is a check and its state now.
type checkEntry struct {
	*decoded
	state model.CheckState
}

// all returns the checks with their states.
func (c *checkCache) all(records []model.Record, states map[string]model.CheckState) []checkEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil || len(c.byID) > 2*len(records)+100 {
		c.byID = make(map[string]*decoded, len(records))
	}
	out := make([]checkEntry, 0, len(records))
	for _, rec := range records {
		d := c.byID[rec.ID]
		if d == nil || d.rec.Revision != rec.Revision {
			d = &decoded{rec: rec}
			if err := json.Unmarshal(rec.Spec, &d.check); err != nil {
				d.check = model.Check{Name: rec.Name} // shown all the same
			}
			d.check.ID = rec.ID
			d.text = checkText(d.check)
			c.byID[rec.ID] = d
		}
		out = append(out, checkEntry{d, stateIn(states, rec)})
	}
	return out
}

// stateIn is the state of a check; one that was made a moment ago is pending.
func stateIn(states map[string]model.CheckState, rec model.Record) model.CheckState {
	st, ok := states[rec.ID]
	if !ok {
		st = model.CheckState{Status: model.StatusPending, Since: rec.Created, Message: "no result yet", Code: "check.pending"}
	}
	if st.Regions == nil {
		st.Regions = map[string]model.RegionState{}
	}
	return st
}

func checkText(c model.Check) searchable {
	s := searchable{
		"name": c.Name, "type": c.Type, "target": c.Target, "description": c.Description,
		"region": strings.Join(c.Regions, " "), "severity": c.Severity, "parent": c.Parent, "id": c.ID,
	}
	for k, v := range c.Labels {
		s[strings.ToLower(k)] = v
	}
	for k, v := range s {
		s[k] = strings.ToLower(v)
	}
	s[anywhere] = strings.Join(slices.Collect(maps.Values(s)), "\n")
	return s
}

func (a *API) states() map[string]model.CheckState {
	if a.deps.Checks == nil {
		return nil
	}
	return a.deps.Checks.States()
}

type withState struct {
	State  model.CheckState    `json:"state"`
	Bars   []Bar               `json:"bars,omitempty"`
	Uptime map[string]*float64 `json:"uptime,omitempty"`
}

// stateOf is what answers add to a record: the state of a check, else nothing.
func (a *API) stateOf(rec model.Record) any {
	if rec.Kind != model.KindCheck {
		return nil
	}
	return withState{State: stateIn(a.states(), rec)}
}

func (a *API) getCheck(r *http.Request) (any, error) {
	rec, err := a.deps.Catalog.Get(model.KindCheck, r.PathValue("id"))
	if err == nil {
		err = sees(r, rec)
	}
	if err != nil {
		return nil, err
	}
	return a.withRecord(rec, a.stateOf(rec))
}

// filter is which checks a list is to show, the status apart: the counts are
// of all states.
type filter struct {
	q      query
	types  []string
	region string
	labels map[string]string
}

func parseFilter(r *http.Request) (f filter, statuses []string, err error) {
	v := r.URL.Query()
	if f.q, err = parseQuery(v.Get("q")); err != nil {
		return f, nil, err
	}
	f.types, statuses, f.region = commas(v.Get("type")), commas(v.Get("status")), v.Get("region")
	for _, s := range statuses {
		if model.Status(s).Code() < 0 {
			return f, nil, invalid("status", "%q is no state; the states are pending, up, down, degraded, unknown, maintenance and paused", s)
		}
	}
	f.labels = map[string]string{}
	for _, l := range v["label"] {
		name, value, ok := strings.Cut(l, ":")
		if !ok || name == "" {
			return f, nil, invalid("label", "must be written name:value")
		}
		f.labels[name] = value
	}
	return f, statuses, nil
}

func commas(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func (f filter) matches(e checkEntry) bool {
	if len(f.types) > 0 && !slices.Contains(f.types, e.check.Type) {
		return false
	}
	if f.region != "" {
		_, votes := e.state.Regions[f.region]
		if !votes && !slices.Contains(e.check.Regions, f.region) && !slices.Contains(e.check.Regions, "*") {
			return false
		}
	}
	for k, v := range f.labels {
		if e.check.Labels[k] != v {
			return false
		}
	}
	if len(f.q) == 0 {
		return true
	}
	text := e.text
	for _, t := range f.q {
		if t.field == "status" || t.field == "message" {
			text = make(searchable, len(e.text)+2)
			for k, v := range e.text {
				text[k] = v
			}
			text["status"], text["message"] = string(e.state.Status), strings.ToLower(e.state.Message)
			break
		}
	}
	return f.q.matches(text)
}

// statusRank sorts by how much a state wants to be looked at.
var statusRank = map[model.Status]float64{
	model.StatusDown: 0, model.StatusDegraded: 1, model.StatusUnknown: 2, model.StatusPending: 3,
	model.StatusMaintenance: 4, model.StatusPaused: 5, model.StatusUp: 6,
}

func checkPlace(e checkEntry, sort string) place {
	p := place{Sort: sort, Text: e.rec.Name, ID: e.rec.ID}
	switch strings.TrimPrefix(sort, "-") {
	case "status":
		p.Num = statusRank[e.state.Status]
	case "since":
		p.Num = float64(e.state.Since.UnixMilli())
	case "duration":
		for _, rs := range e.state.Regions {
			p.Num = max(p.Num, rs.Duration)
		}
	}
	return p
}

func (a *API) listChecks(r *http.Request) (any, error) {
	w, err := parseWindow(r, "name", "status", "since", "duration")
	if err != nil {
		return nil, err
	}
	f, statuses, err := parseFilter(r)
	if err != nil {
		return nil, err
	}
	bars, err := intParam(r, "bars", 0, 0, 120)
	if err != nil {
		return nil, err
	}
	span, spanText, err := rangeParam(r)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	var hits []checkEntry
	for _, e := range a.checks.all(a.deps.Catalog.List(model.KindCheck), a.states()) {
		if !who(r).Sees(e.check.Labels) || !f.matches(e) {
			continue
		}
		counts[string(e.state.Status)]++
		if len(statuses) == 0 || slices.Contains(statuses, string(e.state.Status)) {
			hits = append(hits, e)
		}
	}
	part, next := cut(hits, w, func(e checkEntry) place { return checkPlace(e, w.sort) })
	out := page{Items: []json.RawMessage{}, Next: next, Total: len(hits), Counts: counts}
	now := time.Now().UTC()
	for _, e := range part {
		more := withState{State: e.state}
		if bars > 0 && a.deps.Checks != nil {
			list, uptime, err := a.deps.Checks.Bars(r.Context(), e.rec.ID, now.Add(-span), now, bars)
			if err != nil {
				return nil, err
			}
			for _, b := range list {
				more.Bars = append(more.Bars, Bar{Status: b.Status, Down: b.Down})
			}
			more.Uptime = map[string]*float64{spanText: uptime}
		}
		b, err := a.flat(e.rec, more)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, b)
	}
	return out, nil
}

const maxRange = 400 * 24 * time.Hour

// rangeParam reads how far back to look.
func rangeParam(r *http.Request) (time.Duration, string, error) {
	s := r.URL.Query().Get("range")
	if s == "" {
		s = "24h"
	}
	d, err := model.ParseDuration(s)
	if err != nil || d.D() < time.Minute || d.D() > maxRange {
		return 0, "", invalid("range", "must be a duration from 1m to 400d, for example 24h or 30d")
	}
	return d.D(), s, nil
}

type barsAnswer struct {
	Bars []Bar `json:"bars"`
}

// checkOf finds the check that the path names.
func (a *API) checkOf(r *http.Request) (string, error) {
	rec, err := a.deps.Catalog.Get(model.KindCheck, r.PathValue("id"))
	if err == nil {
		err = sees(r, rec)
	}
	if err != nil {
		return "", err
	}
	if a.deps.Checks == nil {
		return "", missing("checks")
	}
	return rec.ID, nil
}

func (a *API) bars(r *http.Request) (any, error) {
	id, err := a.checkOf(r)
	if err != nil {
		return nil, err
	}
	span, _, err := rangeParam(r)
	if err != nil {
		return nil, err
	}
	n, err := intParam(r, "n", 60, 1, 1000)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	bars, _, err := a.deps.Checks.Bars(r.Context(), id, now.Add(-span), now, n)
	if err != nil {
		return nil, err
	}
	if bars == nil {
		bars = []Bar{}
	}
	return barsAnswer{bars}, nil
}

func (a *API) uptime(r *http.Request) (any, error) {
	id, err := a.checkOf(r)
	if err != nil {
		return nil, err
	}
	return a.deps.Checks.Uptime(r.Context(), id)
}

func (a *API) checkTypes(*http.Request) (any, error) {
	if a.deps.Checks == nil {
		return nil, missing("checks")
	}
	return a.deps.Checks.Types(), nil
}

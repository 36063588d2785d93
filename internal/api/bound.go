package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// boundTo returns the labels that the sender is bound to.
func boundTo(r *http.Request) labels.Labels {
	if id := who(r); id != nil {
		return id.Bound
	}
	return labels.EmptyLabels()
}

// boundMatchers are the same as matchers.
func boundMatchers(l labels.Labels) []*labels.Matcher {
	var out []*labels.Matcher
	l.Range(func(b labels.Label) { out = append(out, labels.MustNewMatcher(labels.MatchEqual, b.Name, b.Value)) })
	return out
}

// sees reports whether a record is open to the sender. One that is not is not
// found, so that names do not leak.
func sees(r *http.Request, rec model.Record) error {
	if !labelled(who(r), rec) {
		return model.ErrNotFound
	}
	return nil
}

// labelled reports whether a record has the labels that id is bound to.
func labelled(id *model.Identity, rec model.Record) bool {
	if id != nil && id.Bound.IsEmpty() {
		return true
	}
	var spec struct {
		Labels   map[string]string `json:"labels"`
		Matchers []string          `json:"matchers"`
	}
	if json.Unmarshal(rec.Spec, &spec) != nil {
		return false
	}
	if rec.Kind == model.KindRules {
		// Rules may put their labels on whatever they select; only their
		// matchers keep them to it.
		bound, err := model.Bound(spec.Matchers)
		return err == nil && id.Sees(bound.Map())
	}
	return id.Sees(spec.Labels)
}

// open reports whether records of a kind are open to those who are bound.
func open(kind string) bool { return kind == model.KindCheck || kind == model.KindRules }

// unbound is for messages that are nothing to those who are bound to labels.
func unbound(id *model.Identity) bool { return id.Bound.IsEmpty() }

// reaches looks whether the sender may change the record that a request names.
func (a *API) reaches(r *http.Request, kind string) error {
	if boundTo(r).IsEmpty() {
		return nil
	}
	rec, err := a.deps.Catalog.Get(kind, r.PathValue("id"))
	if err != nil {
		return err
	}
	return sees(r, rec)
}

// bind puts the labels that the sender is bound to into a spec.
func (a *API) bind(r *http.Request, kind string, spec json.RawMessage, patch bool) (json.RawMessage, error) {
	bound := boundTo(r)
	if bound.IsEmpty() {
		return spec, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(spec, &fields); err != nil {
		return nil, model.DecodeError(err)
	}
	for f := range fields {
		// What decodes the record takes these for the same field, and the last one.
		for _, name := range []string{"labels", "matchers", "parent", "groups"} {
			if f != name && strings.EqualFold(f, name) {
				return nil, invalid(f, "must be written %s", name)
			}
		}
	}
	if kind == model.KindRules {
		if err := a.shareOfRules(r, fields["groups"]); err != nil {
			return nil, err
		}
		return bindRules(bound, fields, patch)
	}
	if err := a.bindParent(r, fields["parent"]); err != nil {
		return nil, err
	}
	given, ok := fields["labels"]
	if patch && !ok {
		return spec, nil
	}
	set := map[string]any{} // null removes a label in a patch
	if ok {
		if err := json.Unmarshal(given, &set); err != nil {
			return nil, invalid("labels", "must be an object of texts")
		}
		if set == nil {
			set = map[string]any{}
		}
	}
	var inv model.Invalid
	bound.Range(func(b labels.Label) {
		if v, ok := set[b.Name]; ok && v != b.Value {
			inv.Add("labels."+b.Name, "must be %q, which you are bound to", b.Value)
		}
		set[b.Name] = b.Value
	})
	if err := inv.Err(); err != nil {
		return nil, err
	}
	var err error
	if fields["labels"], err = json.Marshal(set); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// bindParent keeps a check from hanging on one that the sender may not see: it
// would tell whether that is down, and keep others from deleting it.
func (a *API) bindParent(r *http.Request, parent json.RawMessage) error {
	var name string
	if len(parent) == 0 || json.Unmarshal(parent, &name) != nil || name == "" {
		return nil // the record's own decoder says what is wrong
	}
	rec, err := a.deps.Catalog.Get(model.KindCheck, name)
	if err != nil || !labelled(who(r), rec) {
		return invalid("parent", "there is no check %q; create it first", name)
	}
	return nil
}

// maxBoundGroups is how many groups of rules those may have together who are
// bound to the same labels: a quarter of all that are evaluated.
const maxBoundGroups = 250

// shareOfRules refuses groups of rules that would take the place of others'.
func (a *API) shareOfRules(r *http.Request, groups json.RawMessage) error {
	count := func(groups json.RawMessage) int {
		var list []json.RawMessage
		_ = json.Unmarshal(groups, &list) // what is no list is refused by what decodes the record
		return len(list)
	}
	given, old, others := count(groups), 0, 0
	id := r.PathValue("id")
	for _, rec := range a.deps.Catalog.List(model.KindRules) {
		if !labelled(who(r), rec) {
			continue
		}
		var spec struct {
			Groups json.RawMessage `json:"groups"`
		}
		_ = json.Unmarshal(rec.Spec, &spec) // it is in the catalog
		if id != "" && (rec.ID == id || rec.Name == id) {
			old = count(spec.Groups)
		} else {
			others += count(spec.Groups)
		}
	}
	if given > old && given+others > maxBoundGroups {
		return invalid("groups", "there would be %d groups of rules with the labels that you are bound to; %d are allowed: put rules together, or remove some", given+others, maxBoundGroups)
	}
	return nil
}

// bindRules puts the labels among the matchers of a record of rules.
func bindRules(bound labels.Labels, fields map[string]json.RawMessage, patch bool) (json.RawMessage, error) {
	given, ok := fields["matchers"]
	var list []string
	if ok {
		if err := json.Unmarshal(given, &list); err != nil {
			return nil, invalid("matchers", "must be a list of texts")
		}
	}
	if !patch || ok {
		list, err := withBound(bound, list)
		if err != nil {
			return nil, err
		}
		if fields["matchers"], err = json.Marshal(list); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// withBound adds bound to matchers that are given as texts.
func withBound(bound labels.Labels, list []string) ([]string, error) {
	has, err := model.Bound(list)
	if err != nil {
		return nil, err
	}
	var inv model.Invalid
	bound.Range(func(b labels.Label) {
		switch has.Get(b.Name) {
		case b.Value:
		case "":
			list = append(list, b.Name+"="+strconv.Quote(b.Value))
		default:
			inv.Add("matchers", "%s must be %q, which you are bound to", b.Name, b.Value)
		}
	})
	return list, inv.Err()
}

// bindMatchers adds to the matchers of a silence those that keep it to what the
// sender may see.
func bindMatchers(r *http.Request, field string, given []*labels.Matcher) ([]*labels.Matcher, error) {
	var inv model.Invalid
	out := given
	for _, b := range boundMatchers(boundTo(r)) {
		there := false
		for i, m := range given {
			if m.Name != b.Name {
				continue
			}
			if m.Type != labels.MatchEqual || m.Value != b.Value {
				inv.Add(model.Index(field, i), "must be %s, which you are bound to", b)
			}
			there = true
		}
		if !there {
			out = append(out, b)
		}
	}
	return out, inv.Err()
}

// within reports whether matchers let nothing through but what the sender may see.
func within(id *model.Identity, matchers []amMatcher) bool {
	equal := map[string]string{}
	for _, m := range matchers {
		if !m.IsRegex && (m.IsEqual == nil || *m.IsEqual) {
			equal[m.Name] = m.Value
		}
	}
	return id.Sees(equal)
}

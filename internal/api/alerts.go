package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

type alert struct {
	Fingerprint string            `json:"fingerprint"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"starts_at"`
	EndsAt      time.Time         `json:"ends_at"`
	Status      string            `json:"status"` // active, suppressed
	SilencedBy  []string          `json:"silenced_by"`
	InhibitedBy []string          `json:"inhibited_by"`
	Receivers   []string          `json:"receivers"`
}

type alertsAnswer struct {
	Items []alert `json:"items"`
	Total int     `json:"total"`
}

type silence struct {
	ID        string    `json:"id"`
	Matchers  []string  `json:"matchers"`
	StartsAt  time.Time `json:"starts_at"`
	EndsAt    time.Time `json:"ends_at"`
	CreatedBy string    `json:"created_by"`
	Comment   string    `json:"comment"`
	Status    string    `json:"status"` // active, pending, expired
}

type silenceBody struct {
	ID        string    `json:"id,omitempty"` // of a silence that this one replaces
	Matchers  []string  `json:"matchers"`
	StartsAt  time.Time `json:"starts_at,omitzero"` // now when left out
	EndsAt    time.Time `json:"ends_at"`
	CreatedBy string    `json:"created_by,omitempty"` // ignored: it is who asks
	Comment   string    `json:"comment,omitempty"`
	Status    string    `json:"status,omitempty"` // ignored
}

type silencesAnswer struct {
	Items []silence `json:"items"`
	Total int       `json:"total"`
}

type previewBody struct {
	Matchers []string `json:"matchers"`
}

type previewAnswer struct {
	Alerts []alert `json:"alerts"`
}

const maxMatchers = 64

// alertList returns all alerts, newest first.
func (a *API) alertList(ctx context.Context) ([]alert, error) {
	var list []amAlert
	if err := a.callAlertmanager(ctx, http.MethodGet, "/api/v2/alerts", nil, &list); err != nil {
		return nil, err
	}
	out := make([]alert, 0, len(list))
	for _, al := range list {
		v := alert{
			Fingerprint: al.Fingerprint, Labels: orEmpty(al.Labels), Annotations: orEmpty(al.Annotations), StartsAt: al.StartsAt.UTC(), EndsAt: al.EndsAt.UTC(),
			Status: al.Status.State, SilencedBy: al.Status.SilencedBy, InhibitedBy: al.Status.InhibitedBy, Receivers: []string{},
		}
		if v.Status == "unprocessed" {
			v.Status = "active" // it has just come and nothing mutes it yet
		}
		if v.SilencedBy == nil {
			v.SilencedBy = []string{}
		}
		if v.InhibitedBy == nil {
			v.InhibitedBy = []string{}
		}
		for _, rc := range al.Receivers {
			v.Receivers = append(v.Receivers, rc.Name)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(x, y alert) int {
		return cmp.Or(y.StartsAt.Compare(x.StartsAt), strings.Compare(x.Fingerprint, y.Fingerprint))
	})
	return out, nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (a *API) alerts(r *http.Request) (any, error) {
	matchers, err := parseMatchers("q", r.URL.Query()["q"])
	if err != nil {
		return nil, err
	}
	list, err := a.matching(r, matchers)
	if err != nil {
		return nil, err
	}
	return alertsAnswer{list, len(list)}, nil
}

// matching returns the alerts that all matchers match, of those that the sender may see.
func (a *API) matching(r *http.Request, matchers []*labels.Matcher) ([]alert, error) {
	list, err := a.alertList(r.Context())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(al alert) bool {
		if !who(r).Sees(al.Labels) {
			return true
		}
		for _, m := range matchers {
			if !m.Matches(al.Labels[m.Name]) {
				return true
			}
		}
		return false
	}), nil
}

// parseMatchers reads matchers; field names them in errors.
func parseMatchers(field string, texts []string) ([]*labels.Matcher, error) {
	if len(texts) > maxMatchers {
		return nil, invalid(field, "has more than %d matchers", maxMatchers)
	}
	var inv model.Invalid
	var out []*labels.Matcher
	for i, s := range texts {
		if strings.TrimSpace(s) == "" {
			continue
		}
		m, err := parseMatcher(s)
		inv.AddErr(model.Index(field, i), err)
		out = append(out, m)
	}
	return out, inv.Err()
}

var matchTypes = []struct {
	op string
	t  labels.MatchType
}{{"=~", labels.MatchRegexp}, {"!~", labels.MatchNotRegexp}, {"!=", labels.MatchNotEqual}, {"=", labels.MatchEqual}}

// parseMatcher reads `name="value"`, with =, !=, =~ or !~ and the quotes left
// out for a plain value; `-name=value` is `name!=value`.
func parseMatcher(s string) (*labels.Matcher, error) {
	s = strings.TrimSpace(s)
	if len(s) > 2048 {
		return nil, fmt.Errorf("is longer than 2048 bytes")
	}
	i := strings.IndexAny(s, "=!")
	if i <= 0 {
		return nil, fmt.Errorf("must be a matcher like severity=\"critical\" or team=~\"web|db\"")
	}
	name, rest := strings.TrimSpace(s[:i]), s[i:]
	negated := strings.HasPrefix(name, "-")
	name = strings.TrimPrefix(name, "-")
	if !pm.UTF8Validation.IsValidLabelName(name) {
		return nil, fmt.Errorf("%q is no name of a label", name)
	}
	for _, mt := range matchTypes {
		value, ok := strings.CutPrefix(rest, mt.op)
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if strings.HasPrefix(value, `"`) {
			v, err := strconv.Unquote(value)
			if err != nil {
				return nil, fmt.Errorf("the value %s is not quoted rightly", value)
			}
			value = v
		}
		t := mt.t
		if negated {
			switch t {
			case labels.MatchEqual:
				t = labels.MatchNotEqual
			case labels.MatchRegexp:
				t = labels.MatchNotRegexp
			default:
				return nil, fmt.Errorf("is negated twice")
			}
		}
		m, err := labels.NewMatcher(t, name, value)
		if err != nil {
			return nil, fmt.Errorf("the regular expression is wrong: %w", err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("needs one of =, !=, =~, !~ after the name")
}

func (a *API) silences(r *http.Request) (any, error) {
	var list []amSilence
	if err := a.callAlertmanager(r.Context(), http.MethodGet, "/api/v2/silences", nil, &list); err != nil {
		return nil, err
	}
	out := silencesAnswer{Items: []silence{}}
	for _, s := range list {
		if !within(who(r), s.Matchers) {
			continue
		}
		v := silence{ID: s.ID, StartsAt: s.StartsAt.UTC(), EndsAt: s.EndsAt.UTC(), CreatedBy: s.CreatedBy, Comment: s.Comment, Status: "active", Matchers: []string{}}
		if s.Status != nil {
			v.Status = s.Status.State
		}
		for _, m := range s.Matchers {
			v.Matchers = append(v.Matchers, m.String())
		}
		out.Items = append(out.Items, v)
	}
	out.Total = len(out.Items)
	return out, nil
}

// String writes a matcher the way parseMatcher reads it.
func (m amMatcher) String() string {
	op := "="
	equal := m.IsEqual == nil || *m.IsEqual
	switch {
	case m.IsRegex && equal:
		op = "=~"
	case m.IsRegex:
		op = "!~"
	case !equal:
		op = "!="
	}
	return m.Name + op + strconv.Quote(m.Value)
}

const maxSilence = 5 * 365 * 24 * time.Hour

func (a *API) createSilence(r *http.Request) (any, error) {
	var b silenceBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	matchers, err := parseMatchers("matchers", b.Matchers)
	if err != nil {
		return nil, err
	}
	if matchers, err = bindMatchers(r, "matchers", matchers); err != nil {
		return nil, err
	}
	if b.ID != "" {
		if err := a.seesSilence(r, b.ID); err != nil {
			return nil, err
		}
	}
	now := time.Now().UTC()
	if b.StartsAt.IsZero() {
		b.StartsAt = now
	}
	var inv model.Invalid
	if len(matchers) == 0 {
		inv.Add("matchers", "must have at least one, else everything would be muted")
	}
	if !b.EndsAt.After(b.StartsAt) || !b.EndsAt.After(now) {
		inv.Add("ends_at", "must be after now and after starts_at")
	} else if b.EndsAt.Sub(b.StartsAt) > maxSilence {
		inv.Add("ends_at", "must be within five years of starts_at")
	}
	if len(b.Comment) > 4096 {
		inv.Add("comment", "is longer than 4096 bytes")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	in := amSilence{ID: b.ID, StartsAt: b.StartsAt, EndsAt: b.EndsAt, CreatedBy: who(r).Name, Comment: b.Comment}
	if in.Comment == "" {
		in.Comment = "-" // Alertmanager's interface wants one
	}
	out := silence{StartsAt: b.StartsAt.UTC(), EndsAt: b.EndsAt.UTC(), CreatedBy: in.CreatedBy, Comment: b.Comment, Status: "active", Matchers: []string{}}
	if b.StartsAt.After(now) {
		out.Status = "pending"
	}
	for _, m := range matchers {
		am := amMatcher{
			Name: m.Name, Value: m.Value, IsRegex: m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp,
			IsEqual: new(m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp),
		}
		in.Matchers = append(in.Matchers, am)
		out.Matchers = append(out.Matchers, am.String())
	}
	var made struct {
		ID string `json:"silenceID"`
	}
	if err := a.callAlertmanager(r.Context(), http.MethodPost, "/api/v2/silences", in, &made); err != nil {
		return nil, err
	}
	out.ID = made.ID
	a.audit(r, "silence.create", "silence/"+made.ID, "silence of "+strings.Join(out.Matchers, ", ")+" until "+out.EndsAt.Format(time.RFC3339))
	return out, nil
}

func (a *API) deleteSilence(r *http.Request) (any, error) {
	id := r.PathValue("id")
	if err := a.seesSilence(r, id); err != nil {
		return nil, err
	}
	if err := a.callAlertmanager(r.Context(), http.MethodDelete, "/api/v2/silence/"+url.PathEscape(id), nil, nil); err != nil {
		return nil, err
	}
	a.audit(r, "silence.delete", "silence/"+id, "silence ended")
	return nil, nil
}

// seesSilence looks whether the sender may change a silence.
func (a *API) seesSilence(r *http.Request, id string) error {
	if boundTo(r).IsEmpty() {
		return nil
	}
	var s amSilence
	if err := a.callAlertmanager(r.Context(), http.MethodGet, "/api/v2/silence/"+url.PathEscape(id), nil, &s); err != nil {
		return err
	}
	if !within(who(r), s.Matchers) {
		return model.ErrNotFound
	}
	return nil
}

func (a *API) previewSilence(r *http.Request) (any, error) {
	var b previewBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	matchers, err := parseMatchers("matchers", b.Matchers)
	if err != nil {
		return nil, err
	}
	if len(matchers) == 0 {
		return nil, invalid("matchers", "must have at least one")
	}
	list, err := a.matching(r, matchers)
	if err != nil {
		return nil, err
	}
	return previewAnswer{list}, nil
}

package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

type eventsAnswer struct {
	Items []model.Event `json:"items"`
	Next  string        `json:"next"`
}

var eventKinds = []model.EventKind{model.EventState, model.EventAlert, model.EventDelivery, model.EventAudit, model.EventNode}

func (a *API) events(r *http.Request) (any, error) {
	if a.deps.Events == nil {
		return nil, missing("history")
	}
	v := r.URL.Query()
	q := model.EventQuery{Subject: v.Get("subject"), Severity: v.Get("severity"), Text: v.Get("q"), Cursor: v.Get("cursor")}
	for _, k := range commas(v.Get("kind")) {
		if !slices.Contains(eventKinds, model.EventKind(k)) {
			return nil, invalid("kind", "%q is no kind of event; the kinds are state, alert, delivery, audit and node", k)
		}
		q.Kinds = append(q.Kinds, model.EventKind(k))
	}
	if q.Severity != "" && !slices.Contains([]string{"info", "warning", "critical"}, q.Severity) {
		return nil, invalid("severity", "must be info, warning or critical")
	}
	if len(q.Text) > maxQuery || len(q.Subject) > 256 || len(q.Cursor) > 2048 {
		return nil, invalid("", "a parameter is too long")
	}
	var err error
	if q.From, err = timeParam(v.Get("from"), "from"); err != nil {
		return nil, err
	}
	if q.To, err = timeParam(v.Get("to"), "to"); err != nil {
		return nil, err
	}
	if q.Limit, err = intParam(r, "limit", 100, 1, maxPage); err != nil {
		return nil, err
	}
	items, next, err := a.deps.Events.Query(r.Context(), q)
	if err != nil {
		return nil, err
	}
	out := eventsAnswer{Items: []model.Event{}, Next: next}
	for _, e := range items {
		if maySee(who(r), e) {
			out.Items = append(out.Items, e)
		}
	}
	return out, nil
}

func timeParam(s, name string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, invalid(name, "must be a time like 2026-11-20T08:00:00Z")
	}
	return t, nil
}

// maySee keeps what happened to users, keys, tokens and sessions to administrators,
// and to the user's own sessions.
func maySee(id *model.Identity, e model.Event) bool {
	if id == nil {
		return false
	}
	if !id.Bound.IsEmpty() && (e.Kind == model.EventAudit || e.Kind == model.EventNode || !id.Sees(e.Labels)) {
		return false
	}
	if e.Kind != model.EventAudit || model.AtLeast(id.Role, admin) {
		return true
	}
	if e.Subject == "session/"+id.Name && id.UserID != "" {
		return true
	}
	for _, p := range []string{"user/", "key/", "token/", "session/"} {
		if strings.HasPrefix(e.Subject, p) {
			return false
		}
	}
	return true
}

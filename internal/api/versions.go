package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"panoptes/internal/model"
)

// version is one change of a record.
type version struct {
	ID     string          `json:"id"` // of the event
	Time   time.Time       `json:"time"`
	Actor  string          `json:"actor"`
	Op     string          `json:"op"` // create, update, delete
	Name   string          `json:"name"`
	Before json.RawMessage `json:"before,omitempty"` // the spec; absent when it was created
	After  json.RawMessage `json:"after,omitempty"`  // absent when it was deleted
}

type versionsAnswer struct {
	Items []version `json:"items"` // newest first
	Next  string    `json:"next"`
}

// versions answers what a record of a kind was, from the audit. A record that is
// gone is found by its id. Putting an old spec back is a PUT like any other.
func (a *API) versions(kind string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if a.deps.Events == nil {
			return nil, missing("history")
		}
		id := r.PathValue("id")
		rec, err := a.deps.Catalog.Get(kind, id)
		gone := err != nil
		if !gone {
			id = rec.ID
		}
		if !boundTo(r).IsEmpty() && (gone || !labelled(who(r), rec)) {
			return nil, model.ErrNotFound
		}
		if strings.HasSuffix(id, "/") {
			return nil, err
		}
		limit, lerr := intParam(r, "limit", 20, 1, 100)
		if lerr != nil {
			return nil, lerr
		}
		q := model.EventQuery{Kinds: []model.EventKind{model.EventAudit}, Subject: kind + "/" + id, Limit: limit, Cursor: r.URL.Query().Get("cursor")}
		events, next, qerr := a.deps.Events.Query(r.Context(), q)
		if qerr != nil {
			return nil, qerr
		}
		out := versionsAnswer{Items: []version{}, Next: next}
		for _, e := range events {
			op, ok := strings.CutPrefix(e.Code, "record.")
			v := version{ID: e.ID, Time: e.Time.UTC(), Actor: e.Actor, Op: strings.TrimSuffix(op, "d"), Name: e.Name}
			var data struct{ Before, After json.RawMessage }
			if !ok || json.Unmarshal(e.Data, &data) != nil {
				continue
			}
			v.Before, v.After = data.Before, data.After
			out.Items = append(out.Items, v)
		}
		if gone && len(out.Items) == 0 {
			return nil, err
		}
		return out, nil
	}
}

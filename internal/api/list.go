package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"panoptes/internal/model"
)

// page is the answer of a list.
type page struct {
	Items  []json.RawMessage `json:"items"`
	Next   string            `json:"next"`
	Total  int               `json:"total"`
	Counts map[string]int    `json:"counts,omitempty"`
}

// place is where an entry stands in a sorted list. Places are unique by ID, so
// that a page begins right after the one before even when entries came or went.
type place struct {
	Sort string  `json:"s"` // the field, with - in front for the reverse
	Num  float64 `json:"n,omitempty"`
	Text string  `json:"t,omitempty"`
	ID   string  `json:"i"`
}

func (p place) compare(q place) int {
	c := cmp.Or(cmp.Compare(p.Num, q.Num), cmp.Compare(p.Text, q.Text))
	if strings.HasPrefix(p.Sort, "-") {
		c = -c
	}
	return cmp.Or(c, cmp.Compare(p.ID, q.ID))
}

func (p place) cursor() string {
	b, err := json.Marshal(p)
	if err != nil { // a NaN, which no list has
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor reads a cursor that belongs to a list sorted by sort.
func parseCursor(s, sort string) (place, error) {
	var p place
	if len(s) > 2048 {
		return p, invalid("cursor", "must be the next of the page before")
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || model.DecodeStrict(b, &p) != nil || p.ID == "" {
		return p, invalid("cursor", "must be the next of the page before")
	}
	if p.Sort != sort {
		return p, invalid("cursor", "belongs to a list in another order; begin with the first page")
	}
	return p, nil
}

// window is which part of a list is asked for.
type window struct {
	sort   string
	limit  int
	cursor *place
}

const (
	defaultPage = 50
	maxPage     = 1000
)

// parseWindow reads sort, limit and cursor. The sorts that are allowed come
// without the minus.
func parseWindow(r *http.Request, sorts ...string) (window, error) {
	q := r.URL.Query()
	w := window{sort: q.Get("sort"), limit: defaultPage}
	if w.sort == "" {
		w.sort = "name"
	}
	if !slices.Contains(sorts, strings.TrimPrefix(w.sort, "-")) {
		return w, invalid("sort", "must be one of %s, with - in front for the reverse", strings.Join(sorts, ", "))
	}
	var err error
	if w.limit, err = intParam(r, "limit", defaultPage, 1, maxPage); err != nil {
		return w, err
	}
	if c := q.Get("cursor"); c != "" {
		p, err := parseCursor(c, w.sort)
		if err != nil {
			return w, err
		}
		w.cursor = &p
	}
	return w, nil
}

// intParam reads a whole number of the query within bounds.
func intParam(r *http.Request, name string, def, low, high int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, invalid(name, "must be a number from %d to %d", low, high)
	}
	return n, nil
}

// cut sorts entries by their places and returns those in the window, with the
// cursor of the next page.
func cut[T any](entries []T, w window, at func(T) place) (part []T, next string) {
	type placed struct {
		p place
		i int
	}
	all := make([]placed, len(entries))
	for i, e := range entries {
		all[i] = placed{at(e), i}
	}
	slices.SortFunc(all, func(x, y placed) int { return x.p.compare(y.p) })
	from := 0
	if w.cursor != nil {
		var found bool
		if from, found = slices.BinarySearchFunc(all, *w.cursor, func(x placed, c place) int { return x.p.compare(c) }); found {
			from++
		}
	}
	to := min(from+w.limit, len(all))
	for _, e := range all[from:to] {
		part = append(part, entries[e.i])
	}
	if to < len(all) {
		next = all[to-1].p.cursor()
	}
	return part, next
}

// list answers the list of a kind, sorted by name or time of change.
func (a *API) list(kind string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		w, err := parseWindow(r, "name", "updated_at")
		if err != nil {
			return nil, err
		}
		q, err := parseQuery(r.URL.Query().Get("q"))
		if err != nil {
			return nil, err
		}
		var hits []model.Record
		for _, rec := range a.deps.Catalog.List(kind) {
			if open(kind) && !labelled(who(r), rec) {
				continue
			}
			if len(q) == 0 || q.matches(recordText(a.deps.Catalog.Redact(rec))) {
				hits = append(hits, rec)
			}
		}
		part, next := cut(hits, w, func(rec model.Record) place {
			p := place{Sort: w.sort, Text: rec.Name, ID: rec.ID}
			if strings.TrimPrefix(w.sort, "-") == "updated_at" {
				p.Num = float64(rec.Updated.UnixMilli())
			}
			return p
		})
		out := page{Items: []json.RawMessage{}, Next: next, Total: len(hits)}
		for _, rec := range part {
			b, err := a.flat(rec, nil)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, b)
		}
		return out, nil
	}
}

// recordText is what q looks at in a record that is no check.
func recordText(rec model.Record) searchable {
	var spec map[string]any
	s := searchable{"name": strings.ToLower(rec.Name), "id": strings.ToLower(rec.ID)}
	if json.Unmarshal(rec.Spec, &spec) == nil {
		for k, v := range spec {
			switch v := v.(type) {
			case string:
				s[k] = strings.ToLower(v)
			case bool, float64:
				b, _ := json.Marshal(v) // cannot fail for these
				s[k] = string(b)
			}
		}
	}
	return s
}

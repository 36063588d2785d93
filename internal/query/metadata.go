package query

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// Metadata is what is known of a metric.
type Metadata struct {
	Type string `json:"type"`
	Unit string `json:"unit"`
	Help string `json:"help"`
}

const maxMetadata = 100_000 // metrics in an answer

// metadata answers GET /api/v1/metadata?limit=&limit_per_metric=&metric=: what
// scraped targets say, and what senders said. The library's own knows the
// former only.
func (q *Query) metadata(w http.ResponseWriter, r *http.Request) {
	number := func(field string, otherwise int) (int, bool) {
		s := r.FormValue(field)
		if s == "" {
			return otherwise, true
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			q.refuse(w, "form", http.StatusBadRequest, fmt.Errorf("%s must be a number", field))
			return 0, false
		}
		if n <= 0 {
			n = otherwise
		}
		return n, true
	}
	limit, ok := number("limit", maxMetadata)
	if !ok {
		return
	}
	each, ok := number("limit_per_metric", maxMetadata)
	if !ok {
		return
	}
	metric := r.FormValue("metric")
	limit = min(limit, maxMetadata)
	found := map[string][]Metadata{}
	add := func(name string, m Metadata) {
		have, known := found[name]
		if !known && len(found) >= limit || len(have) >= each || slices.Contains(have, m) {
			return
		}
		found[name] = append(have, m)
	}
	var targets v1.TargetRetriever = none{}
	if q.deps.Targets != nil {
		targets = q.deps.Targets(r.Context())
	}
	for _, pool := range targets.TargetsActive() {
		for _, t := range pool {
			if metric != "" {
				if m, ok := t.GetMetadata(metric); ok {
					add(metric, Metadata{Type: string(m.Type), Help: m.Help, Unit: m.Unit})
				}
				continue
			}
			for _, m := range t.ListMetadata() {
				add(m.MetricFamily, Metadata{Type: string(m.Type), Help: m.Help, Unit: m.Unit})
			}
		}
	}
	if q.deps.Metadata != nil {
		for name, m := range q.deps.Metadata(metric) {
			add(name, m)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	q.encode(w, answer{Status: "success", Data: found})
}

package api

import (
	"encoding/json"
	"time"
)

// The answers of what package query serves below /v1/, for the document of the
// API.
type (
	explanation struct {
		Query     string              `json:"query"`
		Type      string              `json:"type"`
		Start     time.Time           `json:"start"`
		End       time.Time           `json:"end"`
		Step      float64             `json:"step,omitempty"`
		Steps     int64               `json:"steps"`
		Selectors []explainedSelector `json:"selectors"`
		Parts     int                 `json:"parts"`
		Cached    float64             `json:"cached"`
		Whole     string              `json:"whole,omitempty"`
		Warnings  []string            `json:"warnings"`
		Tree      json.RawMessage     `json:"tree,omitempty"`
	}
	explainedSelector struct {
		Selector string    `json:"selector"`
		Series   int       `json:"series"`
		From     time.Time `json:"from"`
		To       time.Time `json:"to"`
	}
	slowAnswer struct {
		Items []slowQuery `json:"items"`
	}
	slowQuery struct {
		Path    string    `json:"path"`
		Query   string    `json:"query,omitempty"`
		User    string    `json:"user"`
		At      time.Time `json:"at"`
		Seconds float64   `json:"seconds"`
		Code    int       `json:"code"`
		Samples int64     `json:"samples"`
		Peak    int64     `json:"peak_samples"`
		Series  int64     `json:"series"`
		Step    float64   `json:"step,omitempty"`
		Range   float64   `json:"range,omitempty"`
		Cached  float64   `json:"cached"`
		Server  string    `json:"server,omitempty"`
	}
)

// queryRoutes are those about queries; the queries themselves are below /api/v1/.
func (a *API) queryRoutes() []route {
	return []route{
		{pattern: "GET /v1/explain", bound: true, need: viewer, raw: a.mounted("queries", a.deps.Query), answer: explanation{},
			doc:   "What answering a PromQL query takes: series and time per selector, parts, what is kept. It reads no samples.",
			query: []param{{"query", "in PromQL"}, {"start", "of a range; RFC 3339 or seconds since 1970"}, {"end", "of a range"}, {"step", "of a range, like 30s"}, {"time", "of an instant query; now when left out"}}},
		{pattern: "GET /v1/slow-queries", bound: true, need: viewer, raw: a.mounted("queries", a.deps.Query), answer: slowAnswer{},
			doc: "The last slow queries, the newest first: one's own, and for administrators those of everybody on all servers."},
	}
}

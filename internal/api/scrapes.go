package api

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Scrapes knows what is scraped on all servers.
type Scrapes interface {
	Targets(ctx context.Context) (ScrapeTargets, error)
	// SD answers in the form of Prometheus' HTTP service discovery.
	SD() http.Handler
	// Import makes documents of a prometheus.yml, of the other files that it
	// names, by the names that it uses, and says what it could not take over.
	Import(yml []byte, files map[string][]byte) (docs []Doc, notes []string, err error)
}

// ScrapeTargets is what all servers say of their targets.
type ScrapeTargets struct {
	Targets  []ScrapeTarget
	Jobs     []ScrapeJob
	Problems []ScrapeProblem
}

// ScrapeTarget is one target as the server that scrapes it knows it.
type ScrapeTarget struct {
	Job        string            `json:"job"` // the name of the record
	Labels     map[string]string `json:"labels"`
	Discovered map[string]string `json:"discovered,omitempty"` // before relabelling
	URL        string            `json:"url"`
	Health     string            `json:"health"` // up, down, unknown: not scraped yet
	LastError  string            `json:"last_error,omitempty"`
	LastScrape time.Time         `json:"last_scrape,omitzero"`
	Duration   float64           `json:"duration_seconds"`
	Interval   string            `json:"interval"`
	Timeout    string            `json:"timeout"`
	Server     string            `json:"server"`
	Region     string            `json:"region,omitempty"`
}

// ScrapeJob sums up a job.
type ScrapeJob struct {
	Job        string `json:"job"`
	Discovered int    `json:"discovered"` // targets that discovery gave
	Active     int    `json:"active"`     // after relabelling
	Dropped    int    `json:"dropped"`    // by relabelling
	Invalid    int    `json:"invalid"`    // discovered, but no targets
	Example    string `json:"example,omitempty"`
}

// ScrapeProblem says why a server cannot run a job.
type ScrapeProblem struct {
	Job     string `json:"job"`
	Message string `json:"message"`
	Server  string `json:"server"`
}

type scrapeTargetsAnswer struct {
	Items    []ScrapeTarget  `json:"items"`
	Next     string          `json:"next"`
	Total    int             `json:"total"`
	Counts   map[string]int  `json:"counts"` // by health, of all that match q and job
	Jobs     []ScrapeJob     `json:"jobs"`
	Problems []ScrapeProblem `json:"problems"`
}

var healths = []string{"up", "down", "unknown"}

// scrapeTargets answers GET /v1/scrape-targets.
func (a *API) scrapeTargets(r *http.Request) (any, error) {
	if a.deps.Scrapes == nil {
		return nil, missing("scraping")
	}
	w, err := parseWindow(r, "name")
	if err != nil {
		return nil, err
	}
	q, err := parseQuery(r.URL.Query().Get("q"))
	if err != nil {
		return nil, err
	}
	states, err := oneOf(r, "state", healths)
	if err != nil {
		return nil, err
	}
	job := r.URL.Query().Get("job")
	all, err := a.deps.Scrapes.Targets(r.Context())
	if err != nil {
		return nil, err
	}
	out := scrapeTargetsAnswer{Items: []ScrapeTarget{}, Counts: map[string]int{}, Jobs: []ScrapeJob{}, Problems: []ScrapeProblem{}}
	for _, h := range healths {
		out.Counts[h] = 0
	}
	var hits []ScrapeTarget
	for _, t := range all.Targets {
		if job != "" && t.Job != job || !q.matches(targetText(t)) {
			continue
		}
		out.Counts[t.Health]++
		if len(states) == 0 || slices.Contains(states, t.Health) {
			hits = append(hits, t)
		}
	}
	for _, j := range all.Jobs {
		if job == "" || j.Job == job {
			out.Jobs = append(out.Jobs, j)
		}
	}
	for _, p := range all.Problems {
		if job == "" || p.Job == job {
			out.Problems = append(out.Problems, p)
		}
	}
	out.Total = len(hits)
	part, next := cut(hits, w, func(t ScrapeTarget) place {
		l, _ := json.Marshal(t.Labels) // texts: it cannot fail
		return place{Sort: w.sort, Text: t.Job, ID: t.URL + " " + string(l)}
	})
	out.Items, out.Next = append(out.Items, part...), next
	return out, nil
}

// targetText is what q looks at in a target.
func targetText(t ScrapeTarget) searchable {
	s := searchable{}
	for k, v := range t.Labels {
		s[k] = strings.ToLower(v)
	}
	s["job"], s["url"], s["error"], s["server"] = strings.ToLower(t.Job), strings.ToLower(t.URL), strings.ToLower(t.LastError), strings.ToLower(t.Server)
	return s
}

// sd answers GET /v1/sd.
func (a *API) sd(w http.ResponseWriter, r *http.Request) {
	if a.deps.Scrapes == nil {
		a.fail(w, r, missing("scraping"))
		return
	}
	a.deps.Scrapes.SD().ServeHTTP(w, r)
}

type importBody struct {
	Config string            `json:"config"`          // the text of the prometheus.yml
	Files  map[string]string `json:"files,omitempty"` // of rule_files and scrape_config_files, by the names that it uses
}

type importAnswer struct {
	Changes []Change `json:"changes"`
	Notes   []string `json:"notes"` // what was not taken over, or means something else here
}

// importPrometheus answers POST /v1/import/prometheus. The text may also be sent
// as it is.
func (a *API) importPrometheus(r *http.Request) (any, error) {
	if a.deps.Scrapes == nil {
		return nil, missing("scraping")
	}
	dry, err := dryRun(r)
	if err != nil {
		return nil, err
	}
	var in importBody
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == "application/json" {
		err = decode(r, &in)
	} else {
		var b []byte
		b, err = body(r)
		in.Config = string(b)
	}
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(in.Config) == "" {
		return nil, invalid("config", "must be given: the text of a prometheus.yml")
	}
	files := map[string][]byte{}
	for name, text := range in.Files {
		files[name] = []byte(text)
	}
	docs, notes, err := a.deps.Scrapes.Import([]byte(in.Config), files)
	var inv, faults model.Invalid
	if errors.As(err, &inv) {
		faults.AddErr("config", err)
		return nil, faults
	}
	if err != nil {
		return nil, err
	}
	out := importAnswer{Changes: []Change{}, Notes: append([]string{}, notes...)}
	if len(docs) == 0 {
		return out, nil
	}
	changes, err := a.deps.Catalog.Apply(r.Context(), who(r).Actor(), docs, dry)
	if err != nil {
		return nil, err
	}
	out.Changes = append(out.Changes, changes...)
	return out, nil
}

// dryRun reads the parameter dry_run.
func dryRun(r *http.Request) (bool, error) {
	switch v := r.URL.Query().Get("dry_run"); v {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, invalid("dry_run", "must be true or false")
}

// platformRoutes are those of rules and scraping beside their records.
func (a *API) platformRoutes() []route {
	return []route{
		{pattern: "POST /v1/rules/try", bound: true, need: viewer, handle: a.tryRules, doc: "What rule groups would have done in a stretch of the past; nothing is stored or told. With groups the answer has one such object per group under groups.", body: tryBody{}, answer: Trial{}},
		{pattern: "GET /v1/rules/{id}/versions", bound: true, need: viewer, handle: a.versions(model.KindRules), doc: "What a record of rules was before, newest change first.", answer: versionsAnswer{},
			query: []param{{"limit", "1 to 100; 20 when left out"}, {"cursor", "the next of the page before"}}},
		{pattern: "GET /v1/scrapes/{id}/versions", need: viewer, handle: a.versions(model.KindScrape), doc: "What a scrape job was before, newest change first.", answer: versionsAnswer{},
			query: []param{{"limit", "1 to 100; 20 when left out"}, {"cursor", "the next of the page before"}}},
		{pattern: "GET /v1/rule-groups", bound: true, need: viewer, handle: a.ruleGroups, doc: "The rule groups of all servers with their state.", answer: ruleGroupsAnswer{},
			query: []param{{"q", "words that must all occur in names and expressions; name:, source:, rule:, expr:, server: look at one of them"},
				{"state", "firing, pending, inactive, broken; several with commas"}, {"source", "only groups of this record or file"},
				{"limit", "1 to 1000; 50 when left out"}, {"cursor", "the next of the page before"}}},
		{pattern: "GET /v1/scrape-targets", need: viewer, handle: a.scrapeTargets, doc: "The targets that all servers scrape.", answer: scrapeTargetsAnswer{},
			query: []param{{"q", "words that must all occur in labels, URL, error or server; label:word looks at one label"}, {"job", "only targets of this record"},
				{"state", "up, down, unknown; several with commas"}, {"limit", "1 to 1000; 50 when left out"}, {"cursor", "the next of the page before"}}},
		{pattern: "GET /v1/sd", need: viewer, raw: a.sd, doc: "The share of one of several outside collectors, for Prometheus' http_sd_configs.",
			query: []param{{"shard", "the collector that asks"}, {"shards", "all that share the targets, with commas"}, {"job", "only targets of this record; may be repeated"}}},
		{pattern: "POST /v1/import/prometheus", need: admin, handle: a.importPrometheus, doc: "Takes over a prometheus.yml; what is not taken over is listed.", body: importBody{}, answer: importAnswer{}, limit: applyLimit,
			query: []param{{"dry_run", "true only shows what would change"}}},
	}
}

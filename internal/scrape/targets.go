package scrape

import (
	"slices"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/scrape"
)

// Problem says why a job does not run on a server.
type Problem struct {
	Job     string `json:"job"`
	Message string `json:"message"`
}

// Target is one target as the server that scrapes it knows it.
type Target struct {
	Job        string            `json:"job"` // name of the record
	URL        string            `json:"url"`
	Labels     map[string]string `json:"labels"`     // after relabelling, without those that begin with __
	Discovered map[string]string `json:"discovered"` // before relabelling
	Interval   string            `json:"interval"`
	Timeout    string            `json:"timeout"`
	Health     string            `json:"health"` // up, down, unknown: not scraped yet
	LastError  string            `json:"last_error,omitempty"`
	LastScrape time.Time         `json:"last_scrape,omitzero"`
	Duration   time.Duration     `json:"duration_ns,omitempty"`
	Node       string            `json:"node"` // who scrapes it
	Region     string            `json:"region"`
}

// JobState is what one server knows of a job.
type JobState struct {
	Job        string `json:"job"`
	Discovered int    `json:"discovered"`        // targets that discovery gave
	Active     int    `json:"active"`            // after relabelling, of all servers together
	Owned      int    `json:"owned"`             // of those, scraped by this server
	Dropped    int    `json:"dropped"`           // by relabelling; of those that this server keeps
	Invalid    int    `json:"invalid,omitempty"` // discovered, but no targets
	Example    string `json:"example,omitempty"` // of what is wrong with one of them
}

// Snapshot is what one server says of its targets. It travels between servers
// as JSON; Cluster makes one answer of all.
type Snapshot struct {
	Node     string     `json:"node"`
	Region   string     `json:"region"`
	Jobs     []JobState `json:"jobs"`
	Active   []Target   `json:"active"`
	Dropped  []Target   `json:"dropped"`
	Problems []Problem  `json:"problems,omitempty"` // jobs that this server cannot run
	// Families is what targets say of their metrics, by job.
	Families map[string][]Family `json:"families,omitempty"`
}

// Snapshot returns this server's targets, sorted by job and URL.
func (s *Scraper) Snapshot() Snapshot {
	out := Snapshot{Node: s.cfg.Node, Region: s.cfg.Region, Jobs: []JobState{}, Active: []Target{}, Dropped: []Target{}}
	s.mu.RLock()
	for name, j := range s.jobs {
		out.Jobs = append(out.Jobs, JobState{
			Job: name, Discovered: j.view.found, Active: j.view.active, Owned: j.view.owned,
			Dropped: j.view.dropped, Invalid: j.view.faults, Example: j.view.example,
		})
	}
	out.Problems = slices.Clone(s.problems)
	s.mu.RUnlock()
	slices.SortFunc(out.Jobs, func(a, b JobState) int { return strings.Compare(a.Job, b.Job) })
	lb := labels.NewBuilder(labels.EmptyLabels())
	out.Families = map[string][]Family{}
	for name, list := range s.manager.TargetsActive() {
		if f := families(list); len(f) > 0 {
			out.Families[name] = f
		}
		for _, t := range list {
			out.Active = append(out.Active, s.describe(name, t, lb))
		}
	}
	for name, list := range s.manager.TargetsDropped() {
		for _, t := range list {
			out.Dropped = append(out.Dropped, s.describe(name, t, lb))
		}
	}
	byPlace := func(a, b Target) int {
		if c := strings.Compare(a.Job, b.Job); c != 0 {
			return c
		}
		return strings.Compare(a.URL, b.URL)
	}
	slices.SortFunc(out.Active, byPlace)
	slices.SortFunc(out.Dropped, byPlace)
	return out
}

func (s *Scraper) describe(job string, t *engine.Target, lb *labels.Builder) Target {
	d := Target{
		Job: job, URL: t.URL().String(), Node: s.cfg.Node, Region: s.cfg.Region,
		Labels: t.Labels(lb).Map(), Discovered: t.DiscoveredLabels(lb).Map(),
		Interval: t.GetValue(pm.ScrapeIntervalLabel), Timeout: t.GetValue(pm.ScrapeTimeoutLabel),
		Health: string(t.Health()), LastScrape: t.LastScrape(), Duration: t.LastScrapeDuration(),
	}
	if err := t.LastError(); err != nil {
		d.LastError = err.Error()
	}
	return d
}

package scrape

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/scrape"
)

// The labels among the discovered ones that say who scrapes a target.
const (
	NodeLabel   = "__panoptes_node__"
	RegionLabel = "__panoptes_region__"
)

// Cluster is the targets of all servers in the form in which Prometheus' API
// asks for them. It does not change.
type Cluster struct {
	active, dropped map[string][]*engine.Target
	counts          map[string]int
	jobs            []string
	configs         map[string]*config.ScrapeConfig
}

// Cluster joins this server's targets with what other servers said of theirs.
// A target that is just being handed over appears once, as who scraped it last
// knows it.
func (s *Scraper) Cluster(others ...Snapshot) *Cluster {
	c := &Cluster{
		active: map[string][]*engine.Target{}, dropped: map[string][]*engine.Target{},
		counts: map[string]int{}, configs: map[string]*config.ScrapeConfig{},
	}
	s.mu.RLock()
	for name, j := range s.jobs {
		c.configs[name] = j.conf
	}
	s.mu.RUnlock()
	all := append([]Snapshot{s.Snapshot()}, others...)
	families := map[string]metadata{}
	names := map[string]bool{}
	for _, snap := range all {
		for _, j := range snap.Jobs {
			names[j.Job] = true
			c.counts[j.Job] += j.Dropped
			if c.active[j.Job] == nil {
				c.active[j.Job], c.dropped[j.Job] = []*engine.Target{}, []*engine.Target{}
			}
		}
		for _, t := range snap.Dropped {
			c.dropped[t.Job] = append(c.dropped[t.Job], t.engine(nil))
		}
		for job, list := range snap.Families {
			m := families[job]
			if m == nil {
				m = metadata{}
				families[job] = m
			}
			for _, f := range list {
				m[f.Name] = f
			}
		}
	}
	for _, t := range Latest(all...) {
		c.active[t.Job] = append(c.active[t.Job], t.engine(families[t.Job]))
	}
	c.jobs = slices.Sorted(maps.Keys(names))
	return c
}

// Latest returns the targets that are scraped, sorted by job and URL, each as
// who scraped it last knows it.
func Latest(all ...Snapshot) []Target {
	latest := map[string]Target{}
	for _, snap := range all {
		for _, t := range snap.Active {
			id := identity(t)
			if had, ok := latest[id]; !ok || t.LastScrape.After(had.LastScrape) {
				latest[id] = t
			}
		}
	}
	out := make([]Target, 0, len(latest))
	for _, id := range slices.Sorted(maps.Keys(latest)) {
		out = append(out, latest[id])
	}
	return out
}

func identity(t Target) string {
	l, _ := json.Marshal(t.Labels) // a map of texts, sorted by key: it cannot fail
	return t.Job + "\x00" + t.URL + "\x00" + string(l)
}

// TargetsActive returns the targets that are scraped, by job.
func (c *Cluster) TargetsActive() map[string][]*engine.Target { return c.active }

// TargetsDropped returns the targets that relabelling dropped, as far as they are kept.
func (c *Cluster) TargetsDropped() map[string][]*engine.Target { return c.dropped }

// TargetsDroppedCounts returns how many targets relabelling dropped, by job.
func (c *Cluster) TargetsDroppedCounts() map[string]int { return c.counts }

// ScrapePools returns the names of the jobs.
func (c *Cluster) ScrapePools() []string { return c.jobs }

// ScrapePoolConfig returns the configuration of a job that runs on this server.
func (c *Cluster) ScrapePoolConfig(name string) (*config.ScrapeConfig, error) {
	if conf, ok := c.configs[name]; ok {
		return conf, nil
	}
	return nil, fmt.Errorf("scrape job %q does not run on this server", name)
}

// engine makes of t what Prometheus' API shows.
func (t Target) engine(families metadata) *engine.Target {
	b := labels.NewBuilder(labels.FromMap(t.Labels))
	conf := &config.ScrapeConfig{JobName: t.Job}
	if u, err := url.Parse(t.URL); err == nil {
		b.Set(pm.SchemeLabel, u.Scheme)
		b.Set(pm.AddressLabel, u.Host)
		b.Set(pm.MetricsPathLabel, u.Path)
		conf.Params = u.Query()
	}
	b.Set(pm.ScrapeIntervalLabel, t.Interval)
	b.Set(pm.ScrapeTimeoutLabel, t.Timeout)
	found := pm.LabelSet{NodeLabel: pm.LabelValue(t.Node)}
	if t.Region != "" {
		found[RegionLabel] = pm.LabelValue(t.Region)
	}
	for k, v := range t.Discovered {
		found[pm.LabelName(k)] = pm.LabelValue(v)
	}
	out := engine.NewTarget(b.Labels(), conf, found, nil)
	if !t.LastScrape.IsZero() {
		var err error
		if t.LastError != "" {
			err = errors.New(t.LastError)
		}
		out.Report(t.LastScrape, t.Duration, err)
	}
	if families != nil {
		out.SetMetadataStore(families)
	}
	return out
}

// Family is what targets say of a metric.
type Family struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Help string `json:"help,omitempty"`
	Unit string `json:"unit,omitempty"`
}

// The metadata of a job is gathered from some of its targets, which mostly say
// the same.
const (
	metadataTargets  = 20
	metadataFamilies = 10_000
)

// families gathers what the targets of a job say of their metrics.
func families(targets []*engine.Target) []Family {
	seen := map[string]Family{}
	for i, t := range targets {
		if i == metadataTargets {
			break
		}
		for _, m := range t.ListMetadata() {
			if _, ok := seen[m.MetricFamily]; !ok && len(seen) < metadataFamilies {
				seen[m.MetricFamily] = Family{m.MetricFamily, string(m.Type), m.Help, m.Unit}
			}
		}
	}
	return slices.SortedFunc(maps.Values(seen), func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
}

// metadata is the families of a job by name, as the engine asks for them.
type metadata map[string]Family

func (m metadata) ListMetadata() []engine.MetricMetadata {
	out := make([]engine.MetricMetadata, 0, len(m))
	for _, f := range m {
		out = append(out, f.engine())
	}
	return out
}

func (m metadata) GetMetadata(name string) (engine.MetricMetadata, bool) {
	f, ok := m[name]
	return f.engine(), ok
}

func (m metadata) SizeMetadata() (n int) {
	for _, f := range m {
		n += len(f.Name) + len(f.Type) + len(f.Help) + len(f.Unit)
	}
	return n
}

func (m metadata) LengthMetadata() int { return len(m) }

func (f Family) engine() engine.MetricMetadata {
	return engine.MetricMetadata{MetricFamily: f.Name, Type: pm.MetricType(f.Type), Help: f.Help, Unit: f.Unit}
}

package scrape

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// Agents says which agents scrape the targets of a job, in place of servers:
// targets that only their hosts can reach, localhost above all.
type Agents struct {
	Hosts   []string          `json:"hosts,omitempty"`   // names with * and ?
	Regions []string          `json:"regions,omitempty"` //
	Labels  map[string]string `json:"labels,omitempty"`  // of the host, which must be equal
}

func (a *Agents) group() model.HostGroup {
	return model.HostGroup{Name: "agents", Hosts: a.Hosts, Regions: a.Regions, Matchers: a.Labels}
}

// agentConfig is what an agent's scraper understands of a scrape_config.
type agentConfig struct {
	JobName       string              `json:"job_name"`
	Interval      model.Duration      `json:"scrape_interval"`
	Timeout       model.Duration      `json:"scrape_timeout"`
	Scheme        string              `json:"scheme"`
	Path          string              `json:"metrics_path"`
	Params        map[string][]string `json:"params"`
	HonorLabels   bool                `json:"honor_labels"`
	HonorTimes    *bool               `json:"honor_timestamps"`
	SampleLimit   int                 `json:"sample_limit"`
	StaticConfigs []struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	} `json:"static_configs"`
	BasicAuth *struct {
		Username string       `json:"username"`
		Password model.Secret `json:"password"`
	} `json:"basic_auth"`
	Authorization *struct {
		Type        string       `json:"type"`
		Credentials model.Secret `json:"credentials"`
	} `json:"authorization"`
	TLS *struct {
		Insecure bool `json:"insecure_skip_verify"`
	} `json:"tls_config"`
}

// agentJobs is the job as an agent's scraper takes it: one for each group of
// static targets.
func (j *Job) agentJobs() ([]uplink.ScrapeJob, error) {
	var c agentConfig
	var inv model.Invalid
	if err := model.DecodeStrict(j.Config, &c); err != nil {
		inv.AddErr("", err)
		inv.Add("", "agents scrape static targets, without discovery and relabelling; leave out what they do not know, or agents")
		return nil, inv.Err()
	}
	if len(c.StaticConfigs) == 0 {
		inv.Add("static_configs", "must name the targets; agents discover none")
	}
	if c.Authorization != nil && c.Authorization.Type != "" && c.Authorization.Type != "Bearer" {
		inv.Add("authorization.type", "must be Bearer for agents")
	}
	var out []uplink.ScrapeJob
	for i, g := range c.StaticConfigs {
		u := uplink.ScrapeJob{
			Job: cmp.Or(c.JobName, j.Name), Targets: g.Targets, Labels: maps.Clone(j.Labels), Interval: c.Interval, Timeout: c.Timeout, Scheme: c.Scheme, Path: c.Path,
			Params: c.Params, HonorLabels: c.HonorLabels, HonorTimestamps: c.HonorTimes == nil || *c.HonorTimes, MaxSamples: c.SampleLimit,
		}
		if len(g.Labels) > 0 {
			if u.Labels == nil {
				u.Labels = map[string]string{}
			}
			maps.Copy(u.Labels, g.Labels)
		}
		if c.BasicAuth != nil {
			u.Username, u.Password = c.BasicAuth.Username, c.BasicAuth.Password
		}
		if c.Authorization != nil {
			u.Bearer = c.Authorization.Credentials
		}
		if c.TLS != nil {
			u.Insecure = c.TLS.Insecure
		}
		inv.AddErr(model.Index("static_configs", i), u.Validate())
		out = append(out, u)
	}
	return out, inv.Err()
}

// validateAgents checks a job that agents run.
func (j *Job) validateAgents(inv *model.Invalid) {
	if j.Agents == nil {
		return
	}
	g := j.Agents.group()
	inv.AddErr("agents", g.Validate())
	if len(j.Agents.Hosts)+len(j.Agents.Regions)+len(j.Agents.Labels) == 0 {
		inv.Add("agents", "must name hosts, regions or labels; [\"*\"] under hosts are all")
	}
	if j.PerRegion {
		inv.Add("per_region", "is for servers; agents scrape on each host that is named")
	}
	_, err := j.agentJobs()
	inv.AddErr("config", err)
}

// ForAgent lists what the agent of a host is to scrape, by the records of kind
// "scrape"; nil when there is nothing. What of it is done, the host's own file
// says.
func ForAgent(records []model.Record, n model.Node) []byte {
	var out []uplink.ScrapeJob
	targets := 0
	for _, rec := range records {
		if !bytes.Contains(rec.Spec, []byte(`"agents"`)) {
			continue // most are for servers, and this is asked for each host
		}
		j, err := decodeJob(rec)
		if err != nil || j.Paused || j.Agents == nil {
			continue
		}
		if g := j.Agents.group(); !g.Covers(n) {
			continue
		}
		jobs, err := j.agentJobs()
		if err != nil {
			continue // it was checked before it was written
		}
		for _, u := range jobs {
			if len(out) < uplink.MaxScrapeJobs && targets+len(u.Targets) <= uplink.MaxScrapeTargets {
				out = append(out, u)
				targets += len(u.Targets)
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	slices.SortStableFunc(out, func(a, b uplink.ScrapeJob) int { return cmp.Compare(a.Job, b.Job) })
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

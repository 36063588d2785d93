package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"panoptes/internal/model"
)

type resultsAnswer struct {
	Results []resultInfo `json:"results"`
}

type resultInfo struct {
	Region     string                  `json:"region"`
	Prober     string                  `json:"prober"`
	Success    bool                    `json:"success"`
	Degraded   bool                    `json:"degraded"`
	Message    string                  `json:"message"`
	Duration   float64                 `json:"duration_seconds"`
	Samples    []sampleInfo            `json:"samples"`
	Assertions []model.AssertionResult `json:"assertions"`
	Evidence   json.RawMessage         `json:"evidence,omitempty"`
}

type sampleInfo struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Value  number            `json:"value"`
}

// runTimeout bounds a run on demand beyond the check's own timeout.
const runTimeout = 60 * time.Second

func (a *API) runCheck(r *http.Request) (any, error) {
	id, err := a.checkOf(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), runTimeout)
	defer cancel()
	return resultsOf(a.deps.Checks.RunNow(ctx, id))
}

// revealed reads a spec that is to be tried. Secrets that it leaves redacted
// are those of the record that ?of= names, or of the one with its name.
func (a *API) revealed(r *http.Request, kind string) (json.RawMessage, error) {
	spec, err := specOf(r)
	if err != nil {
		return nil, err
	}
	of := r.URL.Query().Get("of")
	if of == "" {
		var named struct {
			Name string `json:"name"`
		}
		// What is wrong with the spec is told by whoever decodes it in full.
		_ = json.Unmarshal(spec, &named)
		of = named.Name
	}
	if rec, err := a.deps.Catalog.Get(kind, of); err == nil && !labelled(who(r), rec) {
		return spec, nil // what stays redacted is told by whoever decodes it
	}
	return a.deps.Catalog.Reveal(kind, of, spec)
}

func (a *API) testCheck(r *http.Request) (any, error) {
	spec, err := a.revealed(r, model.KindCheck)
	if err != nil {
		return nil, err
	}
	if a.deps.Checks == nil {
		return nil, missing("checks")
	}
	var c model.Check
	if err := json.Unmarshal(spec, &c); err != nil {
		return nil, model.DecodeError(err)
	}
	if c.Name == "" {
		c.Name = "test"
	}
	c.Default()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), runTimeout)
	defer cancel()
	return resultsOf(a.deps.Checks.Test(ctx, c))
}

func resultsOf(results []model.Result, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	out := resultsAnswer{Results: []resultInfo{}}
	for _, res := range results {
		info := resultInfo{
			Region: res.Region, Prober: res.Prober, Success: res.Success, Degraded: res.Degraded, Message: res.Message,
			Duration: res.Duration.Seconds(), Samples: []sampleInfo{}, Assertions: res.Assertion,
		}
		if info.Assertions == nil {
			info.Assertions = []model.AssertionResult{}
		}
		if json.Valid(res.Evidence) {
			info.Evidence = res.Evidence
		}
		for _, s := range res.Samples {
			labels := s.Labels.Map()
			name := labels["__name__"]
			delete(labels, "__name__")
			info.Samples = append(info.Samples, sampleInfo{name, labels, number(s.V)})
		}
		out.Results = append(out.Results, info)
	}
	return out, nil
}

package scrape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/units"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v2"

	"panoptes/internal/model"
)

// The limits of one job. Those with a default hold when the scrape
// configuration says nothing; none of them can be switched off.
const (
	DefaultBodySize   = 32 << 20 // bytes of one answer, decompressed
	MaxBodySize       = 512 << 20
	DefaultSamples    = 500_000 // of one answer
	MaxSamples        = 10_000_000
	DefaultLabels     = 128 // of one sample
	MaxLabels         = 1000
	DefaultNameBytes  = 1024
	MaxNameBytes      = 4096
	DefaultValueBytes = 16 << 10
	MaxValueBytes     = 64 << 10
	DefaultDropped    = 1000 // targets that relabelling dropped, kept for the page
	MaxTargets        = 100_000
	MinInterval       = time.Second
)

// Job is the record "scrape": one scrape_config of Prometheus, word for word,
// and where it is run.
type Job struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Regions says which servers may scrape; default ["*"].
	Regions []string `json:"regions,omitempty"`
	// PerRegion has each target scraped once in each of the regions, with the
	// label region; otherwise it is scraped once in the whole cluster.
	PerRegion bool `json:"per_region,omitempty"`
	// Workers are labels that a server must have to scrape.
	Workers map[string]string `json:"workers,omitempty"`
	// Agents has agents scrape the targets, and no server.
	Agents *Agents `json:"agents,omitempty"`
	// Labels are given to every target that has no such label after relabelling.
	Labels map[string]string `json:"labels,omitempty"`
	Paused bool              `json:"paused,omitempty"`
	// Config is the scrape_config as JSON, or as a text in YAML. Its job_name
	// may be left out: it is then the record's name.
	Config json.RawMessage `json:"config"`
}

// Normalize decodes the spec of a record strictly, checks it as Prometheus
// would, and returns it in canonical form. Old is not looked at: what a job was
// does not limit what it may become.
func Normalize(spec, _ json.RawMessage) (json.RawMessage, error) {
	var j Job
	if err := model.DecodeStrict(spec, &j); err != nil {
		return nil, err
	}
	var inv model.Invalid
	inv.AddErr("", model.CheckName(j.Name))
	if len(j.Description) > 4096 {
		inv.Add("description", "is longer than 4096 bytes")
	}
	if len(j.Regions) == 0 {
		j.Regions = []string{"*"}
	}
	seen := map[string]bool{}
	for i, r := range j.Regions {
		if r == "" || len(r) > 64 || seen[r] {
			inv.Add(model.Index("regions", i), "must be a region's name, each once, or \"*\"")
		}
		seen[r] = true
	}
	if len(j.Workers) > model.MaxCheckLabels {
		inv.Add("workers", "has %d entries; %d are allowed", len(j.Workers), model.MaxCheckLabels)
	}
	for k, v := range j.Workers {
		if k == "" || v == "" || len(k) > 200 || len(v) > 2048 {
			inv.Add("workers."+k, "must be a label's name and value, up to 200 and 2048 bytes")
		}
	}
	inv.AddErr("labels", checkLabels(j.Labels))
	conf, err := canonicalConfig(j.Config)
	inv.AddErr("config", err)
	if err == nil {
		j.Config = conf
		j.validateAgents(&inv)
		_, err = j.compile("", MinInterval)
		inv.AddErr("config", err)
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(j)
}

// checkLabels is what may be written under labels. Unlike a check, a job may
// set job and instance.
func checkLabels(l map[string]string) error {
	var inv model.Invalid
	if len(l) > model.MaxCheckLabels {
		inv.Add("", "has %d entries; %d are allowed", len(l), model.MaxCheckLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(l)) {
		v := l[k]
		switch {
		case !pm.LegacyValidation.IsValidLabelName(k) || strings.HasPrefix(k, "__"):
			inv.Add(k, "a label's name is made of letters, digits and _, begins with a letter and not with __")
		case len(k) > 200 || len(v) > 2048:
			inv.Add(k, "is too long: a name has up to 200 bytes, a value up to 2048")
		case v == "" || !pm.LabelValue(v).IsValid():
			inv.Add(k, "the value must not be empty and must be valid UTF-8")
		}
	}
	return inv.Err()
}

// canonicalConfig makes JSON with sorted keys of JSON or of a text in YAML.
func canonicalConfig(raw json.RawMessage) (json.RawMessage, error) {
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, model.Invalid{{Msg: "must be given: one entry of scrape_configs as Prometheus has it"}}
	}
	if trimmed[0] == '"' {
		var text string
		if err := json.Unmarshal(trimmed, &text); err != nil {
			return nil, model.DecodeError(err)
		}
		v, err := decodeYAML([]byte(text))
		if err != nil {
			return nil, err
		}
		if trimmed, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	tree, err := decodeJSON(trimmed)
	if err != nil {
		return nil, err
	}
	if _, ok := tree.(map[string]any); !ok {
		return nil, model.Invalid{{Msg: "must be an object: one entry of scrape_configs, not the list of them"}}
	}
	return json.Marshal(tree)
}

func decodeJSON(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // a number stays as it is written
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, model.DecodeError(err)
	}
	return tree, nil
}

// compile makes what the engine takes. Region is where it will run, for jobs
// that run once in each; the engine's job name is the record's, the label job
// is set by divide.
func (j *Job) compile(region string, minInterval time.Duration) (c *config.ScrapeConfig, err error) {
	defer func() {
		if p := recover(); p != nil { // a mechanism that does not expect such input
			err = model.Invalid{{Msg: fmt.Sprintf("is not understood: %v", p)}}
		}
	}()
	tree, err := decodeJSON(j.Config)
	if err != nil {
		return nil, err
	}
	obj, ok := tree.(map[string]any)
	if !ok {
		return nil, model.Invalid{{Msg: "must be an object"}}
	}
	if obj["job_name"] == nil {
		obj["job_name"] = j.Name
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	c = &config.ScrapeConfig{}
	if err := yaml.UnmarshalStrict(b, c); err != nil {
		return nil, fieldErrors(err, obj)
	}
	if err := c.Validate(globals()); err != nil {
		return nil, fieldErrors(err, obj)
	}
	if err := j.bounds(c, obj, minInterval); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(j.Labels)) {
		c.RelabelConfigs = append(c.RelabelConfigs, always(name, j.Labels[name], true))
	}
	if j.PerRegion && region != "" {
		c.RelabelConfigs = append(c.RelabelConfigs, always(model.LabelRegion, region, false))
	}
	return c, nil
}

// always is a relabelling step that sets a label, or only when it is empty.
func always(name, value string, onlyEmpty bool) *relabel.Config {
	rc := relabel.DefaultRelabelConfig
	rc.NameValidationScheme = pm.UTF8Validation
	rc.TargetLabel = name
	rc.Replacement = strings.ReplaceAll(value, "$", "$$")
	if onlyEmpty {
		rc.SourceLabels = pm.LabelNames{pm.LabelName(name)}
		rc.Regex = relabel.MustNewRegexp("")
	}
	return &rc
}

// globals are the defaults of Prometheus with our limits.
func globals() config.GlobalConfig {
	g := config.DefaultGlobalConfig
	g.BodySizeLimit = units.Base2Bytes(DefaultBodySize)
	g.SampleLimit = DefaultSamples
	g.LabelLimit = DefaultLabels
	g.LabelNameLengthLimit = DefaultNameBytes
	g.LabelValueLengthLimit = DefaultValueBytes
	g.KeepDroppedTargets = DefaultDropped
	return g
}

// bounds refuses what the engine would take and we do not.
func (j *Job) bounds(c *config.ScrapeConfig, obj map[string]any, minInterval time.Duration) error {
	var inv model.Invalid
	if time.Duration(c.ScrapeInterval) < minInterval {
		inv.Add("scrape_interval", "must be at least %s", pm.Duration(minInterval))
	}
	if c.BodySizeLimit < 0 || c.BodySizeLimit > MaxBodySize {
		inv.Add("body_size_limit", "must lie between 1B and %s; leave it out for %s", units.Base2Bytes(MaxBodySize), units.Base2Bytes(DefaultBodySize))
	}
	if c.SampleLimit > MaxSamples {
		inv.Add("sample_limit", "must be at most %d; leave it out for %d", MaxSamples, DefaultSamples)
	}
	for _, l := range []struct {
		name           string
		value          uint
		most, ordinary uint
	}{
		{"label_limit", c.LabelLimit, MaxLabels, DefaultLabels},
		{"label_name_length_limit", c.LabelNameLengthLimit, MaxNameBytes, DefaultNameBytes},
		{"label_value_length_limit", c.LabelValueLengthLimit, MaxValueBytes, DefaultValueBytes},
	} {
		if l.value > l.most {
			inv.Add(l.name, "must be at most %d; leave it out for %d", l.most, l.ordinary)
		}
	}
	if c.ScrapeFailureLogFile != "" {
		inv.Add("scrape_failure_log_file", "is not supported; leave it out: the last error of each target is shown with it")
	}
	if len(c.ServiceDiscoveryConfigs) == 0 {
		inv.Add("", "names no targets; add static_configs or one of %s", strings.Join(mechanisms(), ", "))
	}
	walk(obj, nil, func(path []string, v string) {
		key := path[len(path)-1]
		if isFile(path) && !strings.HasPrefix(v, "/") {
			inv.Add(dotted(path), "must be an absolute path; every server reads the file on its own disk")
		}
		if !inData(path) && isMetadata(key, v) {
			inv.Add(dotted(path), "is a link-local or metadata address, where clouds keep the credentials of machines; it is never asked")
		}
		if u, err := url.Parse(v); (strings.HasSuffix(key, "url") || strings.HasSuffix(key, "server")) && err == nil && u.User != nil {
			if _, has := u.User.Password(); has && !inData(path) {
				inv.Add(dotted(path), "must not hold a password; write it under basic_auth, where it is kept sealed")
			}
		}
	})
	return inv.Err()
}

// jobName is the value of the label job.
func (j *Job) jobName() string {
	var c struct {
		JobName any `json:"job_name"`
	}
	if json.Unmarshal(j.Config, &c) == nil && c.JobName != nil {
		return fmt.Sprint(c.JobName)
	}
	return j.Name
}

func decodeJob(rec model.Record) (Job, error) {
	var j Job
	if err := json.Unmarshal(rec.Spec, &j); err != nil {
		return j, fmt.Errorf("read scrape record %s: %w", rec.Name, err)
	}
	if j.Name == "" {
		return j, errors.New("a scrape record without a name")
	}
	return j, nil
}

package scrape

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// maxImport bounds the text of a prometheus.yml.
const maxImport = 10 << 20

// Importer takes over a prometheus.yml and the files that it names.
type Importer struct {
	Dir string // where the file lies: relative paths in it begin there; default /etc/prometheus
	// Read returns the files that match a pattern, by name. nil: the files that
	// are named are listed as not taken over.
	Read func(pattern string) (map[string][]byte, error)
}

// ImportPrometheus makes documents of a prometheus.yml without reading other
// files. See Importer.
func ImportPrometheus(yml []byte) ([]model.Document, []string, error) {
	return Importer{}.Import(yml)
}

// Import makes documents of a prometheus.yml: a scrape record of each job, and
// one of kind rules of each rule file that can be read. All that is not taken
// over, or means something else here, is in the notes. An error says that the
// text is no such file at all.
func (im Importer) Import(yml []byte) ([]model.Document, []string, error) {
	if len(yml) > maxImport {
		return nil, nil, fmt.Errorf("%w: a prometheus.yml may have %d bytes", model.ErrTooLarge, maxImport)
	}
	v, err := decodeYAML(yml)
	if err != nil {
		return nil, nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, nil, model.Invalid{{Msg: "not a prometheus.yml: it must be a mapping with global, scrape_configs and so on"}}
	}
	if im.Dir == "" {
		im.Dir = "/etc/prometheus"
	}
	t := &taking{Importer: im, names: map[string]map[string]bool{}}
	t.global, _ = root["global"].(map[string]any)
	if root["global"] != nil && t.global == nil {
		t.note("global: is not a mapping; not taken over")
	}
	t.globals()
	for _, key := range slices.Sorted(maps.Keys(root)) {
		t.section(key, root[key])
	}
	if len(t.docs) > 0 {
		t.limits()
	}
	return t.docs, t.notes, nil
}

// taking is one import.
type taking struct {
	Importer
	global map[string]any
	docs   []model.Document
	notes  []string
	names  map[string]map[string]bool // by kind
}

func (t *taking) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// jobGlobals are the settings under global that a job inherits.
var jobGlobals = []string{
	"scrape_interval", "scrape_timeout", "scrape_protocols", "body_size_limit", "sample_limit", "target_limit", "label_limit",
	"label_name_length_limit", "label_value_length_limit", "keep_dropped_targets", "scrape_native_histograms",
	"convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms", "metric_name_validation_scheme", "metric_name_escaping_scheme",
}

func (t *taking) globals() {
	for _, k := range slices.Sorted(maps.Keys(t.global)) {
		switch {
		case slices.Contains(jobGlobals, k):
		case k == "evaluation_interval" || k == "rule_query_offset":
			if t.Read == nil {
				t.note("global.%s (%s): set it in the rule groups that you import", k, short(t.global[k]))
			}
		case k == "external_labels":
			t.note("global.external_labels (%s): not added to samples, as Prometheus does not add them to its own; give them to scrape records under labels if rules or dashboards ask for them", short(t.global[k]))
		case k == "query_log_file":
			t.note("global.query_log_file: there is no such file; slow queries are in the server's log")
		case k == "scrape_failure_log_file":
			t.note("global.scrape_failure_log_file: there is no such file; the last error of each target is shown with it")
		default:
			t.note("global.%s: not known; not taken over", k)
		}
	}
}

// section takes over one part of the file.
func (t *taking) section(key string, v any) {
	list, isList := v.([]any)
	switch key {
	case "global":
	case "scrape_configs":
		if !isList && v != nil {
			t.note("scrape_configs: is not a list; not taken over")
		}
		for i, e := range list {
			t.job(fmt.Sprintf("scrape_configs[%d]", i), e, t.Dir)
		}
	case "scrape_config_files":
		t.files(key, list, t.jobFile)
	case "rule_files":
		t.files(key, list, t.ruleFile)
	case "remote_write":
		for i, e := range list {
			t.note("remote_write[%d] (%s): not taken over; every server keeps all samples, and a remote engine is named in the servers' configuration under storage", i, urlOf(e))
		}
	case "remote_read":
		for i, e := range list {
			t.note("remote_read[%d] (%s): not taken over; queries are answered from the servers' own storage or from the remote engine that their configuration names", i, urlOf(e))
		}
	case "alerting":
		t.alerting(v)
	case "storage", "tracing", "otlp", "runtime":
		m, _ := v.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			t.note("%s.%s (%s): not taken over; %s", key, k, short(m[k]), map[string]string{
				"storage": "retention is the setting retention, the rest is in the servers' configuration",
				"tracing": "traces are not sent",
				"otlp":    "OTLP is received with its attributes as labels",
				"runtime": "set it in the environment of the servers",
			}[key])
		}
	default:
		t.note("%s: not known; not taken over", key)
	}
}

func (t *taking) alerting(v any) {
	m, _ := v.(map[string]any)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list, _ := m[k].([]any)
		switch k {
		case "alertmanagers":
			for i, e := range list {
				t.note("alerting.alertmanagers[%d] (%s): not taken over; alerts are grouped, silenced and sent by Panoptes itself: import the alertmanager.yml", i, short(e))
			}
		case "alert_relabel_configs":
			for i, e := range list {
				t.note("alerting.alert_relabel_configs[%d] (%s): not taken over; set the labels in the rules or match them in the routes", i, short(e))
			}
		default:
			t.note("alerting.%s: not known; not taken over", k)
		}
	}
}

// files takes over what a list of patterns names.
func (t *taking) files(key string, list []any, take func(where string, b []byte)) {
	for i, e := range list {
		pattern, _ := e.(string)
		where := fmt.Sprintf("%s[%d] (%s)", key, i, short(e))
		if pattern == "" {
			t.note("%s: is not the name of a file; not taken over", where)
			continue
		}
		if t.Read == nil {
			t.note("%s: other files were not sent along; send them, too, or make rules of them with \"panoptes rules check FILE --record\"", where)
			continue
		}
		found, err := t.Read(t.absolute(pattern))
		switch {
		case err != nil:
			t.note("%s: cannot be read: %s; not taken over", where, err)
		case len(found) == 0:
			t.note("%s: there is no such file; not taken over", where)
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			take(name, found[name])
		}
	}
}

func (t *taking) absolute(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(t.Dir, name)
}

func (t *taking) jobFile(name string, b []byte) {
	v, err := t.decode(name, b)
	if err != nil {
		t.note("%s: %s; not taken over", name, err)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(v)) {
		list, ok := v[k].([]any)
		if k != "scrape_configs" || !ok {
			t.note("%s: %s: not known; not taken over", name, k)
			continue
		}
		for i, e := range list {
			t.job(fmt.Sprintf("%s: scrape_configs[%d]", name, i), e, filepath.Dir(name))
		}
	}
}

// ruleFile makes one document of a file of rule groups, as it is.
func (t *taking) ruleFile(name string, b []byte) {
	v, err := t.decode(name, b)
	if err != nil {
		t.note("%s: %s; not taken over", name, err)
		return
	}
	groups, ok := v["groups"].([]any)
	if !ok {
		t.note("%s: has no groups; not taken over", name)
		return
	}
	for _, g := range groups {
		m, ok := g.(map[string]any)
		if !ok {
			continue // the kind says so when the document is applied
		}
		inherit(m, "interval", t.global["evaluation_interval"])
		inherit(m, "query_offset", t.global["rule_query_offset"])
	}
	doc := t.unique("rules", strings.TrimSuffix(path.Base(name), path.Ext(name)))
	t.add("rules", doc, map[string]any{"name": doc, "groups": groups})
}

func (t *taking) decode(name string, b []byte) (map[string]any, error) {
	if len(b) > maxImport {
		return nil, fmt.Errorf("has more than %d bytes", maxImport)
	}
	v, err := decodeYAML(b)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is not a mapping", name)
	}
	return m, nil
}

func inherit(m map[string]any, key string, v any) {
	if _, had := m[key]; !had && v != nil {
		m[key] = v
	}
}

// limits tells what holds here although Prometheus sets no limit.
func (t *taking) limits() {
	t.note("limits that Prometheus does not set hold for jobs that say nothing: %d MiB and %d samples an answer, %d labels a sample; raise body_size_limit, sample_limit and label_limit where they are not enough",
		DefaultBodySize>>20, DefaultSamples, DefaultLabels)
}

// unique makes a name that a record may have and no other document of the kind has.
func (t *taking) unique(kind, name string) string {
	if t.names[kind] == nil {
		t.names[kind] = map[string]bool{}
	}
	name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "- ._@:/+()")
	if r := []rune(name); len(r) > 100 {
		name = string(r[:100])
	}
	if name == "" {
		name = kind
	}
	out := name
	for i := 2; t.names[kind][out]; i++ {
		out = fmt.Sprintf("%s-%d", name, i)
	}
	t.names[kind][out] = true
	return out
}

var notInNames = regexp.MustCompile(`[^\p{L}\p{N} ._@:/+\-()]+`)

func (t *taking) add(kind, name string, spec any) {
	b, err := json.Marshal(spec)
	if err != nil {
		t.note("%s %s: cannot be written: %s; not taken over", kind, name, err)
		return
	}
	t.docs = append(t.docs, model.Document{Kind: kind, Name: name, Spec: b})
}

// short shows a value in a note without secrets and without end.
func short(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(hide(v)); err != nil {
		return "?"
	}
	s := strings.Trim(strings.TrimSpace(b.String()), `"`)
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120]) + "…"
	}
	return s
}

// hide takes out of a value what may be secret.
func hide(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if slices.Contains(secretKeys, k) || k == "key" || k == "http_headers" || k == "headers" || k == "proxy_connect_header" {
				e = model.Redacted
			}
			out[k] = hide(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = hide(e)
		}
		return out
	case string:
		if u, err := url.Parse(v); err == nil && u.User != nil {
			return u.Redacted()
		}
	}
	return v
}

func urlOf(v any) string {
	m, _ := v.(map[string]any)
	return short(m["url"])
}

func duration(v any) (time.Duration, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	d, err := pm.ParseDuration(s)
	return time.Duration(d), err == nil
}

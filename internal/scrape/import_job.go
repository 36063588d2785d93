package scrape

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// job takes over one scrape_config.
func (t *taking) job(where string, v any, dir string) {
	conf, ok := v.(map[string]any)
	if !ok {
		t.note("%s: is not a mapping; not taken over", where)
		return
	}
	conf = maps.Clone(conf)
	name := fmt.Sprint(conf["job_name"])
	if conf["job_name"] == nil || name == "" {
		t.note("%s: has no job_name; not taken over", where)
		return
	}
	where = fmt.Sprintf("%s %q", where, name)
	t.raise(where, conf)
	t.inheritGlobals(conf)
	t.raise(where, conf)
	t.adjust(where, conf, dir)
	t.placeholders(where, conf)
	record := t.unique(model.KindScrape, name)
	if record == name {
		delete(conf, "job_name") // it is the record's name
	} else {
		t.note("%s: the record is named %q; the label job stays %q", where, record, name)
	}
	b, err := json.Marshal(conf)
	if err != nil {
		t.note("%s: %s; not taken over", where, err)
		return
	}
	spec, err := json.Marshal(Job{Name: record, Config: b})
	if err == nil {
		spec, err = Normalize(spec, nil)
	}
	if err != nil {
		t.note("%s: %s; not taken over", where, strings.ReplaceAll(err.Error(), "\n", " "))
		delete(t.names[model.KindScrape], record)
		return
	}
	t.docs = append(t.docs, model.Document{Kind: model.KindScrape, Name: record, Spec: spec})
}

// inheritGlobals writes into a job what it would take from global.
func (t *taking) inheritGlobals(conf map[string]any) {
	_, ownScheme := conf["metric_name_validation_scheme"]
	for _, k := range jobGlobals {
		if k == "metric_name_escaping_scheme" && ownScheme {
			continue // a scheme of its own brings its own way to escape
		}
		v := t.global[k]
		if _, had := conf[k]; k == "scrape_timeout" && !had && v != nil {
			// A job with a shorter interval has that as its timeout.
			timeout, ok1 := duration(v)
			interval, ok2 := duration(conf["scrape_interval"])
			if ok1 && ok2 && interval < timeout {
				v = conf["scrape_interval"]
			}
		}
		inherit(conf, k, v)
	}
}

// raise lifts an interval that is too short here.
func (t *taking) raise(where string, conf map[string]any) {
	if d, ok := duration(conf["scrape_interval"]); ok && d < MinInterval {
		t.note("%s: scrape_interval: %s is raised to %s", where, pm.Duration(d), pm.Duration(MinInterval))
		conf["scrape_interval"] = pm.Duration(MinInterval).String()
	}
}

// adjust changes what would be refused here, and says so.
func (t *taking) adjust(where string, conf map[string]any, dir string) {
	if _, has := conf["scrape_failure_log_file"]; has {
		delete(conf, "scrape_failure_log_file")
		t.note("%s: scrape_failure_log_file: not taken over; the last error of each target is shown with it", where)
	}
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		if strings.HasSuffix(k, "_sd_configs") && !slices.Contains(mechanisms(), k) {
			delete(conf, k)
			t.note("%s: %s: %s; not taken over", where, k, notBuiltIn(k))
		}
	}
	t.paths(where, conf, nil, dir)
	if list, ok := conf["http_sd_configs"].([]any); ok {
		for i, e := range list {
			if m, ok := e.(map[string]any); ok {
				list[i] = t.urlPassword(fmt.Sprintf("%s: http_sd_configs[%d].url", where, i), m)
			}
		}
	}
}

// urlPassword moves the password of a URL to where it is kept sealed.
func (t *taking) urlPassword(where string, m map[string]any) map[string]any {
	s, _ := m["url"].(string)
	u, err := url.Parse(s)
	if err != nil || u.User == nil || m["basic_auth"] != nil || m["authorization"] != nil {
		return m
	}
	m = maps.Clone(m)
	password, _ := u.User.Password()
	m["basic_auth"] = map[string]any{"username": u.User.Username(), "password": password}
	u.User = nil
	m["url"] = u.String()
	t.note("%s: its user and password are under basic_auth now, where they are kept sealed", where)
	return m
}

// paths makes the names of files absolute.
func (t *taking) paths(where string, v any, at []string, dir string) {
	fix := func(path []string, name string) string {
		if name == "" || !isFile(path) {
			return name
		}
		if filepath.IsAbs(name) {
			t.note("%s: %s: every server needs %s, below one of the directories in its setting scrape.files_dirs", where, dotted(path), name)
			return name
		}
		abs := filepath.Join(dir, name)
		t.note("%s: %s: %s is taken for %s; every server needs it, below one of the directories in its setting scrape.files_dirs", where, dotted(path), name, abs)
		return abs
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			path := append(slices.Clone(at), k)
			if s, ok := v[k].(string); ok {
				v[k] = fix(path, s)
			} else {
				t.paths(where, v[k], path, dir)
			}
		}
	case []any:
		for i, e := range v {
			path := append(slices.Clone(at), fmt.Sprint(i))
			if s, ok := e.(string); ok {
				v[i] = fix(path, s)
			} else {
				t.paths(where, e, path, dir)
			}
		}
	}
}

// placeholders notes secrets that Prometheus had already hidden in the text.
func (t *taking) placeholders(where string, conf map[string]any) {
	walk(conf, nil, func(path []string, v string) {
		if v == "<secret>" && !inData(path) {
			t.note("%s: %s: the file says <secret> instead of the secret; write it into the record", where, dotted(path))
		}
	})
}

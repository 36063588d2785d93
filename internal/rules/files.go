package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"panoptes/internal/model"
)

// maxFileBytes is the largest rule file that is read.
const maxFileBytes = 8 << 20

// ParseFile reads a rule file in Prometheus' format; its faults are
// model.Invalid as those of Normalize.
func ParseFile(data []byte) ([]Group, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%w: a rule file may have %d bytes", model.ErrTooLarge, maxFileBytes)
	}
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, model.Invalid{{Msg: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	b, err := json.Marshal(texts(doc))
	if err != nil {
		return nil, model.Invalid{{Msg: "not a rule file: " + strings.TrimPrefix(err.Error(), "json: ")}}
	}
	var raw struct {
		Groups []json.RawMessage `json:"groups"`
	}
	if err := model.DecodeStrict(b, &raw); err != nil {
		return nil, err
	}
	return parseGroups(raw.Groups)
}

// texts undoes what YAML makes of texts that look like a date.
func texts(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = texts(e)
		}
	case []any:
		for i, e := range v {
			v[i] = texts(e)
		}
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format(time.DateOnly)
		}
	}
	return v
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	at   time.Time
}

// lookAtFiles reads the files of Dir that changed since it was seen. One that
// does not load keeps what it was before.
func (r *Rules) lookAtFiles(seen map[string]stamp) map[string]stamp {
	if r.cfg.Dir == "" {
		return nil
	}
	now := map[string]stamp{}
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.fault(r.cfg.Dir, err)
		return seen
	}
	r.fault(r.cfg.Dir, nil)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".yml" && ext != ".yaml" {
			continue
		}
		path := filepath.Join(r.cfg.Dir, e.Name())
		info, err := os.Stat(path) // what a link points to
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		now[path] = stamp{info.Size(), info.ModTime()}
		if seen[path] != now[path] {
			r.readFile(path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(seen)) {
		if _, ok := now[path]; !ok {
			r.fault(path, nil)
			r.mu.Lock()
			delete(r.files, path)
			r.mu.Unlock()
			r.log.Info("rule file gone", "file", path)
		}
	}
	return now
}

func (r *Rules) readFile(path string) {
	groups, err := loadFile(path)
	r.fault(path, err)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.files[path] = set{source: path, local: true, groups: groups}
	r.mu.Unlock()
	r.log.Info("rule file read", "file", path, "groups", len(groups))
}

func loadFile(path string) ([]Group, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return ParseFile(data)
}

// fault notes what is wrong with a source, once; nil clears it.
func (r *Rules) fault(source string, err error) {
	r.mu.Lock()
	old := r.faults[source]
	if err == nil {
		delete(r.faults, source)
	} else {
		r.faults[source] = err
	}
	r.mu.Unlock()
	if err != nil && (old == nil || old.Error() != err.Error()) {
		r.log.Error("rules not loaded, the old ones stay", "source", source, "err", err)
	}
}

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
	"regexp"
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
	var root yaml.Node
	var doc any
	err := yaml.Unmarshal(data, &root)
	if err == nil {
		asWritten(&root)
		err = root.Decode(&doc)
	}
	if err != nil {
		return nil, model.Invalid{{Msg: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	b, err := json.Marshal(doc)
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

// wholeNumber is how a limit is written.
var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// asWritten makes texts of all values but limits: to Prometheus everything else
// in a rule file is one, and the label "version: 1.10" must not become 1.1, nor
// "code: 0500" 320, nor a date a time.
func asWritten(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" && n.Tag != "!!merge" && n.Tag != "!!binary" {
		n.Tag = "!!str"
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "limit" && wholeNumber.MatchString(c.Value) {
			continue
		}
		asWritten(c)
	}
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

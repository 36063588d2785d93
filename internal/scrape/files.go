package scrape

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"panoptes/internal/model"
)

// checkFiles refuses jobs that name files outside of the directories that the
// operator of this server allows: who may edit a job could otherwise have any
// file sent to a target of theirs as a credential. Those in let pass.
func (j *Job) checkFiles(dirs []string, let map[string]bool) error {
	tree, err := decodeJSON(j.Config)
	if err != nil {
		return err
	}
	var inv model.Invalid
	walk(tree, []string{"config"}, func(path []string, v string) {
		if isFile(path) && v != "" && !let[v] {
			if err := allowedFile(v, dirs); err != nil {
				inv.Add(dotted(path), "%s", err)
			}
		}
	})
	return inv.Err()
}

// NormalizeWithin is Normalize for a server whose jobs may name files only below
// some directories: what it would not run it does not keep. A file that the job
// named before stays: who pauses a job need not repair it first.
func NormalizeWithin(dirs []string) func(spec, old json.RawMessage) (json.RawMessage, error) {
	return func(spec, old json.RawMessage) (json.RawMessage, error) {
		out, err := Normalize(spec, old)
		if err != nil {
			return nil, err
		}
		if err := CheckFiles(out, old, dirs); err != nil {
			return nil, err
		}
		return out, nil
	}
}

// CheckFiles refuses a job that names files outside of directories, but for
// those that old, which may be empty, names as well.
func CheckFiles(spec, old json.RawMessage, dirs []string) error {
	var j, was Job
	if err := json.Unmarshal(spec, &j); err != nil {
		return model.DecodeError(err)
	}
	if j.Agents != nil {
		return nil // its files are none: agents know no such fields
	}
	had := map[string]bool{}
	if json.Unmarshal(old, &was) == nil && len(was.Config) > 0 {
		if tree, err := decodeJSON(was.Config); err == nil {
			walk(tree, nil, func(path []string, v string) { had[v] = had[v] || isFile(path) })
		}
	}
	return j.checkFiles(dirs, had)
}

func allowedFile(name string, dirs []string) error {
	clean := filepath.Clean(name)
	// A link may lead out: look at what it points to, if it is there. Patterns
	// of file discovery have their wildcards in the last part only.
	real := clean
	if r, err := filepath.EvalSymlinks(filepath.Dir(clean)); err == nil {
		real = filepath.Join(r, filepath.Base(clean))
		if r, err := filepath.EvalSymlinks(real); err == nil {
			real = r
		}
	}
	for _, d := range dirs {
		below := []string{filepath.Clean(d)}
		if r, err := filepath.EvalSymlinks(d); err == nil {
			below = append(below, r)
		}
		for _, b := range below {
			if strings.HasPrefix(real, b+"/") {
				return nil
			}
		}
	}
	if len(dirs) == 0 {
		return fmt.Errorf("%s: jobs may not name files on this server", name)
	}
	return fmt.Errorf("%s lies outside of %s, where this server lets jobs name files; move it there, or let an administrator add its directory to scrape.files_dirs in the server's configuration", name, strings.Join(dirs, " and "))
}

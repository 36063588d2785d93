package scrape

import (
	"fmt"
	"path/filepath"
	"strings"

	"panoptes/internal/model"
)

// checkFiles refuses jobs that name files outside of the directories that the
// operator of this server allows: who may edit a job could otherwise have any
// file sent to a target of theirs as a credential.
func (j *Job) checkFiles(dirs []string) error {
	tree, err := decodeJSON(j.Config)
	if err != nil {
		return err
	}
	var inv model.Invalid
	walk(tree, []string{"config"}, func(path []string, v string) {
		if isFile(path) && v != "" {
			if err := allowedFile(v, dirs); err != nil {
				inv.Add(dotted(path), "%s", err)
			}
		}
	})
	return inv.Err()
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

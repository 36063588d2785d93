package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/rules"
	"panoptes/internal/scrape"
)

// ImportPrometheus turns a prometheus.yml and the files beside it that it names
// into documents, and says what it could not take over. name is where it was read.
func ImportPrometheus(name string, data []byte) ([]model.Document, []string, error) {
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, nil, fmt.Errorf("find the directory of %s: %w", name, err)
	}
	return importWith(scrape.Importer{Dir: dir, Read: readMatching}, data, nil) // the server knows which files are allowed
}

func (a scrapesForAPI) Import(yml []byte, files map[string][]byte) ([]api.Doc, []string, error) {
	im := scrape.Importer{}
	if len(files) > 0 {
		im.Read = func(pattern string) (map[string][]byte, error) { return matching(pattern, files) }
	}
	dirs, err := a.filesDirs()
	if err != nil {
		return nil, nil, err
	}
	docs, notes, err := importWith(im, yml, func(spec json.RawMessage) error { return scrape.CheckFiles(spec, nil, dirs) })
	out := make([]api.Doc, len(docs))
	for i, d := range docs {
		out[i] = api.Doc{Kind: d.Kind, Name: d.Name, Spec: d.Spec}
	}
	return out, notes, err
}

// importWith leaves out rules that would be refused, and jobs that checkJob
// refuses, and says why: one of them must not keep all else from being taken over.
func importWith(im scrape.Importer, yml []byte, checkJob func(spec json.RawMessage) error) ([]model.Document, []string, error) {
	docs, notes, err := im.Import(yml)
	kept := docs[:0]
	for _, d := range docs {
		var fault error
		what := "the file"
		switch {
		case d.Kind == model.KindRules:
			_, fault = rules.Normalize(d.Spec, nil)
		case d.Kind == model.KindScrape && checkJob != nil:
			fault, what = checkJob(d.Spec), "the job"
		}
		if fault != nil {
			var inv model.Invalid
			if !errors.As(fault, &inv) {
				inv.AddErr("", fault)
			}
			for _, f := range inv {
				notes = append(notes, fmt.Sprintf("%s %s: %s; %s is not taken over", d.Kind, d.Name, f, what))
			}
			continue
		}
		kept = append(kept, d)
	}
	return kept, notes, err
}

// maxRuleFile bounds a file that a prometheus.yml names.
const maxRuleFile = 16 << 20

// readMatching reads the files of a pattern.
func readMatching(pattern string) (map[string][]byte, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, name := range names {
		if out[name], err = readBounded(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxRuleFile+1))
	if err == nil && len(b) > maxRuleFile {
		err = fmt.Errorf("%w: %s has more than %d bytes", model.ErrTooLarge, name, maxRuleFile)
	}
	return b, err
}

// matching are the files that a pattern of a prometheus.yml names. Files that
// people choose in a browser have lost their directories: the last part of the
// name is enough where nothing matches as a whole.
func matching(pattern string, files map[string][]byte) (map[string][]byte, error) {
	whole, last := map[string][]byte{}, map[string][]byte{}
	for name, b := range files {
		full := path.Clean(name)
		if !path.IsAbs(full) {
			full = path.Join("/etc/prometheus", full)
		}
		ok, err := path.Match(pattern, full)
		if err != nil {
			return nil, fmt.Errorf("%q is no pattern: %w", pattern, err)
		}
		if ok {
			whole[name] = b
		}
		if ok, err := path.Match(path.Base(pattern), path.Base(full)); err == nil && ok {
			last[name] = b
		}
	}
	if len(whole) == 0 {
		return last, nil
	}
	return whole, nil
}

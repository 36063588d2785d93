package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Paths measures files and directories.
type Paths struct {
	root     source.Tree
	patterns []string
}

// Bounds of one measurement.
const (
	maxPaths   = 200
	maxEntries = 500000
)

var errTooMany = errors.New("too many files")

// NewPaths makes the collector "paths". Patterns are absolute.
func NewPaths(root source.Tree, patterns []string) *Paths {
	return &Paths{root: root, patterns: patterns}
}

// Name implements metric.Collector.
func (c *Paths) Name() string { return "paths" }

// Collect implements metric.Collector.
func (c *Paths) Collect(ctx context.Context, out *metric.Batch) error {
	root := strings.TrimSuffix(c.root.Root, "/")
	left := maxEntries
	var errs []error
	paths := 0
	for _, p := range c.patterns {
		found := source.Glob(root + p)
		if len(found) == 0 {
			out.Add("panoptes_agent_path_exists", 0, "path", p)
		}
		for _, f := range found {
			if paths++; paths > maxPaths {
				return errors.Join(append(errs, fmt.Errorf("more than %d paths", maxPaths))...)
			}
			if err := c.measure(ctx, out, f, strings.TrimPrefix(f, root), &left); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
			}
		}
	}
	return errors.Join(errs...)
}

// measure walks a directory without following links; links to links never
// end. What other processes remove meanwhile is left out.
func (c *Paths) measure(ctx context.Context, out *metric.Batch, path, label string, left *int) error {
	st, err := os.Lstat(path)
	if err != nil {
		out.Add("panoptes_agent_path_exists", 0, "path", label)
		return nil
	}
	var size, files float64
	newest := st.ModTime()
	if st.IsDir() {
		err = filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if *left--; *left < 0 {
				return errTooMany
			}
			if err != nil || d.IsDir() {
				return nil
			}
			i, err := d.Info()
			if err != nil {
				return nil
			}
			files++
			if i.Mode().IsRegular() {
				size += float64(i.Size())
			}
			if i.ModTime().After(newest) {
				newest = i.ModTime()
			}
			return nil
		})
		if err != nil {
			return err // half a sum would look like a loss
		}
	} else {
		size, files = float64(st.Size()), 1
	}
	out.Add("panoptes_agent_path_exists", 1, "path", label)
	out.Add("panoptes_agent_path_bytes", size, "path", label)
	out.Add("panoptes_agent_path_files", files, "path", label)
	out.Add("panoptes_agent_path_modified_seconds", float64(newest.Unix()), "path", label)
	return nil
}

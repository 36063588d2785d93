package textfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Bounds on what scripts may leave.
const (
	MaxBytes  = 64 << 10 // of one file
	MaxSeries = 256      // of one file
	MaxFiles  = 100
)

// Files reads the *.prom files of a directory. A faulty file is left out and
// counted, the others are taken.
type Files struct {
	dir   string
	r     source.Reader
	known map[string]*file
	round int
}

type file struct {
	size  int64
	mtime time.Time
	rows  []row
	err   error
	round int
}

// New makes the collector "textfile". dir may be a pattern; "" is none.
func New(dir string) *Files { return &Files{dir: dir, known: map[string]*file{}} }

// Name implements metric.Collector.
func (c *Files) Name() string { return "textfile" }

// Collect implements metric.Collector.
func (c *Files) Collect(ctx context.Context, out *metric.Batch) error {
	if c.dir == "" {
		out.Add("node_textfile_scrape_error", 0)
		return nil
	}
	c.round++
	var errs []error
	paths := c.paths()
	if len(paths) > MaxFiles {
		errs = append(errs, fmt.Errorf("%d files, of which the first %d are read", len(paths), MaxFiles))
		paths = paths[:MaxFiles]
	}
	for _, p := range paths {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := c.file(p)
		if f.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, f.err))
			continue
		}
		for _, r := range f.rows {
			out.AddAny(r.name, r.v, r.kv...)
		}
		out.Add("node_textfile_mtime_seconds", float64(f.mtime.UnixNano())/1e9, "file", p)
	}
	for p, f := range c.known {
		if f.round != c.round {
			delete(c.known, p)
		}
	}
	out.Bool("node_textfile_scrape_error", len(errs) > 0)
	return errors.Join(errs...)
}

func (c *Files) paths() []string {
	var out []string
	dirs := source.Glob(c.dir)
	for _, d := range dirs {
		for _, n := range source.Names(d, 10000) {
			if strings.HasSuffix(n, ".prom") && !strings.HasPrefix(n, ".") {
				out = append(out, filepath.Join(d, n))
			}
		}
	}
	slices.Sort(out)
	return out
}

// file returns what is in a file, read only when it has changed.
func (c *Files) file(path string) *file {
	st, err := os.Stat(path)
	if err != nil {
		return &file{err: err}
	}
	f := c.known[path]
	if f == nil || f.size != st.Size() || !f.mtime.Equal(st.ModTime()) {
		f = &file{size: st.Size(), mtime: st.ModTime()}
		f.rows, f.err = c.read(path, st)
		c.known[path] = f
	}
	f.round = c.round
	return f
}

func (c *Files) read(path string, st os.FileInfo) ([]row, error) {
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if st.Size() > MaxBytes {
		return nil, fmt.Errorf("%d bytes; at most %d are read", st.Size(), MaxBytes)
	}
	b, err := c.r.ReadMax(path, MaxBytes)
	if err != nil {
		return nil, err
	}
	rows, err := parse(string(b), MaxSeries)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if strings.HasPrefix(r.name, "node_scrape_collector_") || strings.HasPrefix(r.name, "node_textfile_") || strings.HasPrefix(r.name, "panoptes_agent_") {
			return nil, fmt.Errorf("the name %s belongs to the agent", r.name)
		}
	}
	return rows, nil
}

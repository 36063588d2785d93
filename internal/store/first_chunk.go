package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"panoptes/internal/model"
)

// firstChunk keeps two things apart that the TSDB must not do at once until it
// has written the first chunk of its memory to a file: write that chunk, and
// cut off what is old. When the cut finds no file it begins to count files at 0
// again, also when one has been made meanwhile; from then on chunks are said to
// be in a file 0 that does not exist. Queries fail, and the next replay takes
// the samples for stored.
//
// Until a file has been written since the opening the TSDB does not cut by
// itself, and a cut on demand keeps commits waiting. A cut itself waits for
// whoever reads what it takes away; so it lets those end first who read for
// minutes, or who commit what they find missing.
type firstChunk struct {
	dir     string
	before  map[string]os.FileInfo // the files when the database was opened
	written atomic.Bool

	patience time.Duration // how long a commit waits for a cut

	scans sync.RWMutex // held by long reads; a cut on demand holds it alone, before the gate
	gate  sync.RWMutex // held by commits; a cut on demand holds it alone
}

// dueSpan is what memory may span before the TSDB wants to cut it: one and a
// half times the shortest block.
const dueSpan = 3 * time.Hour

// newFirstChunk is called before the database is opened.
func newFirstChunk(dir string) (*firstChunk, error) {
	f := &firstChunk{dir: filepath.Join(dir, "chunks_head"), patience: commitPatience}
	var err error
	f.before, err = f.files()
	return f, err
}

func (f *firstChunk) files() (map[string]os.FileInfo, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	out := make(map[string]os.FileInfo, len(entries))
	for _, e := range entries {
		// What vanishes now is not a new file.
		if info, err := e.Info(); err == nil {
			out[e.Name()] = info
		}
	}
	return out, nil
}

// look reports whether a file has been written since the opening.
func (f *firstChunk) look() bool {
	if f.written.Load() {
		return true
	}
	now, err := f.files()
	if err != nil {
		return false
	}
	for name, info := range now {
		old, ok := f.before[name]
		if !ok || !os.SameFile(old, info) || !old.ModTime().Equal(info.ModTime()) || old.Size() != info.Size() {
			f.written.Store(true)
			return true
		}
	}
	return false
}

// commit calls fn, not during a cut. It answers errCutting, without a call, when
// a cut takes too long: it may wait for the one who wants to commit, when he began
// long before the newest sample.
func (f *firstChunk) commit(fn func() error) error {
	if f.written.Load() {
		return fn()
	}
	for began := time.Now(); !f.gate.TryRLock(); time.Sleep(time.Millisecond) {
		if time.Since(began) > f.patience {
			return errCutting
		}
	}
	defer f.gate.RUnlock()
	return fn()
}

// commitPatience is how long a commit waits for a cut.
const commitPatience = 20 * time.Second

var errCutting = fmt.Errorf("%w: the memory of the time series is being cut; send the samples again", model.ErrUnavailable)

// scan calls fn, which reads for long, not during a cut.
func (f *firstChunk) scan(fn func() error) error {
	if f.written.Load() {
		return fn()
	}
	f.scans.RLock()
	defer f.scans.RUnlock()
	return fn()
}

// scanPatience is how long a cut lets those go on who read for long.
const scanPatience = 2 * time.Minute

// cut calls fn, which cuts off what is old, not during a commit. It answers
// model.ErrUnavailable when others read for too long, or ctx ends.
func (f *firstChunk) cut(ctx context.Context, fn func() error) error {
	if f.look() {
		return fn()
	}
	// Nobody is kept from beginning to read meanwhile: two servers that compare
	// their stores with each other would wait for each other.
	ctx, cancel := context.WithTimeout(ctx, scanPatience)
	defer cancel()
	for !f.scans.TryLock() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("memory is not cut while it is being read; try again when comparisons and repairs have ended: %w: %w", model.ErrUnavailable, context.Cause(ctx))
		}
	}
	defer f.scans.Unlock()
	f.gate.Lock()
	defer f.gate.Unlock()
	return fn()
}

// allowCuts lets the open database cut by itself as soon as that is safe.
func (s *Store) allowCuts() {
	h, err := s.acquireRead()
	if err != nil {
		return
	}
	defer s.release(h)
	if h.cuts {
		return
	}
	if !h.first.look() {
		s.urge(h)
	}
	if h.first.look() {
		h.cuts = true
		h.db.EnableCompactions()
	}
}

// urge has the first chunk written when a cut has been due for a while. The
// database writes full chunks once in a minute in which no commit asks it to cut,
// and with much in memory every commit does: it would never write, so never be
// allowed to cut, and memory and log would grow until the end.
func (s *Store) urge(h *handle) {
	head := h.db.Head()
	from, to := head.MinTime(), head.MaxTime()
	if from > to || to-from <= dueSpan.Milliseconds() { // nothing is there: from > to
		h.due = time.Time{}
		return
	}
	if h.due.IsZero() {
		h.due = time.Now()
	}
	if time.Since(h.due) < s.patience {
		return
	}
	h.due = time.Now()
	// Beside commits, as the database does it; no cut can happen meanwhile.
	if err := h.first.commit(func() error { h.db.ForceHeadMMap(); return nil }); err != nil || h.first.look() {
		return
	}
	// No chunk is full, so there is little to cut; commits wait.
	if err := h.first.cut(h.leaving, func() error { return h.db.Compact(h.leaving) }); err != nil && h.leaving.Err() == nil {
		s.log.Error("memory of the time series not cut", "dir", s.cfg.Dir, "err", err)
	}
}

// compact runs fn, one of the database's compactions, when it may run.
func (s *Store) compact(fn func(*tsdb.DB) error) error {
	h, err := s.acquireRead()
	if err != nil {
		return err
	}
	defer s.release(h)
	return h.first.cut(h.leaving, func() error { return fn(h.db) })
}

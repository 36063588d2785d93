package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"panoptes/internal/model"
)

func nowMilli() int64 { return time.Now().UnixMilli() }

// loader has the database look at its directory when blocks came or are to go.
// The TSDB does that by itself once a minute, and after each merge of blocks:
// an empty merge makes it do so now.
type loader struct {
	wanted atomic.Int32 // steps to go: 2 an empty merge, 1 nothing more for now

	db      atomic.Pointer[tsdb.DB] // nil while closed
	retired atomic.Pointer[map[ulid.ULID]bool]
}

const emptyMerge = "" // as a plan

// compactor is the TSDB's, with the empty merge.
type compactor struct {
	tsdb.Compactor
	l *loader
}

func (c *compactor) Plan(dir string) ([]string, error) {
	switch {
	case c.l.wanted.CompareAndSwap(2, 1):
		return []string{emptyMerge}, nil
	case c.l.wanted.CompareAndSwap(1, 0): // who waits does not wait for real merges
		return nil, nil
	}
	return c.Compactor.Plan(dir)
}

func (c *compactor) Compact(dest string, dirs []string, open []*tsdb.Block) ([]ulid.ULID, error) {
	if len(dirs) == 1 && dirs[0] == emptyMerge {
		return nil, nil
	}
	return c.Compactor.Compact(dest, dirs, open)
}

func (l *loader) newCompactor(ctx context.Context, r prometheus.Registerer, log *slog.Logger, ranges []int64, pool chunkenc.Pool, o *tsdb.Options) (tsdb.Compactor, error) {
	c, err := tsdb.NewLeveledCompactorWithOptions(ctx, r, log, ranges, pool, tsdb.LeveledCompactorOptions{
		MaxBlockChunkSegmentSize:    o.MaxBlockChunkSegmentSize,
		EnableOverlappingCompaction: o.EnableOverlappingCompaction,
		PD:                          o.PostingsDecoderFactory,
		UseUncachedIO:               o.UseUncachedIO,
		BlockExcludeFilter:          o.BlockCompactionExcludeFunc,
	})
	if err != nil {
		return nil, err
	}
	return &compactor{c, l}, nil
}

// hold keeps blocks from being merged that hold foreign samples of a time which
// our own memory still holds. A merged block counts as written from memory, and
// the next replay of the log would skip everything before its end.
func (l *loader) hold(m *tsdb.BlockMeta) bool {
	if !m.Compaction.FromOutOfOrder() {
		return false
	}
	db := l.db.Load()
	if db == nil {
		return true
	}
	t := db.Head().MinTime()
	return t == math.MaxInt64 || m.MaxTime > t
}

// toDelete is the TSDB's choice and what was retired.
func (l *loader) toDelete(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	out := make(map[ulid.ULID]struct{})
	if db := l.db.Load(); db != nil {
		out = tsdb.DefaultBlocksToDelete(db)(blocks)
	}
	if p := l.retired.Load(); p != nil {
		for id := range *p {
			out[id] = struct{}{}
		}
	}
	return out
}

// Reload makes imported blocks visible and retired ones vanish now rather than
// within a minute. It waits for a merge of blocks that is under way.
func (s *Store) Reload(ctx context.Context) error {
	return s.compact(func(db *tsdb.DB) error {
		s.loader.wanted.Store(2)
		if err := db.Compact(ctx); err != nil {
			return fmt.Errorf("load blocks: %w", err)
		}
		return nil
	})
}

// Retire takes a damaged block out of use, once its samples have been fetched
// from elsewhere; its files are kept in the quarantine.
func (s *Store) Retire(ctx context.Context, id string) error {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return fmt.Errorf("retire block %q: %w", clip(id), model.ErrNotFound)
	}
	to, err := s.quarantinePlace(id)
	if err != nil {
		return fmt.Errorf("retire block %s: %w", id, err)
	}
	if err := linkTree(filepath.Join(s.cfg.Dir, id), filepath.Join(s.cfg.Dir, to)); err != nil {
		return fmt.Errorf("retire block %s: %w", id, err)
	}
	next := map[ulid.ULID]bool{u: true}
	if p := s.loader.retired.Load(); p != nil {
		for k := range *p {
			next[k] = true
		}
	}
	s.loader.retired.Store(&next)
	if err := s.Reload(ctx); err != nil {
		return err
	}
	s.log.Info("damaged block taken out of use", "block", id, "quarantined", to)
	return nil
}

// linkTree makes a copy of a directory that shares its files.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// incomingName holds what is not a part of the database yet.
const incomingName = "incoming"

// Incoming returns the directory into which a foreign block may be written
// before Import. It is on the disk of the database and survives a restart.
func (s *Store) Incoming() (string, error) {
	dir := filepath.Join(s.cfg.Dir, incomingName)
	return dir, os.MkdirAll(dir, 0o750)
}

const tempPrefix = "tmp-"

// tempDir makes a directory that the next start removes.
func (s *Store) tempDir(name string) (string, error) {
	in, err := s.Incoming()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(in, tempPrefix+name)
}

// removeTemp removes what an earlier process left.
func (s *Store) removeTemp() error {
	dirs, err := filepath.Glob(filepath.Join(s.cfg.Dir, incomingName, tempPrefix+"*"))
	for _, d := range dirs {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}

package store

import (
	"context"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// with runs f on the open database.
func (s *Store) with(f func(*tsdb.DB) error) error {
	h, err := s.acquireRead()
	if err != nil {
		return err
	}
	defer s.release(h)
	return f(h.db)
}

// CleanTombstones rewrites the blocks from which samples were deleted.
func (s *Store) CleanTombstones() error {
	return s.with((*tsdb.DB).CleanTombstones)
}

// Delete removes the samples of matching series between two times.
func (s *Store) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	defer s.changes.everything() // some may be gone when it fails, too
	return s.with(func(db *tsdb.DB) error { return db.Delete(ctx, mint, maxt, ms...) })
}

// Snapshot links all blocks into dir and, with withHead, writes a block of
// what is in memory; that block later overlaps with the real one. Late samples
// in memory become blocks of their own first.
func (s *Store) Snapshot(dir string, withHead bool) error {
	if withHead {
		if err := s.compact(func(db *tsdb.DB) error { return db.CompactOOOHead(context.Background()) }); err != nil {
			return fmt.Errorf("write late samples into blocks: %w", err)
		}
	}
	return s.with(func(db *tsdb.DB) error { return db.Snapshot(dir, withHead) })
}

// Stats counts series by name and label in memory.
func (s *Store) Stats(statsByLabelName string, limit int) (st *tsdb.Stats, err error) {
	err = s.with(func(db *tsdb.DB) error { st = db.Head().Stats(statsByLabelName, limit); return nil })
	return st, err
}

// WALReplayStatus says how far opening the database has come.
func (s *Store) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return s.stats.Head.WALReplayStatus.GetWALReplayStatus(), nil
}

// BlockMetas describes the blocks, the oldest first.
func (s *Store) BlockMetas() (metas []tsdb.BlockMeta, err error) {
	err = s.with(func(db *tsdb.DB) error { metas = db.BlockMetas(); return nil })
	return metas, err
}

// StartTime returns the time of the oldest sample in milliseconds, or
// math.MaxInt64 when there is none.
func (s *Store) StartTime() (t int64, err error) {
	t = math.MaxInt64
	err = s.with(func(db *tsdb.DB) (err error) { t, err = db.StartTime(); return err })
	return t, err
}

// Compact writes what is complete in memory into blocks and merges blocks now,
// rather than when the database would do it.
func (s *Store) Compact(ctx context.Context) error {
	return s.compact(func(db *tsdb.DB) error { return db.Compact(ctx) })
}

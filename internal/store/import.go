package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"panoptes/internal/model"
)

// ErrDamagedBlock says that a block which was to be imported is not sound. It
// wraps model.ErrDamaged.
var ErrDamagedBlock = fmt.Errorf("the block is %w", model.ErrDamaged)

// Import takes over the foreign block that lies in dir, a directory below
// Incoming, after it has read all of it; Reload makes it visible. It may overlap
// with blocks and memory of this store. want is the block as its owner describes
// it; its zero value asks for no agreement.
//
// When a sound block of that ID is there already, dir is removed and the answer
// false. ErrDamagedBlock means that dir cannot be used; it is left to the
// caller.
func (s *Store) Import(ctx context.Context, dir string, want model.Block) (imported bool, err error) {
	meta, err := verify(ctx, dir, want)
	if err != nil {
		return false, fmt.Errorf("import block %s: %w", filepath.Base(dir), err)
	}
	id := meta.ULID.String()
	switch _, err := os.Lstat(filepath.Join(s.cfg.Dir, id)); {
	case err == nil && s.damagedBlocks()[id]:
		meta.ULID = ulid.Make() // the damaged one goes later
		id = meta.ULID.String()
	case err == nil:
		return false, os.RemoveAll(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	// What the block holds was not written from our memory: when the log is
	// replayed, nothing before its end may be skipped.
	meta.Compaction.SetOutOfOrder()
	meta.Compaction.Failed, meta.Compaction.Deletable = false, false
	if err := s.writeMeta(dir, meta); err != nil {
		return false, fmt.Errorf("import block %s: %w", id, err)
	}
	if err := s.syncTree(dir); err != nil {
		return false, fmt.Errorf("import block %s: %w", id, err)
	}
	if err := os.Rename(dir, filepath.Join(s.cfg.Dir, id)); err != nil {
		return false, fmt.Errorf("import block %s: %w", id, err)
	}
	if err := s.syncPath(s.cfg.Dir); err != nil {
		return false, fmt.Errorf("import block %s: %w", id, err)
	}
	s.m.imported.Inc()
	return true, nil
}

func readMeta(dir string) (m tsdb.BlockMeta, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: meta.json: %w", ErrDamagedBlock, err)
	}
	if m.Version != 1 {
		return m, fmt.Errorf("%w: meta.json has version %d", ErrDamagedBlock, m.Version)
	}
	return m, nil
}

func (s *Store) writeMeta(dir string, m tsdb.BlockMeta) error {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "meta.json.tmp")
	if err := os.WriteFile(tmp, b, 0o640); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, "meta.json"))
}

// syncTree makes all files and directories below dir durable.
func (s *Store) syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return s.syncPath(path)
	})
}

func (s *Store) syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.deps.Sync(f), f.Close())
}

// verify reads all of a block. Everything but its description carries checksums;
// the description must agree with what was read.
func verify(ctx context.Context, dir string, want model.Block) (meta tsdb.BlockMeta, err error) {
	defer func() { // damage may make the readers panic
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamagedBlock, p)
		}
		if err != nil && !starved(err) && !full(err) && ctx.Err() == nil && !errors.Is(err, ErrDamagedBlock) {
			err = fmt.Errorf("%w: %w", ErrDamagedBlock, err)
		}
	}()
	if meta, err = readMeta(dir); err != nil {
		return meta, err
	}
	got := describe(meta, 0)
	if want.ID != "" && (got.ID != want.ID || got.MinTime != want.MinTime || got.MaxTime != want.MaxTime ||
		got.Samples != want.Samples || got.Series != want.Series || got.Chunks != want.Chunks) {
		return meta, fmt.Errorf("%w: meta.json is not as its owner says", ErrDamagedBlock)
	}
	if meta.MinTime >= meta.MaxTime || meta.MinTime < minTime || meta.MaxTime > nowMilli()+2*blockRange {
		return meta, fmt.Errorf("%w: its times %d to %d are impossible", ErrDamagedBlock, meta.MinTime, meta.MaxTime)
	}
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	if err != nil {
		return meta, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return meta, verifyContent(ctx, b, meta)
}

func verifyContent(ctx context.Context, b *tsdb.Block, meta tsdb.BlockMeta) (err error) {
	ir, err := b.Index()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ir.Close()) }()
	cr, err := b.Chunks()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cr.Close()) }()
	k, v := index.AllPostingsKey()
	p, err := ir.Postings(ctx, k, v)
	if err != nil {
		return err
	}
	var st tsdb.BlockStats
	var lb labels.ScratchBuilder
	var metas []chunks.Meta
	var last labels.Labels
	mint, maxt := int64(math.MaxInt64), int64(math.MinInt64)
	for p.Next() && ctx.Err() == nil {
		if err := ir.Series(p.At(), &lb, &metas); err != nil {
			return err
		}
		ls := lb.Labels()
		if st.NumSeries > 0 && labels.Compare(last, ls) >= 0 {
			return fmt.Errorf("%w: series are not in order", ErrDamagedBlock)
		}
		last = ls
		st.NumSeries++
		for _, m := range metas {
			chk, _, err := cr.ChunkOrIterable(m)
			if err != nil {
				return fmt.Errorf("chunk %d of %s: %w", m.Ref, clip(ls.String()), err)
			}
			st.NumChunks++
			st.NumSamples += uint64(chk.NumSamples())
			mint, maxt = min(mint, m.MinTime), max(maxt, m.MaxTime)
		}
	}
	if err := errors.Join(p.Err(), ctx.Err()); err != nil {
		return err
	}
	// The TSDB counts a sample in no other way; what was deleted is counted too.
	if st.NumSeries != meta.Stats.NumSeries || st.NumChunks != meta.Stats.NumChunks || st.NumSamples != meta.Stats.NumSamples {
		return fmt.Errorf("%w: it has %d series, %d chunks and %d samples, its description says %d, %d and %d", ErrDamagedBlock,
			st.NumSeries, st.NumChunks, st.NumSamples, meta.Stats.NumSeries, meta.Stats.NumChunks, meta.Stats.NumSamples)
	}
	if mint < meta.MinTime || maxt >= meta.MaxTime {
		return fmt.Errorf("%w: its samples lie between %d and %d, outside %d to %d", ErrDamagedBlock, mint, maxt, meta.MinTime, meta.MaxTime)
	}
	return verifyPostings(ctx, ir)
}

// verifyPostings reads the list of series of every label and value: damage there
// would make queries miss series.
func verifyPostings(ctx context.Context, ir tsdb.IndexReader) error {
	names, err := ir.LabelNames(ctx)
	if err != nil {
		return err
	}
	for _, n := range names {
		values, err := ir.LabelValues(ctx, n, nil)
		if err != nil {
			return err
		}
		for len(values) > 0 {
			part := values[:min(len(values), 256)]
			values = values[len(part):]
			if _, err := ir.Postings(ctx, n, part...); err != nil {
				return fmt.Errorf("postings of %s: %w", clip(n), err)
			}
		}
	}
	return ctx.Err()
}

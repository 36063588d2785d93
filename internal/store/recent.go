package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"panoptes/internal/model"
)

// Recent writes what is in memory between two times into blocks of a temporary
// directory, two hours each, with their files open, so that another server can
// copy them. Samples that came out of order go into blocks of this store first:
// list the blocks afterwards. The caller calls done.
func (s *Store) Recent(ctx context.Context, mint, maxt int64) (blocks []model.Block, done func(), err error) {
	dir, err := s.tempDir("recent-")
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		for i := range blocks {
			_ = blocks[i].Close() // they were only read
		}
		if err := os.RemoveAll(dir); err != nil {
			s.log.Warn("temporary blocks not removed", "dir", dir, "err", err)
		}
	}
	err = s.compact(func(db *tsdb.DB) error {
		if err := db.CompactOOOHead(ctx); err != nil {
			return fmt.Errorf("write late samples into blocks: %w", err)
		}
		return nil
	})
	if err == nil {
		err = s.with(func(db *tsdb.DB) (err error) {
			blocks, err = s.writeHead(ctx, db, dir, mint, maxt)
			return err
		})
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return blocks, done, nil
}

func (s *Store) writeHead(ctx context.Context, db *tsdb.DB, dir string, mint, maxt int64) (blocks []model.Block, err error) {
	c, err := tsdb.NewLeveledCompactor(ctx, nil, s.log, []int64{blockRange}, chunkenc.NewPool(), nil)
	if err != nil {
		return nil, err
	}
	from, to := max(mint, db.Head().MinTime()), min(maxt, db.Head().MaxTime()+1)
	if from >= to { // also when nothing is in memory
		return nil, nil
	}
	for t := floor(from, blockRange); t < to; t += blockRange {
		ids, err := c.Write(dir, &memory{tsdb.NewRangeHead(db.Head(), t, t+blockRange-1), db.Head()}, t, t+blockRange, nil)
		if err != nil {
			return blocks, fmt.Errorf("write memory into a block: %w", err)
		}
		for _, id := range ids {
			b := model.Block{ID: id.String()}
			meta, err := readMeta(filepath.Join(dir, b.ID))
			if err == nil {
				b = describe(meta, 0)
				err = openFiles(filepath.Join(dir, b.ID), &b)
			}
			if err != nil {
				return blocks, err
			}
			blocks = append(blocks, b)
		}
	}
	return blocks, nil
}

const blockRange = int64(2 * time.Hour / time.Millisecond)

// floor is the largest multiple of step that is not above t.
func floor(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

// memory is a part of what is in memory that can be read while the database
// writes blocks of it.
type memory struct {
	*tsdb.RangeHead
	head *tsdb.Head
}

// Chunks refuses to read what is about to be freed.
func (m *memory) Chunks() (tsdb.ChunkReader, error) {
	r, err := m.RangeHead.Chunks()
	if err != nil {
		return nil, err
	}
	if freed, _, _ := m.head.IsQuerierCollidingWithTruncation(m.MinTime(), m.MaxTime()); freed {
		return nil, errors.Join(fmt.Errorf("a block is being written, try again: %w", model.ErrUnavailable), r.Close())
	}
	return r, nil
}

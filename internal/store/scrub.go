package store

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"panoptes/internal/model"
)

// scrubber reads blocks slowly, so that flipped bits are found while another
// server still has the samples. Opening a block does not read its samples.
type scrubber struct {
	s    *Store
	seen map[ulid.ULID]time.Time // when a block was read last
}

func newScrubber(s *Store) *scrubber {
	return &scrubber{s: s, seen: make(map[ulid.ULID]time.Time)}
}

// run reads one block after the other until ctx ends.
func (c *scrubber) run(ctx context.Context) {
	if c.s.cfg.ScrubRate <= 0 {
		return
	}
	tick := time.NewTicker(c.s.cfg.ScrubPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.step(ctx)
		}
	}
}

// step reads one block that is due. It gives up when the database is to be
// opened again.
func (c *scrubber) step(ctx context.Context) {
	h, err := c.s.acquireRead()
	if err != nil {
		return
	}
	defer c.s.release(h)
	b := c.due(h.db.Blocks())
	if b == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.leaving, cancel)()
	start := time.Now()
	size, err := readBlock(ctx, b, c.s.cfg.ScrubRate)
	if ctx.Err() != nil {
		return
	}
	c.seen[b.Meta().ULID] = start
	if err != nil {
		m := b.Meta()
		c.s.report(DamageReport{Kind: DamageChunk, Path: m.ULID.String(), Err: err.Error(), MinTime: m.MinTime, MaxTime: m.MaxTime})
		return
	}
	c.s.m.scrubbed.Add(float64(size))
}

// due returns the block that was not read for longest, if that is long enough,
// and forgets blocks that are gone.
func (c *scrubber) due(blocks []*tsdb.Block) *tsdb.Block {
	seen := make(map[ulid.ULID]time.Time, len(blocks))
	var best *tsdb.Block
	for _, b := range blocks {
		id := b.Meta().ULID
		at := c.seen[id]
		seen[id] = at
		if time.Since(at) >= c.s.cfg.ScrubInterval && (best == nil || at.Before(seen[best.Meta().ULID])) {
			best = b
		}
	}
	c.seen = seen
	return best
}

// readBlock reads every chunk of a block, which checks its checksum, at rate
// bytes a second, and returns how many bytes that were.
func readBlock(ctx context.Context, b *tsdb.Block, rate int64) (size int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read: %v", p)
		}
	}()
	ir, err := b.Index()
	if err != nil {
		return 0, err
	}
	defer ir.Close()
	cr, err := b.Chunks()
	if err != nil {
		return 0, err
	}
	defer cr.Close()
	k, v := index.AllPostingsKey()
	p, err := ir.Postings(ctx, k, v)
	if err != nil {
		return 0, err
	}
	var lb labels.ScratchBuilder
	var metas []chunks.Meta
	var ahead int64 // bytes read since the last rest
	for p.Next() && ctx.Err() == nil {
		if err := ir.Series(p.At(), &lb, &metas); err != nil {
			return size, fmt.Errorf("series %d: %w", p.At(), err)
		}
		for _, m := range metas {
			chk, _, err := cr.ChunkOrIterable(m)
			if err != nil {
				return size, fmt.Errorf("chunk %d of %s: %w", m.Ref, clip(lb.Labels().String()), err)
			}
			if chk != nil {
				size += int64(len(chk.Bytes()))
				ahead += int64(len(chk.Bytes()))
			}
		}
		if pause := time.Duration(float64(ahead) / float64(rate) * float64(time.Second)); pause > 50*time.Millisecond {
			ahead = 0
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return size, p.Err()
}

// Verify reads a block at once, because somebody has reason to think that it is
// damaged. It reports damage as the scrubber does and returns it.
func (s *Store) Verify(ctx context.Context, id string) error {
	h, err := s.acquireRead()
	if err != nil {
		return err
	}
	defer s.release(h)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.leaving, cancel)()
	for _, b := range h.db.Blocks() {
		if m := b.Meta(); m.ULID.String() == id {
			if _, err = readBlock(ctx, b, 200*mib); err == nil || ctx.Err() != nil {
				return ctx.Err()
			}
			if !s.damagedBlocks()[id] {
				s.report(DamageReport{Kind: DamageChunk, Path: id, Err: err.Error(), MinTime: m.MinTime, MaxTime: m.MaxTime})
			}
			return fmt.Errorf("read block %s: %w", id, err)
		}
	}
	return fmt.Errorf("read block %q: %w", clip(id), model.ErrNotFound)
}

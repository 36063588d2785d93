package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// copyBlocks imports the blocks that are missing here, until there are no more.
func (r *Replica) copyBlocks(ctx context.Context, src source, n *Need) error {
	var bad []string
	loaded := time.Now()
	for {
		missing, err := r.missing(ctx, src, *n, bad)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			break
		}
		if err := r.enoughSpace(missing); err != nil {
			return err
		}
		b := missing[0]
		switch err := r.copyBlock(ctx, src, b); {
		case errors.Is(err, errDamagedSource):
			bad = append(bad, b.ID)
			r.log.Warn("block not copied", "block", b.ID, "node", src.id, "err", err)
			continue
		case errors.Is(err, model.ErrNotFound):
			continue // it was merged into another, or is too old by now
		case err != nil:
			return err
		}
		n.Blocks = append(n.Blocks, b.ID)
		if err := r.save(*n); err != nil {
			return err
		}
		if time.Since(loaded) > 2*time.Second {
			if err := r.deps.Store.Reload(ctx); err != nil {
				return err
			}
			loaded = time.Now()
		}
	}
	if err := r.deps.Store.Reload(ctx); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %s", errDamagedSource, strings.Join(bad, ", "))
	}
	return nil
}

// missing lists the blocks of the source that hold something which is not here,
// the newest first: it is asked for most.
func (r *Replica) missing(ctx context.Context, src source, n Need, bad []string) ([]model.Block, error) {
	c, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	theirs, err := wire.Call[info](c, src.conn, methodInfo, infoRequest{Blocks: true})
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	own, err := r.deps.Store.Blocks()
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool) // what came into being once and is in a block here
	for _, b := range own {
		if b.Damaged {
			continue
		}
		have[b.ID] = true
		for _, s := range b.Sources {
			have[s] = true
		}
	}
	for _, id := range n.Blocks {
		have[id] = true
	}
	horizon := r.deps.Store.Horizon()
	var out []model.Block
	var total int64
	damaged := 0
	for _, b := range theirs.Blocks {
		switch {
		case !blockID(b.ID), b.MaxTime <= horizon, !n.overlaps(b.MinTime, b.MaxTime), have[b.ID], slices.Contains(bad, b.ID):
			continue
		case len(b.Sources) > 0 && !slices.ContainsFunc(b.Sources, func(s string) bool { return !have[s] }):
			continue
		}
		if b.Damaged {
			damaged++
			continue
		}
		total += b.Bytes
		out = append(out, b)
	}
	r.update(func(s *Status) { s.Total = s.Done + total })
	if len(out) == 0 && damaged > 0 {
		return nil, fmt.Errorf("%w: %d", errDamagedSource, damaged)
	}
	slices.SortFunc(out, func(a, b model.Block) int {
		if a.MaxTime != b.MaxTime {
			return int(max(-1, min(1, b.MaxTime-a.MaxTime)))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

// enoughSpace refuses a copy that would fill the disk.
func (r *Replica) enoughSpace(blocks []model.Block) error {
	var need int64
	for _, b := range blocks {
		need += b.Bytes
	}
	free, err := r.deps.Store.Free()
	if err != nil {
		return err
	}
	if need += need / 20; need > free { // for what is written beside
		return fmt.Errorf("the copy needs %d MiB and %d MiB may be used; free some space on the disk of the time series, or give it a larger one: %w", need>>20, max(0, free)>>20, model.ErrNoSpace)
	}
	return nil
}

// copyBlock fetches and imports one block. A file that was damaged on the way is
// fetched again; a block that is damaged at the source is left.
func (r *Replica) copyBlock(ctx context.Context, src source, b model.Block) error {
	in, err := r.deps.Store.Incoming()
	if err != nil {
		return err
	}
	dir := filepath.Join(in, b.ID)
	var got model.Block
	for range 4 {
		if got, err = r.fetch(ctx, src.conn, b.ID, dir); !errors.Is(err, errTransit) {
			break
		}
		r.m.bad.Inc()
		r.log.Warn("file of a block damaged on the way, fetched again", "block", b.ID, "node", src.id, "err", err)
	}
	if err != nil {
		return err
	}
	got.Files = nil
	if got.MinTime != b.MinTime || got.MaxTime != b.MaxTime || got.Samples != b.Samples {
		return fmt.Errorf("%w: block %s is not as it was listed", errProtocol, b.ID)
	}
	imported, err := r.deps.Store.Import(ctx, dir, got)
	if err == nil {
		if imported {
			r.m.blocks.Inc()
		}
		return nil
	}
	if !errors.Is(err, model.ErrDamaged) {
		return err
	}
	r.m.bad.Inc()
	if rerr := os.RemoveAll(dir); rerr != nil {
		return errors.Join(err, rerr)
	}
	// It left there as it lies on the disk: the source should look.
	c, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, serr := wire.Call[struct{}](c, src.conn, methodSuspect, suspect{ID: b.ID}); serr != nil {
		r.log.Debug("source told of its damaged block", "answer", serr)
	}
	return fmt.Errorf("%w: %w", errDamagedSource, err)
}

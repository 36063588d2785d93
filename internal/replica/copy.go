package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// Why a source is given up.
var (
	errDamagedSource = errors.New("blocks are damaged there")
	errNoSource      = fmt.Errorf("no other server has what is missing here: %w", model.ErrUnavailable)
)

// source is a server that can be copied from.
type source struct {
	id   string
	conn wire.Conn
	info info
}

// runCopies meets one need after the other.
func (r *Replica) runCopies(ctx context.Context) {
	wait := r.cfg.Retry
	for ctx.Err() == nil {
		n, ok := r.first()
		if !ok {
			select {
			case <-ctx.Done():
			case <-r.kick:
			}
			wait = r.cfg.Retry
			continue
		}
		err := r.meet(ctx, n)
		if err == nil {
			wait = r.cfg.Retry
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.m.failures.Inc()
		r.update(func(s *Status) { s.LastErr = err.Error() })
		r.log.Warn("copy not complete, it will go on", "reason", n.Reason, "in", wait, "err", err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.kick: // there may be something that can be done
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, 10*r.cfg.Retry)
		r.rotate(n)
	}
}

// rotate lets other needs try before one that failed.
func (r *Replica) rotate(n Need) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.state.Needs, n.same); i == 0 && len(r.state.Needs) > 1 {
		r.state.Needs = append(r.state.Needs[1:], r.state.Needs[0])
	}
}

// meet copies what a need asks for from the first source that has it.
func (r *Replica) meet(ctx context.Context, n Need) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	if err := r.waitFed(ctx); err != nil {
		return err
	}
	start := time.Now()
	r.update(func(s *Status) { s.Copying, s.Done, s.Total = true, 0, 0 })
	defer r.update(func(s *Status) { s.Copying, s.Source = false, "" })
	sources, err := r.sources(ctx, n)
	if err != nil {
		return err
	}
	var errs []error
	damaged, others := 0, false
	for _, src := range sources {
		r.update(func(s *Status) { s.Source = src.id })
		err := r.copyFrom(ctx, src, &n)
		if err == nil {
			others = false
			errs, damaged = nil, 0
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", model.ErrNoSpace, err)
		}
		if errors.Is(err, model.ErrNoSpace) {
			return err // it is our disk
		}
		if errors.Is(err, errDamagedSource) {
			damaged++
		} else {
			others = true
		}
		r.log.Warn("copy from a server not complete, another is tried", "node", src.id, "err", err)
		errs = append(errs, fmt.Errorf("copy from %s: %w", src.id, err))
	}
	if others || damaged > 0 && damaged < len(sources) {
		return errors.Join(errs...)
	}
	return r.finish(ctx, n, start, errors.Join(errs...))
}

// finish notes that a need was met; lost says what could be had from nobody.
func (r *Replica) finish(ctx context.Context, n Need, start time.Time, lost error) error {
	if n.Block != "" && lost == nil {
		if err := r.deps.Store.Retire(ctx, n.Block); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.state.met(n)
	err := r.state.write(r.cfg.Dir)
	idle := len(r.state.Needs) == 0
	done := r.status.Done
	r.status.LastErr = ""
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("note that the copy is done: %w", err)
	}
	if idle {
		if err := r.sweep(); err != nil {
			r.log.Warn("rests of copies not removed", "err", err)
		}
	}
	if lost != nil {
		r.log.Error("samples are lost: they are damaged on every server", "reason", n.Reason, "err", lost)
		r.emit(ctx, "critical", "store.lost", fmt.Sprintf("samples between %s and %s are damaged on every server: %v", when(n.From, "the beginning"), when(n.To, "now"), lost), nil)
		return nil
	}
	took := time.Since(start)
	r.log.Info("copy complete", "reason", n.Reason, "bytes", done, "took", took)
	r.emit(ctx, "info", "store.copied", fmt.Sprintf("copied what was missing between %s and %s (%s): %d bytes in %s", when(n.From, "the beginning"), when(n.To, "now"), n.Reason, done, took.Round(time.Millisecond)), nil)
	return nil
}

func when(ms int64, zero string) string {
	if ms == 0 {
		return zero
	}
	return instant(ms).Format(time.RFC3339)
}

// waitFed waits until what is new comes by itself. After a while it goes on: a
// comparison finds what fell between.
func (r *Replica) waitFed(ctx context.Context) error {
	end := time.Now().Add(r.cfg.FedWait)
	for !r.deps.Fed() {
		if time.Now().After(end) {
			r.log.Warn("copy begins although not every live server sends to this one yet", "waited", r.cfg.FedWait)
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// peers asks the live servers what they have. Those that do not answer are left
// out.
func (r *Replica) peers(ctx context.Context) (out []source, err error) {
	var errs []error
	for _, id := range r.deps.Alive() {
		if id == r.cfg.NodeID {
			continue
		}
		s := source{id: id}
		if s.conn, err = r.deps.Dial(id); err == nil {
			c, cancel := context.WithTimeout(ctx, 5*time.Second)
			s.info, err = wire.Call[info](c, s.conn, methodInfo, infoRequest{})
			cancel()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s: %w", id, err))
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// sources returns who can be copied from, the best first: servers that lack
// nothing of it, those with fewer copies before the others. When two servers
// lack things at the same time they may copy from each other, but never from one
// that is being filled itself.
func (r *Replica) sources(ctx context.Context, n Need) ([]source, error) {
	all, err := r.peers(ctx)
	if len(all) == 0 {
		return nil, errors.Join(errNoSource, err)
	}
	var whole, partial []source
	for _, s := range all {
		lacks, filled := false, false
		for _, v := range s.info.Needs {
			filled = filled || v.All
			lacks = lacks || Need{From: v.From, To: v.To}.overlaps(n.From, n.To)
		}
		switch {
		case !lacks:
			whole = append(whole, s)
		case !filled && !n.all():
			partial = append(partial, s)
		}
	}
	slices.SortStableFunc(whole, func(a, b source) int { return a.info.Busy - b.info.Busy })
	if len(whole) == 0 && len(partial) == 0 {
		return nil, fmt.Errorf("the other servers are being filled themselves: %w", errors.Join(errNoSource, err))
	}
	if len(whole) == 0 {
		return partial, nil
	}
	return whole, nil
}

// copyFrom copies all that n asks for, or goes on with it.
func (r *Replica) copyFrom(ctx context.Context, src source, n *Need) error {
	if n.Events && !n.EventsDone {
		if err := r.copyEvents(ctx, src, n); err != nil {
			return err
		}
	}
	if !n.Samples {
		return nil
	}
	if err := r.copyBlocks(ctx, src, n); err != nil && !errors.Is(err, errDamagedSource) {
		return err
	}
	if err := r.copyRecent(ctx, src, *n); err != nil {
		return err
	}
	// What was in memory when the blocks were listed may be in a block by now.
	if err := r.copyBlocks(ctx, src, n); err != nil {
		return err
	}
	return r.deps.Store.Reload(ctx)
}

// copyRecent takes over what the source has in memory; a block that is being
// written there makes it try again.
func (r *Replica) copyRecent(ctx context.Context, src source, n Need) (err error) {
	for range 5 {
		if err = r.fetchRecent(ctx, src.conn, n); err == nil {
			return nil
		}
		if !errors.Is(err, model.ErrUnavailable) && !errors.Is(err, errTransit) {
			break
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("copy what is in memory: %w", err)
}

func (r *Replica) copyEvents(ctx context.Context, src source, n *Need) error {
	for pages := 1; ; pages++ {
		c, cancel := context.WithTimeout(ctx, 30*time.Second)
		p, err := wire.Call[eventsPage](c, src.conn, methodEvents, eventsRequest{From: n.From, To: n.To, Cursor: n.Cursor, Limit: maxPage})
		cancel()
		if err != nil {
			return fmt.Errorf("copy events: %w", err)
		}
		added, err := r.deps.History.Import(ctx, p.Events...)
		r.m.events.Add(float64(added))
		r.update(func(s *Status) { s.Events += int64(added) })
		if err != nil {
			return fmt.Errorf("copy events: %w", err)
		}
		n.Cursor, n.EventsDone = p.Next, p.Next == ""
		if n.EventsDone || pages%10 == 0 {
			if err := r.save(*n); err != nil {
				return err
			}
		}
		if n.EventsDone {
			return nil
		}
	}
}

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

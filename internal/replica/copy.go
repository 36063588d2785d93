package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// runCopies meets one need after the other.
func (r *Replica) runCopies(ctx context.Context) {
	wait, told := r.cfg.Retry, ""
	for ctx.Err() == nil {
		n, ok := r.first()
		if !ok {
			select {
			case <-ctx.Done():
			case <-r.kick:
			}
			wait, told = r.cfg.Retry, ""
			continue
		}
		err := r.meet(ctx, n)
		if err == nil {
			wait, told = r.cfg.Retry, ""
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.m.failures.Inc()
		r.update(func(s *Status) { s.LastErr = err.Error() })
		if errors.Is(err, errNoSource) {
			wait = min(r.cfg.Retry, sourceEvery) // looking for one costs nothing
		}
		if told != err.Error() || !errors.Is(err, errNoSource) {
			told = err.Error()
			r.log.Warn("copy not complete, it will go on", "reason", n.Reason, "in", wait, "err", err)
		}
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
	if err != nil && n.Lost != "" && r.deps.Alone() {
		return r.finish(ctx, n, start, errors.New("there is no other server"))
	}
	if errors.Is(err, errNoSource) && n.all() && r.eldest(ctx) {
		r.log.Warn("all servers on record are being filled; what this one has counts as everything", "reason", n.Reason)
		return r.finish(ctx, n, start, nil)
	}
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
		r.log.Error("samples or events are lost: nobody else has them", "reason", n.Reason, "err", lost)
		r.emit(ctx, "critical", "store.lost", fmt.Sprintf("what is damaged between %s and %s cannot be had from another server: %v", when(n.From, "the beginning"), when(n.To, "now"), lost), nil)
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

package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// compareEvents compares days of events and takes what is missing.
func (r *Replica) compareEvents(ctx context.Context, p source, upTo time.Time, old bool, rep *Report) error {
	end := upTo.UnixMilli()
	from := floor(end, dayMS) - (eventDays-1)*dayMS
	horizon := int64(0)
	if h := r.deps.History.Horizon(); !h.IsZero() {
		horizon = floor(h.UnixMilli(), dayMS) + dayMS
	}
	if err := r.compareDays(ctx, p, max(from, horizon), end, rep); err != nil || !old {
		return err
	}
	if horizon == 0 {
		horizon = floor(upTo.AddDate(-1, 0, 0).UnixMilli(), dayMS)
	}
	if n := (from - horizon) / dayMS; n > 0 {
		day := horizon + rand.Int64N(n)*dayMS
		return r.compareDays(ctx, p, day, day+dayMS, rep)
	}
	return nil
}

func (r *Replica) compareDays(ctx context.Context, p source, from, to int64, rep *Report) error {
	if from >= to {
		return nil
	}
	theirs, err := wire.Call[[]model.EventDigest](ctx, p.conn, methodDays, daysRequest{From: from, To: to})
	if err != nil {
		return err
	}
	mine, err := r.deps.History.Digests(ctx, instant(from), instant(to))
	if err != nil {
		return err
	}
	rep.Days += int((to - from + dayMS - 1) / dayMS)
	if len(theirs) > 2*366 {
		return fmt.Errorf("%w: digests of %d days", errProtocol, len(theirs))
	}
	for _, d := range theirs {
		if slices.Contains(mine, d) {
			continue
		}
		rep.Different++
		day, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			return fmt.Errorf("%w: day %q", errProtocol, d.Day)
		}
		// What is under way shall arrive by itself.
		if err := r.confirm(ctx); err != nil {
			return err
		}
		added, err := r.takeEvents(ctx, p, max(from, day.UnixMilli()), min(to, day.UnixMilli()+dayMS))
		rep.Events += added
		if added > 0 {
			rep.Mismatch++
			r.log.Warn("events were missing here, taken from another server", "node", p.id, "day", d.Day, "events", added)
			r.emit(ctx, "warning", "history.repaired", fmt.Sprintf("%d events of %s that were missing were taken from another server", added, d.Day), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Replica) takeEvents(ctx context.Context, p source, from, to int64) (added int, err error) {
	for cursor := ""; ; {
		page, err := wire.Call[eventsPage](ctx, p.conn, methodEvents, eventsRequest{From: from, To: to, Cursor: cursor, Limit: maxPage})
		if err != nil {
			return added, err
		}
		n, err := r.deps.History.Import(ctx, page.Events...)
		added += n
		r.m.events.Add(float64(n))
		if err != nil || page.Next == "" {
			return added, err
		}
		cursor = page.Next
	}
}

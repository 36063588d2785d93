package history

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"panoptes/internal/model"
)

// pageBytes bounds a page, whatever its number of events.
const pageBytes = 2 << 20

// Page returns events for copying, the oldest first, from the first instant
// (inclusive) to the second (exclusive; zero: no end) and after the cursor of
// the page before. The next cursor is empty when there are no more. A page may
// have fewer events than limit when they are large.
func (h *History) Page(ctx context.Context, from, to time.Time, cursor string, limit int) (events []model.Event, next string, err error) {
	if limit < 1 || limit > maxLimit {
		return nil, "", model.Invalid{{Field: "limit", Msg: fmt.Sprintf("must lie between 1 and %d", maxLimit)}}
	}
	pos := position{ms: from.UnixMilli()} // an empty id comes before all
	if cursor != "" {
		p, err := decodeCursor(cursor)
		if err != nil {
			return nil, "", model.Invalid{{Field: "cursor", Msg: err.Error()}}
		}
		pos = p
	}
	rows, err := h.read.QueryContext(ctx, "SELECT "+columns+` FROM events
		WHERE (ms, id) > (?, ?) AND ms >= ? AND ms < ? ORDER BY ms, id LIMIT ?`, pos.ms, pos.id, from.UnixMilli(), endOf(to), limit+1)
	if err != nil {
		return nil, "", h.fail("read events", err)
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		e, err := scan(rows)
		if err != nil {
			return nil, "", h.fail("read events", err)
		}
		size += weight(e)
		if len(events) == limit || len(events) > 0 && size > pageBytes {
			last := events[len(events)-1]
			return events, encodeCursor(position{ms: last.Time.UnixMilli(), id: last.ID}), nil
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil && ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	return events, "", h.fail("read events", rows.Err())
}

// endOf is a time as an exclusive end; the zero time is none.
func endOf(t time.Time) int64 {
	if t.IsZero() {
		return 1<<63 - 1
	}
	return t.UnixMilli()
}

// weight is about what an event has as JSON.
func weight(e model.Event) int {
	n := 200 + len(e.Subject) + len(e.Name) + len(e.Severity) + len(e.Actor) + len(e.Message) + len(e.Code) + len(e.Data) + len(e.Kind)
	for k, v := range e.Labels {
		n += len(k) + len(v)
	}
	return n
}

// Digests returns, for every day (UTC) that has events between the two instants,
// how many they are and a hash over which ones.
func (h *History) Digests(ctx context.Context, from, to time.Time) (out []model.EventDigest, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT ms, id FROM events WHERE ms >= ? AND ms < ? ORDER BY ms, id", from.UnixMilli(), endOf(to))
	if err != nil {
		return nil, h.fail("read events", err)
	}
	defer rows.Close()
	const dayMS = 24 * 60 * 60 * 1000
	day := int64(-1 << 62)
	var ms int64
	var id []byte
	for rows.Next() {
		if err := rows.Scan(&ms, &id); err != nil {
			return nil, h.fail("read events", err)
		}
		if ms < day || ms >= day+dayMS {
			t := time.UnixMilli(ms).UTC().Truncate(24 * time.Hour)
			day = t.UnixMilli()
			out = append(out, model.EventDigest{Day: t.Format(time.DateOnly)})
		}
		d := &out[len(out)-1]
		f := fnv.New64a()
		_, _ = f.Write(id) // it cannot fail
		v := f.Sum64() * 14029467366897019727
		d.Count++
		d.Hash += v ^ v>>31
	}
	if err := rows.Err(); err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, h.fail("read events", rows.Err())
}

// Import stores events that another server has, and returns how many were new
// here. Unlike after Append nobody is told of them: they are old, and must not
// raise anything. The errors are those of Append.
func (h *History) Import(ctx context.Context, events ...model.Event) (added int, err error) {
	if err := model.ValidateEvents(events); err != nil {
		return 0, err
	}
	const group = 512 // so that Append waits for milliseconds only
	for len(events) > 0 {
		part := events[:min(len(events), group)]
		events = events[len(part):]
		n, err := h.importGroup(ctx, part)
		added += n
		if err != nil {
			return added, err
		}
	}
	return added, nil
}

func (h *History) importGroup(ctx context.Context, events []model.Event) (added int, err error) {
	closed := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.closed
	}
	if closed() { // the token is not given back then
		return 0, errClosed
	}
	if err := h.space.check(); err != nil {
		return 0, fmt.Errorf("import events: %w", err)
	}
	err = h.exclusive(ctx, func() error {
		if closed() {
			return errClosed
		}
		fresh, err := h.commit([]*request{{events: events}})
		if err != nil {
			return h.appendFailed(err)
		}
		added = len(fresh)
		return nil
	})
	h.metrics.events.Add(float64(added))
	if err != nil && !errors.Is(err, context.Cause(ctx)) {
		return added, fmt.Errorf("import events: %w", err)
	}
	return added, err
}

// Horizon returns the time before which events are removed, zero when all are
// kept.
func (h *History) Horizon() time.Time {
	if h.cfg.Retention == 0 {
		return time.Time{}
	}
	return time.Now().Add(-h.cfg.Retention)
}

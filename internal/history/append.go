package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Bounds of what is written.
const (
	maxGroup   = 4096    // events in one transaction
	maxWaiting = 1 << 17 // events that wait for the disk
)

// request is one call of Append that waits for its commit.
type request struct {
	events []model.Event
	done   chan error // buffered: the writer never waits for a caller that left
}

// Append stores the events and returns when they are safe on disk. Those that
// are there already are skipped. Calls that arrive while the disk is busy share
// the next transaction. Either all events of a call are stored or none.
//
// Errors: model.Invalid (the event has no ULID, no kind, or is too long),
// model.ErrNoSpace (try again later; nothing has to be restarted),
// model.ErrUnavailable (closed, or too many events wait for a slow disk).
// When ctx ends first the events may be stored or not.
func (h *History) Append(ctx context.Context, events ...model.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := model.ValidateEvents(events); err != nil {
		return err
	}
	req := &request{events: events, done: make(chan error, 1)}
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return errClosed
	case h.waiting+len(events) > maxWaiting:
		n := h.waiting
		h.mu.Unlock()
		return fmt.Errorf("%w: %d events wait for the disk", model.ErrUnavailable, n)
	}
	h.pending = append(h.pending, req)
	h.waiting += len(events)
	h.mu.Unlock()
	for {
		select {
		case err := <-req.done:
			return err
		case h.token <- struct{}{}:
			// This caller writes for all that wait. Its own request may have
			// been written by the one before, or be left over for the next turn.
			h.writeGroup()
			<-h.token
		case <-ctx.Done():
			h.withdraw(req)
			return context.Cause(ctx)
		}
	}
}

// withdraw takes back a request that nobody has begun to write.
func (h *History) withdraw(req *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.pending, req); i >= 0 {
		h.pending = slices.Delete(h.pending, i, i+1)
		h.waiting -= len(req.events)
	}
}

func (h *History) failPending(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.pending {
		r.done <- err
	}
	h.pending, h.waiting = nil, 0
}

// take removes the next group from the queue: whole requests, at least one.
func (h *History) take() (group []*request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for len(h.pending) > 0 {
		r := h.pending[0]
		if len(group) > 0 && n+len(r.events) > maxGroup {
			break
		}
		group = append(group, r)
		n += len(r.events)
		h.pending = h.pending[1:]
	}
	h.waiting -= n
	return group
}

// writeGroup stores one group. The caller holds the token.
func (h *History) writeGroup() {
	group := h.take()
	if len(group) == 0 {
		return
	}
	if err := h.space.check(); err != nil {
		h.metrics.failed.Inc()
		for _, r := range group {
			r.done <- fmt.Errorf("append events: %w", err)
		}
		return
	}
	begin := time.Now()
	fresh, err := h.commit(group)
	if err != nil && len(group) > 1 && !isFull(err) && !isDamage(err) {
		// One request must not spoil the others.
		fresh = fresh[:0]
		for _, r := range group {
			f, err := h.commit([]*request{r})
			r.done <- h.appendFailed(err)
			fresh = append(fresh, f...)
		}
	} else {
		err = h.appendFailed(err)
		for _, r := range group {
			r.done <- err
		}
	}
	h.metrics.commit.Observe(time.Since(begin).Seconds())
	h.metrics.events.Add(float64(len(fresh)))
	h.publish(fresh)
}

func (h *History) appendFailed(err error) error {
	if err != nil {
		h.metrics.failed.Inc()
		h.space.forget()
	}
	return h.fail("append events", err)
}

const insertEvent = `INSERT INTO events (id, ms, ns, kind, subject, name, severity, actor, message, code, labels, data, search)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`

const insertLast = `INSERT INTO last_states (subject, ms, id) VALUES (?,?,?)
ON CONFLICT (subject) DO UPDATE SET ms = excluded.ms, id = excluded.id WHERE (excluded.ms, excluded.id) > (ms, id)`

// commit stores the events in one transaction and returns those that were new.
// It does not end with the caller's context: others wait for it too.
func (h *History) commit(group []*request) (fresh []model.Event, err error) {
	ctx := context.Background()
	tx, err := h.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // the first error is the one that tells something
		}
	}()
	insert, err := tx.PrepareContext(ctx, insertEvent)
	if err != nil {
		return nil, err
	}
	defer insert.Close()
	last, err := tx.PrepareContext(ctx, insertLast)
	if err != nil {
		return nil, err
	}
	defer last.Close()
	for _, r := range group {
		for _, e := range r.events {
			isNew, err := insertOne(ctx, insert, last, e)
			if err != nil {
				return nil, err
			}
			if isNew {
				fresh = append(fresh, e)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	return fresh, nil
}

func insertOne(ctx context.Context, insert, last *sql.Stmt, e model.Event) (bool, error) {
	labels := ""
	if len(e.Labels) > 0 {
		b, err := json.Marshal(e.Labels)
		if err != nil {
			return false, err
		}
		labels = string(b)
	}
	ms, ns := split(e.Time)
	res, err := insert.ExecContext(ctx, e.ID, ms, ns, string(e.Kind), e.Subject, e.Name, e.Severity, e.Actor,
		e.Message, e.Code, labels, string(e.Data), strings.ToLower(e.Name+"\n"+e.Message+"\n"+e.Actor))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return false, err
	}
	if e.Kind == model.EventState {
		_, err = last.ExecContext(ctx, e.Subject, ms, e.ID)
	}
	return true, err
}

// split cuts a time into milliseconds since 1970 and the nanoseconds beyond.
func split(t time.Time) (ms, ns int64) {
	return t.UnixMilli(), int64(t.Nanosecond() % int(time.Millisecond))
}

func joinTime(ms, ns int64) time.Time { return time.UnixMilli(ms).Add(time.Duration(ns)).UTC() }

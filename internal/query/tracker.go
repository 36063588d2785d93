package query

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"

	"panoptes/internal/model"
)

// closeWait bounds how long a stop waits for the queries that still run.
const closeWait = 10 * time.Second

// tracker limits how many queries are evaluated at once and notes them in a
// file, so that after a crash the log names the suspects.
type tracker struct {
	max   int
	slots chan struct{}
	file  *promql.ActiveQueryTracker // nil without a directory

	mu     sync.Mutex // guards the fields below
	closed bool
	active int
	idle   chan struct{} // closed once closed is set and active is 0
}

func newTracker(dir string, limit int, log *slog.Logger) *tracker {
	t := &tracker{max: limit, slots: make(chan struct{}, limit), idle: make(chan struct{})}
	if dir != "" {
		t.file = openFile(dir, limit, log)
	}
	return t
}

// openFile returns nil when the file cannot be used: queries matter more than
// the note about them.
func openFile(dir string, limit int, log *slog.Logger) (f *promql.ActiveQueryTracker) {
	defer func() {
		if r := recover(); r != nil {
			log.Warn("active queries are not noted", "dir", dir, "err", r)
			f = nil
		}
	}()
	return promql.NewActiveQueryTracker(dir, limit, log)
}

// GetMaxConcurrent implements promql.QueryTracker.
func (t *tracker) GetMaxConcurrent() int { return t.max }

// Insert implements promql.QueryTracker: it waits for a free slot.
func (t *tracker) Insert(ctx context.Context, query string) (int, error) {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		<-t.slots
		return 0, fmt.Errorf("%w: shutting down", model.ErrUnavailable)
	}
	t.active++
	t.mu.Unlock()
	if t.file == nil {
		return 0, nil
	}
	// The file has as many places as there are slots, so this does not wait.
	i, err := t.file.Insert(ctx, query)
	if err != nil {
		t.leave()
		return 0, err
	}
	return i, nil
}

// Delete implements promql.QueryTracker.
func (t *tracker) Delete(i int) {
	if t.file != nil {
		t.file.Delete(i)
	}
	t.leave()
}

func (t *tracker) leave() {
	<-t.slots
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active--
	if t.closed && t.active == 0 {
		close(t.idle)
	}
}

func (t *tracker) running() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active
}

// Close refuses new queries and waits for the running ones. The file stays
// mapped when they do not end: writing to it after unmapping would crash.
func (t *tracker) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	if t.active == 0 {
		close(t.idle)
	}
	t.mu.Unlock()
	select {
	case <-t.idle:
	case <-time.After(closeWait):
		return fmt.Errorf("%d queries still run after %s", t.running(), closeWait)
	}
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

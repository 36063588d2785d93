package scrape

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage"
)

// fence keeps scrapes that were broken off from being stored. The engine takes
// any end of a scrape without samples for a failure of the target: it would
// mark its series stale and it down, while another server goes on with it.
type fence struct {
	storage.Appendable
	longest atomic.Int64 // nanoseconds that a scrape may take, of all jobs
}

// Appender is called at the beginning of a scrape, with the context of its job.
func (f *fence) Appender(ctx context.Context) storage.Appender {
	return &fencedAppender{Appender: f.Appendable.Appender(ctx), ctx: ctx, fence: f, began: time.Now()}
}

type fencedAppender struct {
	storage.Appender
	ctx   context.Context
	fence *fence
	began time.Time
}

// grace is what a scrape may need beyond its timeout before this process must
// have been held up: paused, or without a processor.
const grace = 5 * time.Second

// Commit drops the scrape when its job was stopped meanwhile, or when it took so
// long that others have taken this server for dead.
func (a *fencedAppender) Commit() error {
	if a.ctx.Err() != nil || time.Since(a.began) > time.Duration(a.fence.longest.Load())+grace {
		return a.Rollback()
	}
	return a.Appender.Commit()
}

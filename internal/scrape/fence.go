package scrape

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// fence keeps scrapes that were broken off from being stored. The engine takes
// any end of a scrape without samples for a failure of the target: it would
// mark its series stale and it down, while another server goes on with it.
type fence struct {
	storage.Appendable
	longest atomic.Int64 // nanoseconds that a scrape may take, of all jobs
	refused func(error)  // told of each sample whose series is not taken
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

// Append leaves out a series that the store does not take for its labels. The
// engine would give up the whole scrape and call the target down.
func (a *fencedAppender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	got, err := a.Appender.Append(ref, l, t, v)
	return got, a.leaveOut(err)
}

// AppendHistogram does the same for a native histogram.
func (a *fencedAppender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	got, err := a.Appender.AppendHistogram(ref, l, t, h, fh)
	return got, a.leaveOut(err)
}

func (a *fencedAppender) leaveOut(err error) error {
	if err == nil {
		return nil
	}
	var inv model.Invalid
	if !errors.Is(err, model.ErrLimit) && !errors.As(err, &inv) {
		return err
	}
	a.fence.refused(err)
	return nil
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

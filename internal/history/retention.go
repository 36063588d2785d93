package history

import (
	"context"
	"os"
	"time"
)

const (
	retentionEvery = 10 * time.Minute
	retentionBatch = 500
	longWAL        = 32 << 20
)

// The last state event before the horizon stays: it tells the state at the
// beginning of what is kept.
const deleteOld = `DELETE FROM events WHERE seq IN (
	SELECT e.seq FROM events e WHERE e.ms < ?1 AND (e.kind <> 'state' OR EXISTS (
		SELECT 1 FROM events n WHERE n.subject = e.subject AND +n.kind = 'state' AND n.ms < ?1 AND (n.ms, n.id) > (e.ms, e.id)))
	ORDER BY e.ms, e.id LIMIT ?2)`

// Prune removes the events before the horizon in small batches, so that
// writers wait for milliseconds only, and returns how many went. The last state
// event of each subject before the horizon stays.
func (h *History) Prune(ctx context.Context, horizon time.Time) (removed int64, err error) {
	for {
		n, err := h.pruneBatch(ctx, horizon)
		removed += n
		if err != nil || n < retentionBatch {
			return removed, err
		}
	}
}

func (h *History) pruneBatch(ctx context.Context, horizon time.Time) (n int64, err error) {
	err = h.exclusive(ctx, func() error {
		res, err := h.write.ExecContext(ctx, deleteOld, horizon.UnixMilli(), retentionBatch)
		if err != nil {
			return h.fail("remove old events", err)
		}
		if n, err = res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		// Gives free pages back to the file system, a few at a time.
		_, err = h.write.ExecContext(ctx, "PRAGMA incremental_vacuum(256)")
		return h.fail("shrink history", err)
	})
	return n, err
}

// exclusive runs f as the writer.
func (h *History) exclusive(ctx context.Context, f func() error) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case h.token <- struct{}{}:
	}
	defer func() { <-h.token }()
	return f()
}

func (h *History) maintain(ctx context.Context) {
	if h.cfg.Retention > 0 {
		removed, err := h.Prune(ctx, time.Now().Add(-h.cfg.Retention))
		if removed > 0 {
			h.log.Info("old events removed", "events", removed)
		}
		if err != nil && ctx.Err() == nil {
			h.log.Error("old events not removed", "err", err)
		}
	}
	// Readers that hold on keep the automatic checkpoint from starting over at
	// the beginning of the log.
	if st, err := os.Stat(h.cfg.Path + "-wal"); err != nil || st.Size() < longWAL {
		return
	}
	err := h.exclusive(ctx, func() error {
		_, err := h.write.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		return h.fail("shorten the log of history", err)
	})
	if err != nil && ctx.Err() == nil {
		h.log.Warn("write-ahead log of history not shortened", "err", err)
	}
}

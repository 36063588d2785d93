package probe

import (
	"context"
	"fmt"

	"panoptes/internal/model"
)

// RunNow probes a check at once, beside its schedule, and returns the result
// with Confirm set. The result is not handed to the Sink. An unknown id gives
// model.ErrNotFound.
func (w *Worker) RunNow(ctx context.Context, checkID string) (model.Result, error) {
	w.mu.Lock()
	e := w.entries[checkID]
	w.mu.Unlock()
	if e == nil {
		return model.Result{}, fmt.Errorf("check %s on %s: %w", checkID, w.cfg.Node, model.ErrNotFound)
	}
	return w.onDemand(ctx, e)
}

// RunCheck probes a check that need not be on the worker's list, to confirm
// what another region saw. Otherwise it is like RunNow.
func (w *Worker) RunCheck(ctx context.Context, c model.Check) (model.Result, error) {
	w.mu.Lock()
	e := w.entries[c.ID]
	w.mu.Unlock()
	c.Default()
	if e != nil && same(&e.check, &c) {
		return w.onDemand(ctx, e)
	}
	return w.Test(ctx, c)
}

// Test probes a check that is not stored. Faults of the check are returned as
// model.Invalid.
func (w *Worker) Test(ctx context.Context, c model.Check) (model.Result, error) {
	c.Default()
	p, err := Compile(w.deps.Kinds, &c, w.env)
	if err != nil {
		return model.Result{}, err
	}
	return w.onDemand(ctx, &entry{check: c, probe: p})
}

func (w *Worker) onDemand(ctx context.Context, e *entry) (model.Result, error) {
	select {
	case w.manual <- struct{}{}:
	case <-ctx.Done():
		return model.Result{}, fmt.Errorf("wait for a free place to probe %s: %w", e.check.Name, ctx.Err())
	}
	defer func() { <-w.manual }()
	r := w.run(ctx, e)
	r.Confirm = true
	if err := ctx.Err(); err != nil && !r.Success {
		return r, fmt.Errorf("probe %s: %w", e.check.Name, err)
	}
	return r, nil
}

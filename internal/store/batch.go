package store

import (
	"context"
	"errors"
	"fmt"

	"panoptes/internal/model"
)

// Append stores a batch of samples durably. A refused sample does not keep the
// others from being stored; the error then tells how many were refused and
// wraps the first reason. Any other error (model.ErrNoSpace,
// model.ErrUnavailable) means that nothing is safe: send the batch again.
func (s *Store) Append(ctx context.Context, b model.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	app := s.Appender(ctx)
	var first error
	refused := 0
	for i := range b {
		_, err := app.Append(0, b[i].Labels, b[i].T, b[i].V)
		if err == nil {
			continue
		}
		if errors.Is(err, model.ErrNoSpace) || errors.Is(err, model.ErrUnavailable) {
			return errors.Join(err, app.Rollback())
		}
		if refused++; first == nil {
			first = fmt.Errorf("%s: %w", clip(b[i].Labels.String()), err)
		}
	}
	if err := app.Commit(); err != nil {
		return err
	}
	if refused > 0 {
		return &Refused{Count: refused, Of: len(b), First: first}
	}
	return nil
}

// Refused says that samples of a batch were refused for good, while the rest
// is stored. Sending them again would change nothing.
type Refused struct {
	Count, Of int
	First     error // the first refusal
}

func (r *Refused) Error() string {
	return fmt.Sprintf("%d of %d samples refused, the first: %v", r.Count, r.Of, r.First)
}

// Unwrap returns the first refusal.
func (r *Refused) Unwrap() error { return r.First }

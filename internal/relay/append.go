package relay

import (
	"context"
	"errors"
	"fmt"

	"panoptes/internal/model"
)

// Append stores a batch here and brings it to the other servers, with the
// promise of Appender. A refused sample does not keep the others from being
// stored: the error then is a *Refused. After any other error nothing is sure:
// send the batch again.
func (r *Relay) Append(ctx context.Context, b model.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	app := r.Appender(ctx)
	refused := Refused{Of: len(b)}
	for i := range b {
		_, err := app.Append(0, b[i].Labels, b[i].T, b[i].V)
		if err == nil {
			continue
		}
		if errors.Is(err, model.ErrNoSpace) || errors.Is(err, model.ErrUnavailable) {
			return errors.Join(err, app.Rollback())
		}
		if refused.Count++; refused.First == nil {
			name := b[i].Labels.String()
			refused.First = fmt.Errorf("%s: %w", name[:min(len(name), 200)], err)
		}
	}
	if err := app.Commit(); err != nil {
		return err
	}
	if refused.Count > 0 {
		return &refused
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

// AppendEvents stores events here and brings them to the other servers. It
// returns when they are on this server's disk and, if any other server is
// alive, on that of one of those. After an error other than model.Invalid send
// them again: storing an event twice changes nothing.
func (r *Relay) AppendEvents(ctx context.Context, events ...model.Event) error {
	if len(events) == 0 {
		return nil
	}
	if r.alone.Load() {
		return r.deps.Events.Append(ctx, events...)
	}
	if err := model.ValidateEvents(events); err != nil { // nobody would store them
		return err
	}
	// The log first, as with samples: a server that dies between the two must
	// not keep for itself what nobody will ever hear of.
	g, err := r.journal.stage(func(s *stager) {
		for i := range events {
			f := s.frame(eventBytes(&events[i]))
			f.Events = append(f.Events, events[i])
		}
	})
	if err != nil {
		return err
	}
	if err := r.deps.Events.Append(ctx, events...); err != nil {
		return err
	}
	return r.await(ctx, g)
}

func eventBytes(e *model.Event) int {
	n := 128 + len(e.Subject) + len(e.Name) + len(e.Message) + len(e.Data)
	for k, v := range e.Labels {
		n += len(k) + len(v)
	}
	return n
}

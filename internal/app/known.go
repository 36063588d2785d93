package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

func (a *App) nowKnown() { a.knowOnce.Do(func() { close(a.known) }) }

// errUnknownYet is why a server that just joined takes nothing yet: the others
// would never hear of it.
var errUnknownYet = fmt.Errorf("%w: the server is starting and does not know the other servers yet", model.ErrUnavailable)

func (a *App) isKnown() bool {
	select {
	case <-a.known:
		return true
	default:
		return false
	}
}

// appendSamples stores samples here and on the other servers.
func (a *App) appendSamples(ctx context.Context, b model.Batch) error {
	if !a.isKnown() {
		return errUnknownYet
	}
	return a.relay.Append(ctx, b)
}

// appendEvents stores events here and on the other servers.
func (a *App) appendEvents(ctx context.Context, events ...model.Event) error {
	if !a.isKnown() {
		return errUnknownYet
	}
	return a.relay.AppendEvents(ctx, events...)
}

// recordEvents stores events as soon as that is possible.
func (a *App) recordEvents(_ context.Context, events ...model.Event) error {
	for _, e := range events {
		a.events.record(e)
	}
	return nil
}

// whenKnown answers that it is too early until it is known to whom samples are sent.
func (a *App) whenKnown(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.isKnown() {
			http.Error(w, errUnknownYet.Error(), http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// knownStore takes nothing before it is known to whom samples are sent.
type knownStore struct{ a *App }

func (s knownStore) Appender(ctx context.Context) storage.Appender {
	app := s.a.relay.Appender(ctx)
	if s.a.isKnown() {
		return app
	}
	return earlyAppender{app}
}

// earlyAppender belongs to a server that just joined.
type earlyAppender struct{ storage.Appender }

func (e earlyAppender) Commit() error {
	_ = e.Rollback() // gives back what it holds; that nothing is stored is said below
	return errUnknownYet
}

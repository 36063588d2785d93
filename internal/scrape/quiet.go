package scrape

import (
	"context"
	"log/slog"
	"strings"
)

// quiet lets the engine speak of single targets at level debug only: what is
// wrong with one is shown with it, and would else be logged at every scrape.
type quiet struct{ slog.Handler }

// Handle lowers what is about a target.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "Failed to determine correct type") || strings.HasPrefix(r.Message, "Creating target failed") {
		if !q.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return q.Handler.Handle(ctx, r)
}

// WithAttrs keeps the handler around what it makes.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup keeps the handler around what it makes.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

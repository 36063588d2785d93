package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
)

// Snapshot writes a copy of the database into a new file, as it is at one
// instant, and returns how many events it holds. Writers go on meanwhile.
func (h *History) Snapshot(ctx context.Context, path string) (events int64, err error) {
	abs, err := filepath.Abs(h.cfg.Path)
	if err != nil {
		return 0, err
	}
	// A connection of its own: those for reading may write nowhere, and the one
	// for writing is not to be kept waiting.
	db, err := sql.Open("sqlite", dsn(abs))
	if err != nil {
		return 0, fmt.Errorf("copy the history: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return 0, fmt.Errorf("copy the history: %w", err)
	}
	out, err := sql.Open("sqlite", dsn(path, "query_only(1)"))
	if err != nil {
		return 0, fmt.Errorf("read the copy of the history: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.QueryRowContext(ctx, "SELECT count(*) FROM events").Scan(&events); err != nil {
		return 0, fmt.Errorf("read the copy of the history: %w", err)
	}
	return events, nil
}

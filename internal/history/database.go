package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// The order of everything is (ms, id): the event's time in milliseconds, then
// its ULID. Each index serves one way to ask: all, one kind, one subject.
// search holds name, message and actor in lower case. last_states saves reading
// every state event to know the last one of each subject.
const schema = `
CREATE TABLE IF NOT EXISTS events (
	seq      INTEGER PRIMARY KEY,
	id       TEXT    NOT NULL UNIQUE,
	ms       INTEGER NOT NULL,
	ns       INTEGER NOT NULL,
	kind     TEXT    NOT NULL,
	subject  TEXT    NOT NULL,
	name     TEXT    NOT NULL,
	severity TEXT    NOT NULL,
	actor    TEXT    NOT NULL,
	message  TEXT    NOT NULL,
	code     TEXT    NOT NULL,
	labels   TEXT    NOT NULL,
	data     TEXT    NOT NULL,
	search   TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_time    ON events (ms, id);
CREATE INDEX IF NOT EXISTS events_kind    ON events (kind, ms, id);
CREATE INDEX IF NOT EXISTS events_subject ON events (subject, ms, id);
CREATE TABLE IF NOT EXISTS last_states (
	subject TEXT    PRIMARY KEY,
	ms      INTEGER NOT NULL,
	id      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
`

const schemaVersion = 1

// errDamaged marks what a check found.
var errDamaged = errors.New("file is damaged")

// open connects, checks the file and brings the schema up to date. On error
// nothing stays open.
func (h *History) open() (err error) {
	defer func() {
		if err != nil {
			h.closeDBs()
			h.read, h.write = nil, nil
		}
	}()
	abs, err := filepath.Abs(h.cfg.Path)
	if err != nil {
		return err
	}
	// FULL, since NORMAL forgets committed rows in a power cut. auto_vacuum
	// works only when it is set before the first table.
	if h.write, err = sql.Open("sqlite", dsn(abs, "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)")); err != nil {
		return err
	}
	h.write.SetMaxOpenConns(1)
	if h.read, err = sql.Open("sqlite", dsn(abs, "query_only(1)")); err != nil {
		return err
	}
	h.read.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	h.read.SetMaxIdleConns(4)
	ctx := context.Background()
	if err := check(ctx, h.write, "quick_check"); err != nil {
		return err
	}
	var version int
	if err := h.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > schemaVersion {
		return fmt.Errorf("the file has format %d, this program knows up to %d; start a newer version", version, schemaVersion)
	}
	if version < schemaVersion {
		if _, err := h.write.ExecContext(ctx, fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA user_version=%d; COMMIT", schema, schemaVersion)); err != nil {
			return fmt.Errorf("create tables: %w", err)
		}
	}
	return nil
}

// dsn names the file for the driver. The path is escaped: it may contain any
// character.
func dsn(path string, pragmas ...string) string {
	v := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...), "_txlock": {"immediate"}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
}

// examine reads all of a file that nobody has open, and compares its indexes
// with its tables, which takes longer than what open does.
func examine(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(abs, "query_only(1)"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), examineFor)
	defer cancel()
	return errors.Join(check(ctx, db, "integrity_check"), db.Close())
}

// examineFor is how long the end of a process may take to look at a file.
const examineFor = 20 * time.Second

func check(ctx context.Context, db *sql.DB, pragma string) error {
	rows, err := db.QueryContext(ctx, "PRAGMA "+pragma+"(5)")
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s", errDamaged, strings.Join(found, "; "))
	}
	return nil
}

// isDamage reports whether the content of the file is broken, as opposed to a
// disk or a directory that does not play along.
func isDamage(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == lib.SQLITE_CORRUPT || code == lib.SQLITE_NOTADB
}

func isFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) {
		return true
	}
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_FULL
}

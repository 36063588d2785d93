// Package history keeps the events – state changes, alerts, deliveries, audit,
// nodes – in one SQLite file and answers questions about them.
//
// An event that Append has acknowledged survives a power cut. Storing it a
// second time changes nothing, so that events may arrive over several paths and
// in any order.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config says where the file is and how long events stay.
type Config struct {
	Path      string        // the database file; its directory must exist
	Retention time.Duration // age after which events are removed; 0 keeps all
	// MinFreeBytes is the space on the disk below which Append answers
	// model.ErrNoSpace; 0 means DefaultMinFreeBytes, less than 0 no limit.
	MinFreeBytes int64
}

// DefaultMinFreeBytes keeps the disk from running full because of events.
const DefaultMinFreeBytes = 64 << 20

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var inv model.Invalid
	if c.Path == "" {
		inv.Add("path", "must name the database file")
	}
	if c.Retention < 0 || c.Retention > 0 && c.Retention < time.Hour {
		inv.Add("retention", "must be at least 1h, or 0 to keep all events")
	}
	return inv.Err()
}

// Deps are what history uses of its process. All may be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Free tells the bytes that are free where dir lies; nil asks the system.
	Free func(dir string) (uint64, error)
}

// History is the store of events. Its methods may be called by several
// goroutines, before Run too.
type History struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	space   *space

	write *sql.DB // one connection
	read  *sql.DB // several connections, query_only

	// token is held by the one goroutine that writes.
	token chan struct{}

	mu      sync.Mutex
	pending []*request
	waiting int // events in pending
	closed  bool
	damaged error

	broken chan struct{} // closed when damage was met since New
	breaks sync.Once
	aside  string

	subMu   sync.Mutex
	subs    map[int]func(model.Event)
	nextSub int
}

// New opens the file, or makes it, and checks it. A damaged file is set aside
// beside it as <name>.damaged-<time>, an empty one takes its place, and Damaged
// tells of it; that is no error. What New opened is closed when Run returns, or
// by Close.
func New(cfg Config, deps Deps) (*History, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MinFreeBytes == 0 {
		cfg.MinFreeBytes = DefaultMinFreeBytes
	}
	h := &History{
		cfg:    cfg,
		log:    deps.Logger,
		token:  make(chan struct{}, 1),
		broken: make(chan struct{}),
		subs:   map[int]func(model.Event){},
	}
	if h.log == nil {
		h.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	h.space = newSpace(filepath.Dir(cfg.Path), cfg.MinFreeBytes, deps.Free)
	err := h.open()
	if isDamage(err) {
		aside, serr := setAside(cfg.Path, time.Now())
		if serr != nil {
			return nil, errors.Join(fmt.Errorf("open history %s: %w", cfg.Path, err), serr)
		}
		h.damaged = fmt.Errorf("history %s was damaged and has been set aside as %s: %w", cfg.Path, aside, err)
		h.log.Error("history damaged, started an empty one", "aside", aside, "err", err)
		err = h.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open history %s: %w", cfg.Path, err)
	}
	if h.aside, err = lastAside(cfg.Path); err != nil {
		h.closeDBs()
		return nil, fmt.Errorf("open history %s: %w", cfg.Path, err)
	}
	h.metrics, err = newMetrics(deps.Registerer, h)
	if err != nil {
		h.closeDBs()
		return nil, fmt.Errorf("register metrics of history: %w", err)
	}
	return h, nil
}

// Damaged returns why the file that New found was set aside, or what damage a
// later read or write met; nil when all is well.
func (h *History) Damaged() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.damaged
}

// Broken is closed when a read or write met damage. What the file is asked then
// may fail for ever: the process is to begin anew. Close sets the file aside.
func (h *History) Broken() <-chan struct{} { return h.broken }

// Aside names the file that was set aside last, by this process or an earlier
// one, as long as it is there; empty: none. Events of before are missing here
// since, and are to be copied from another server.
func (h *History) Aside() string { return h.aside }

// Run removes what is older than the retention and keeps the log file short
// until ctx ends, then waits for writers, and closes the file.
func (h *History) Run(ctx context.Context) error {
	defer h.Close()
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	for {
		h.maintain(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Close waits for the writer and closes the file, which is set aside when it is
// found damaged after Broken. Later calls of Append and Query answer
// model.ErrUnavailable. Closing twice does nothing.
func (h *History) Close() {
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.mu.Unlock()
	if was {
		return
	}
	// The token is never given back: nobody writes from here on.
	h.token <- struct{}{}
	h.failPending(errClosed)
	h.metrics.unregister()
	h.closeDBs()
	select {
	case <-h.broken:
		h.giveUp()
	default:
	}
}

// giveUp sets the file aside when it is damaged, so that the next process has
// one that works.
func (h *History) giveUp() {
	err := examine(h.cfg.Path)
	if !isDamage(err) {
		h.log.Warn("damage of the history not found again, it stays", "path", h.cfg.Path, "err", err)
		return
	}
	aside, serr := setAside(h.cfg.Path, time.Now())
	h.log.Error("history damaged, the next start begins with an empty one", "aside", aside, "err", errors.Join(err, serr))
}

var errClosed = fmt.Errorf("history is closed: %w", model.ErrUnavailable)

func (h *History) closeDBs() {
	for _, db := range []*sql.DB{h.read, h.write} {
		if db == nil {
			continue
		}
		if err := db.Close(); err != nil {
			h.log.Warn("history not closed cleanly", "err", err)
		}
	}
}

// fail translates an error of the engine and remembers damage.
func (h *History) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if isDamage(err) {
		h.mu.Lock()
		if h.damaged == nil {
			h.damaged = fmt.Errorf("history %s is damaged: %w", h.cfg.Path, err)
			h.log.Error("history damaged", "path", h.cfg.Path, "err", err)
		}
		h.mu.Unlock()
		h.breaks.Do(func() { close(h.broken) })
	}
	switch {
	case isFull(err):
		return fmt.Errorf("%s: %w: %w", what, model.ErrNoSpace, err)
	case errors.Is(err, sql.ErrConnDone) || err.Error() == "sql: database is closed":
		return errClosed
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Subscribe has fn called with every event that is new here, in the order of
// writing, after it is safe on disk. fn must return at once and must not call
// Append. The returned function ends the subscription.
func (h *History) Subscribe(fn func(model.Event)) (cancel func()) {
	h.subMu.Lock()
	defer h.subMu.Unlock()
	id := h.nextSub
	h.nextSub++
	h.subs[id] = fn
	return func() {
		h.subMu.Lock()
		defer h.subMu.Unlock()
		delete(h.subs, id)
	}
}

func (h *History) publish(events []model.Event) {
	h.subMu.Lock()
	fns := make([]func(model.Event), 0, len(h.subs))
	for _, fn := range h.subs {
		fns = append(fns, fn)
	}
	h.subMu.Unlock()
	for _, e := range events {
		for _, fn := range fns {
			fn(e)
		}
	}
}

const damagedInfix = ".damaged-"

// setAside renames the file and its companions and makes the renaming durable.
func setAside(path string, now time.Time) (string, error) {
	aside := path + damagedInfix + now.UTC().Format("20060102T150405.000")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(path+suffix, aside+suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("set aside %s: %w", path+suffix, err)
		}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("set aside %s: %w", path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return "", fmt.Errorf("set aside %s: %w", path, err)
	}
	return aside, nil
}

// lastAside returns the name of the newest file that setAside made; empty: none.
func lastAside(path string) (last string, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, filepath.Base(path)+damagedInfix) && !strings.HasSuffix(name, "-wal") && !strings.HasSuffix(name, "-shm") {
			last = name // they are in the order of their times
		}
	}
	return last, nil
}

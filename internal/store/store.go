// Package store keeps samples: it owns Prometheus' TSDB and adds what that
// leaves out. A commit returns after its records are on the disk, a full disk
// refuses writes instead of losing them, and damage is set aside and reported
// instead of ending the process.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"panoptes/internal/model"
)

// Deps are the store's collaborators; all may be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics

	// HoldBlock says which blocks must not be merged yet, for instance
	// because they have not been uploaded.
	HoldBlock func(id string, level int) bool
	// Sync makes a file or directory durable; nil means (*os.File).Sync.
	Sync func(*os.File) error
	// Free tells how many bytes an unprivileged user may still write below
	// dir; nil asks the file system.
	Free func(dir string) (uint64, error)
}

// Store is a time series database. New makes it, Run opens it and works until
// its context ends. Before Ready and while the database is opened again after
// a failed write, queries and appends answer model.ErrUnavailable.
type Store struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics

	ready     chan struct{}
	readyOnce sync.Once
	kick      chan struct{} // of size one: look at space and health now
	patience  time.Duration // how long a cut that is due waits for the first chunk
	loader    loader
	changes   *changes
	low       atomic.Bool  // the disk is nearly full
	spaceAt   atomic.Int64 // when space was last looked at, ns

	mu        sync.Mutex // guards what follows
	h         *handle    // nil while closed
	opened    chan struct{}
	openErr   error // why the last opening failed
	gen       uint16
	stats     *tsdb.DBStats
	damage    []DamageReport
	retention retention
	tornTail  bool // the last close left a torn record on purpose
}

var (
	_ storage.Appendable              = (*Store)(nil)
	_ storage.SampleAndChunkQueryable = (*Store)(nil)
	_ storage.ExemplarQueryable       = (*Store)(nil)
)

// New checks cfg. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Sync == nil {
		deps.Sync = (*os.File).Sync
	}
	if deps.Free == nil {
		deps.Free = freeBytes
	}
	return &Store{
		cfg:       cfg,
		deps:      deps,
		log:       deps.Logger,
		m:         newMetrics(deps.Registerer),
		changes:   newChanges(),
		ready:     make(chan struct{}),
		kick:      make(chan struct{}, 1),
		patience:  15 * time.Second,
		opened:    make(chan struct{}),
		stats:     tsdb.NewDBStats(),
		retention: retention{cfg.RetentionTime, cfg.RetentionSize},
	}, nil
}

// Ready is closed when the database has been opened for the first time.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Run opens the database, keeps it healthy, and closes it when ctx ends. A
// database that cannot be opened is tried again; Health says why.
func (s *Store) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o750); err != nil {
		s.log.Error("directory of the time series not made", "dir", s.cfg.Dir, "err", err)
	}
	tick := time.NewTicker(s.cfg.CheckInterval)
	defer tick.Stop()
	retry := backoff{min: s.cfg.CheckInterval, max: time.Minute}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { newScrubber(s).run(ctx) })
	s.notify()
	for {
		select {
		case <-ctx.Done():
			return s.shutDown()
		case <-tick.C:
		case <-s.kick:
		}
		s.checkSpace()
		if s.healthyHandle() {
			s.allowCuts()
			continue
		}
		if !s.roomToOpen() || !retry.due(time.Now()) {
			continue
		}
		if err := s.reopen(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("time series database not opened", "dir", s.cfg.Dir, "err", err)
		}
	}
}

// notify wakes Run.
func (s *Store) notify() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Health returns nil when the store accepts samples, else the reason: it wraps
// model.ErrUnavailable or model.ErrNoSpace.
func (s *Store) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusalLocked(); err != nil {
		return err
	}
	return s.aheadLocked(time.Now())
}

// aheadLocked says that the newest sample comes from a time that the clock has
// not reached: it was set back since, or is wrong now. What is old by that
// sample is refused, whatever the clock says.
func (s *Store) aheadLocked(now time.Time) error {
	newest := s.h.db.Head().MaxTime()
	by := newest - now.UnixMilli()
	if newest == math.MinInt64 || by <= (s.cfg.FutureLimit+time.Minute).Milliseconds() {
		return nil
	}
	return fmt.Errorf("the clock of this server is wrong, or was: the newest sample is of %s, %s ahead of it, and until then what is more than %s older than that sample is refused: %w",
		time.UnixMilli(newest).UTC().Format(time.RFC3339), (time.Duration(by) * time.Millisecond).Round(time.Second), max(s.cfg.OutOfOrderWindow, 0), model.ErrUnavailable)
}

// DiskFull reports whether appends are refused for want of space.
func (s *Store) DiskFull() bool { return errors.Is(s.Health(), model.ErrNoSpace) }

// refusalLocked says why appends are refused at the moment; nil: they are not.
func (s *Store) refusalLocked() error {
	switch {
	case s.h != nil && s.h.failed() != nil:
		return s.h.failed()
	case s.low.Load():
		return errLowSpace
	case s.h == nil && s.openErr != nil:
		return fmt.Errorf("open the time series database: %w (%w)", model.ErrUnavailable, s.openErr)
	case s.h == nil:
		return errOpening
	}
	return nil
}

var (
	errLowSpace = fmt.Errorf("the disk of the time series is nearly full: %w", model.ErrNoSpace)
	errOpening  = fmt.Errorf("the time series database is being opened: %w", model.ErrUnavailable)
)

func (s *Store) healthyHandle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.h != nil && s.h.failed() == nil
}

// acquireWrite lends the open database to an appender.
func (s *Store) acquireWrite() (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusalLocked(); err != nil {
		return nil, err
	}
	s.h.users++
	return s.h, nil
}

// acquireRead lends the open database to a reader. While it is being opened
// again, which as a rule takes moments, the reader waits a little.
func (s *Store) acquireRead() (*handle, error) {
	var limit <-chan time.Time
	for {
		s.mu.Lock()
		h, opened := s.h, s.opened
		if h != nil {
			h.users++
		}
		s.mu.Unlock()
		if h != nil {
			return h, nil
		}
		select {
		case <-s.ready:
		default:
			return nil, errOpening
		}
		if limit == nil {
			limit = time.After(s.cfg.ReadWait)
		}
		select {
		case <-opened:
		case <-limit:
			return nil, errOpening
		}
	}
}

func (s *Store) release(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.users--
	if h.users == 0 && h.drained != nil {
		close(h.drained)
	}
}

// detach takes the database away from new users and returns a channel that is
// closed when the present ones have finished.
func (s *Store) detach() (*handle, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.h
	if h == nil {
		return nil, nil
	}
	s.h = nil
	s.opened = make(chan struct{})
	h.leave()
	h.drained = make(chan struct{})
	if h.users == 0 {
		close(h.drained)
	}
	return h, h.drained
}

// reopen closes the database, if it is open, and opens it.
func (s *Store) reopen(ctx context.Context) error {
	if h, drained := s.detach(); h != nil {
		if err := s.await(ctx, drained); err != nil {
			s.attach(h) // still in use, and ctx has ended: leave it to shutDown
			return err
		}
		s.closeHandle(h)
		s.m.reopens.Inc()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	start := time.Now()
	h, err := s.open()
	if err != nil {
		s.mu.Lock()
		s.openErr = err
		s.mu.Unlock()
		return err
	}
	s.log.Info("time series database opened", "dir", s.cfg.Dir, "took", time.Since(start))
	s.attach(h)
	s.readyOnce.Do(func() { close(s.ready) })
	return nil
}

// attach gives the open database to users.
func (s *Store) attach(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.h, s.openErr = h, nil
	h.drained = nil
	close(s.opened)
}

func (s *Store) await(ctx context.Context, drained <-chan struct{}) error {
	warn := time.NewTicker(30 * time.Second)
	defer warn.Stop()
	for {
		select {
		case <-drained:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-warn.C:
			s.log.Warn("waiting for queries and appends to finish before the database is opened again")
		}
	}
}

// shutDown closes the database once its users have finished.
func (s *Store) shutDown() error {
	h, drained := s.detach()
	if h == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.CloseWait)
	defer cancel()
	if err := s.await(ctx, drained); err != nil {
		// Closing would unmap memory that a query still reads. All that was
		// acknowledged is on the disk already.
		return fmt.Errorf("close the time series database: still in use after %s", s.cfg.CloseWait)
	}
	return s.closeHandle(h)
}

// backoff spaces attempts to open the database.
type backoff struct {
	min, max, wait time.Duration
	next           time.Time
}

func (b *backoff) due(now time.Time) bool {
	if now.Before(b.next) {
		return false
	}
	if now.Sub(b.next) > 10*b.max {
		b.wait = 0
	}
	b.next = now.Add(b.wait)
	b.wait = min(max(2*b.wait, b.min), b.max)
	return true
}

// Package replica makes this server's copies of samples and events whole: it
// takes blocks and history from another server when this one joined, missed too
// much or lost files, and compares what both have from time to time.
//
// The relay brings what happens now. What replica copies is therefore old, may
// overlap with what is here, and raises nothing.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// Config says where the state is kept and how hard to work. The zero value of a
// field means its default.
type Config struct {
	Dir    string // of the state file
	NodeID string

	BytesPerSecond int64         // that are sent, and that are received; default 100 MB
	CheckEvery     time.Duration // between two comparisons with the other servers; default 30 min
	CheckBack      time.Duration // how far back they look each time; default 6 h
	Settle         time.Duration // age at which samples must be everywhere; default 5 min
	SettleNow      time.Duration // the same for CheckNow; default 15 s
	Confirm        time.Duration // how long a difference must last; default 5 s
	FedWait        time.Duration // how long a copy waits for the relays to be connected; default 60 s
	Retry          time.Duration // after a copy that failed, growing to ten times that; default 5 s
	Shards         int           // parts of a window that are compared each; default 256
}

func (c Config) withDefaults() Config {
	set(&c.BytesPerSecond, 100_000_000)
	set(&c.CheckEvery, 30*time.Minute)
	set(&c.CheckBack, 6*time.Hour)
	set(&c.Settle, 5*time.Minute)
	set(&c.SettleNow, 15*time.Second)
	set(&c.Confirm, 5*time.Second)
	set(&c.FedWait, time.Minute)
	set(&c.Retry, 5*time.Second)
	set(&c.Shards, 256)
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate names what is wrong; it returns nil or a model.Invalid.
func (c Config) Validate() error {
	var inv model.Invalid
	if c.Dir == "" {
		inv.Add("dir", "must name a directory")
	}
	if c.NodeID == "" {
		inv.Add("node_id", "must be given")
	}
	if c.BytesPerSecond < 1<<20 {
		inv.Add("bytes_per_second", "must be at least 1 MiB")
	}
	if c.Shards < 1 || c.Shards > 4096 {
		inv.Add("shards", "must lie between 1 and 4096")
	}
	if c.CheckEvery < 0 || c.CheckBack < 0 || c.Settle < 0 || c.SettleNow < 0 || c.Confirm < 0 || c.FedWait < 0 || c.Retry < 0 {
		inv.Add("check_every", "and the other times must not be negative")
	}
	return inv.Err()
}

// Store keeps the samples.
type Store interface {
	Ready() <-chan struct{}
	Blocks() ([]model.Block, error)
	OpenBlock(id string) (model.Block, error)
	Verify(ctx context.Context, id string) error
	Recent(ctx context.Context, mint, maxt int64) (blocks []model.Block, done func(), err error)
	Incoming() (dir string, err error)
	Import(ctx context.Context, dir string, want model.Block) (imported bool, err error)
	Reload(ctx context.Context) error
	Retire(ctx context.Context, id string) error
	Lost() []model.LostSamples
	Free() (int64, error)
	Horizon() int64
	StartTime() (int64, error)
	Digest(ctx context.Context, r model.SampleRange) ([]model.Digest, error)
	ReadRaw(ctx context.Context, r model.SampleRange, send func([]byte) error) error
	Repair(ctx context.Context, r model.SampleRange, next func() ([]byte, error), settle func(context.Context) error) (model.SampleRepair, error)
}

// History keeps the events.
type History interface {
	Page(ctx context.Context, from, to time.Time, cursor string, limit int) (events []model.Event, next string, err error)
	Digests(ctx context.Context, from, to time.Time) ([]model.EventDigest, error)
	Import(ctx context.Context, events ...model.Event) (added int, err error)
	Horizon() time.Time
	Aside() string // name of the damaged file that was set aside last; empty: none
}

// Deps are the collaborators. Store, History, Dial and Alive must be given.
type Deps struct {
	Store   Store
	History History
	Dial    func(nodeID string) (wire.Conn, error)
	Alive   func() []string // servers that answer; this one may be among them

	// Alone reports whether there is no other server, alive or not: what is
	// damaged is lost then, and nobody waits for it. nil: no.
	Alone func() bool
	// Recorded lists the servers on record, this one included; their ids rise
	// with the time at which they joined. nil: nobody knows.
	Recorded func() []string
	// Fed reports whether the relay of every live server sends to this one, so
	// that nothing falls between the copy and what is new; nil: yes.
	Fed func() bool
	// Lag is the age of the oldest sample that is under way to or from here; nil: 0.
	Lag        func() time.Duration
	Emit       func(ctx context.Context, events ...model.Event) error // nil: nobody is told
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Status is for pages and health.
type Status struct {
	Complete    bool      `json:"complete"` // nothing is known to be missing
	Copying     bool      `json:"copying"`
	Source      string    `json:"source,omitempty"` // node that is copied from
	Done        int64     `json:"done"`             // bytes of the present copy
	Total       int64     `json:"total"`
	Events      int64     `json:"events"` // that were copied
	Needs       []Need    `json:"needs,omitempty"`
	LastErr     string    `json:"last_err,omitempty"` // why the copy does not get on
	LastCheck   time.Time `json:"last_check,omitzero"`
	LastReport  *Report   `json:"last_report,omitempty"`
	Mismatches  int64     `json:"mismatches"` // windows that differed, since the start
	Repaired    int64     `json:"repaired"`   // samples and events that a comparison brought, since the start
	Conflicting int64     `json:"conflicts"`  // samples that another server has with another value, as of the last check
}

// Replica copies and compares. Its methods may be called by several goroutines.
type Replica struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics

	out, in *rate.Limiter
	copies  chan struct{} // one for each copy that is served
	scans   chan struct{} // one for each scan that is served
	work    chan struct{} // held by the one who copies or compares
	kick    chan struct{} // there is something to copy

	mu     sync.Mutex // guards what follows
	state  state
	status Status
	named  map[string]bool // windows whose conflicts were told
}

// New reads the state that an earlier process left. It starts nothing.
func New(cfg Config, deps Deps) (*Replica, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.History == nil || deps.Dial == nil || deps.Alive == nil {
		return nil, errors.New("replica: store, history, dial and alive must be given")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Fed == nil {
		deps.Fed = func() bool { return true }
	}
	if deps.Alone == nil {
		deps.Alone = func() bool { return false }
	}
	if deps.Lag == nil {
		deps.Lag = func() time.Duration { return 0 }
	}
	if deps.Emit == nil {
		deps.Emit = func(context.Context, ...model.Event) error { return nil }
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, err
	}
	r := &Replica{
		cfg: cfg, deps: deps, log: deps.Logger,
		out: limiter(cfg.BytesPerSecond), in: limiter(cfg.BytesPerSecond),
		copies: make(chan struct{}, 4), scans: make(chan struct{}, 2),
		work: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		named: make(map[string]bool),
	}
	var err error
	if r.state, err = readState(cfg.Dir); err != nil {
		return nil, err
	}
	r.m = newMetrics(deps.Registerer, r)
	return r, nil
}

func limiter(bytes int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytes), int(min(max(bytes/10, 2*pieceBytes), math.MaxInt32)))
}

// Run copies what is needed and compares, until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	if name := r.deps.History.Aside(); name != "" {
		r.add(Need{Events: true, Reason: "history damaged", Lost: "history:" + name})
	}
	select {
	case <-ctx.Done():
		return nil
	case <-r.deps.Store.Ready():
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.runCopies(ctx) })
	wg.Go(func() { r.runChecks(ctx) })
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		r.lookForDamage()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Need says that samples and events between two times may be missing here: they
// are copied from another server as soon as one is there. A zero from means from
// the beginning, a zero to until now. The need for everything is remembered by
// its reason: it may be said at every start, and is met once.
func (r *Replica) Need(from, to time.Time, reason string) {
	n := Need{Reason: reason, Events: true, Samples: true}
	if !from.IsZero() {
		n.From = from.UnixMilli()
	}
	if !to.IsZero() {
		n.To = to.UnixMilli()
	}
	r.add(n)
}

// add notes a need, on disk before it returns unless that fails, which is logged.
func (r *Replica) add(n Need) {
	r.mu.Lock()
	added := r.state.add(n)
	var err error
	if added {
		err = r.state.write(r.cfg.Dir)
	}
	r.mu.Unlock()
	if !added {
		return
	}
	if err != nil {
		r.log.Error("need of a copy not noted on disk", "reason", n.Reason, "err", err)
	}
	r.log.Info("copy needed", "reason", n.Reason, "from", n.from(), "to", n.to(), "samples", n.Samples, "events", n.Events)
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// lostBefore is how far back samples may be that were in memory only.
const lostBefore = 50 * time.Hour

// lookForDamage makes needs of what the store found damaged.
func (r *Replica) lookForDamage() {
	for _, l := range r.deps.Store.Lost() {
		n := Need{Samples: true, From: l.From, To: l.To, Block: l.Block, Reason: l.Reason, Lost: l.ID}
		if n.To == 0 {
			n.To = l.Found
		}
		if n.From == 0 {
			n.From = n.To - lostBefore.Milliseconds()
		}
		if n.Block == "" {
			n.To++ // the last sample may be at the end
		}
		r.add(n)
	}
}

// Status tells how the copies stand.
func (r *Replica) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Needs = slices.Clone(r.state.Needs)
	s.Complete = len(s.Needs) == 0
	return s
}

func (r *Replica) update(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
}

// lock lets one work at a time.
func (r *Replica) lock(ctx context.Context) error {
	select {
	case r.work <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Replica) unlock() { <-r.work }

// pause waits; it returns an error when ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (r *Replica) emit(ctx context.Context, severity, code, message string, data []byte) {
	now := time.Now()
	err := r.deps.Emit(ctx, model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventNode, Subject: "node/" + r.cfg.NodeID,
		Severity: severity, Actor: "system", Code: code, Message: message, Data: data,
	})
	if err != nil && ctx.Err() == nil {
		r.log.Warn("event not stored", "code", code, "err", fmt.Errorf("emit: %w", err))
	}
}

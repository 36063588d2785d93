// Package verdict decides what state a check is in, by agreement between
// regions: it collects the results as votes, asks other regions when one fails,
// and tells of every change of state.
package verdict

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config says who decides and how often it reports.
type Config struct {
	Node        string        // id of this server, for logs
	Region      string        // of this server: its workers show whether the server is cut off; empty means that all regions must be mute
	RegionAfter time.Duration // how long a region is impaired before people are told; default 20s
	SampleEvery time.Duration // between two rounds of panoptes_check_status; default 15s
	QueueSize   int           // results that may wait, in all; default 65536
}

// Prober asks a worker of a region to run a check now. It returns before ctx
// ends. Which worker runs it is its business; several calls may be under way.
type Prober interface {
	ProbeNow(ctx context.Context, checkID, region string) (model.Result, error)
}

// Deps are what the engine uses. Only Regions is needed. The functions must be
// quick, may be called by several goroutines, and must not call the engine.
type Deps struct {
	Prober Prober
	// Regions names all configured regions, what "*" stands for; checks that some
	// can never run come with the names of the others. A region stays
	// in it when its workers are gone: silence must not shrink the quorum.
	Regions func() []string
	// Record keeps a transition that was decided here. Calls come one after
	// another, in the order of each check's transitions, and may take their time.
	Record func(Transition)
	// Samples takes the state of all checks every SampleEvery; nil for none.
	Samples func(model.Batch)

	// Owns tells whether this server decides on a check, or on a region when
	// the key is "region/<name>"; nil means that it decides on all.
	Owns func(key string) bool
	// Share takes each result that this engine asked for, so that the other
	// servers hear it too; nil when there are none. It must not block.
	Share func(model.Result)
	// Workers counts the live workers of each region; nil when nobody knows.
	Workers func() map[string]int
	// Isolated reports that this server sees no other one, though there are
	// some on record; nil for one server.
	Isolated func() bool
	// RegionChanged takes what this server decides about regions, one after
	// another; it may take its time.
	RegionChanged func(RegionTransition)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Engine holds the state machines of all checks. It decides on those that this
// server owns and follows the decisions of others on the rest.
type Engine struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	seed    maphash.Seed
	shards  []*shard
	out     *outbox
	slots   chan struct{} // bounds the probes asked for at once
	owners  chan struct{} // Owns may answer otherwise now
	quiet   silence

	mu       sync.Mutex // guards Update, Restore, Adopt and what follows
	lone     time.Time  // when this server saw no other last
	windows  []*window
	regions  []string
	restored map[string]early

	// placeMu guards places. A shard's lock may be held when it is taken.
	placeMu sync.RWMutex
	places  map[string]*place

	// status is a leaf: a shard's lock may be held when it is taken.
	statusMu sync.RWMutex
	status   map[string]model.Status
	parents  map[string]string
	children map[string][]string
	patience map[string]time.Duration // how long a child waits for its parent
	open     map[string]int           // questions about a check that are not answered yet

	wg     sync.WaitGroup // shards and clocks
	asking sync.WaitGroup // confirmations; begun by shards and by the outbox
}

type shard struct {
	queue chan model.Result
	mu    sync.Mutex
	byID  map[string]*machine
}

const (
	tickEvery       = time.Second
	maxProbesAtOnce = 256
	maxAncestors    = 16
)

// New makes an engine without checks.
func New(cfg Config, deps Deps) (*Engine, error) {
	if deps.Regions == nil {
		return nil, fmt.Errorf("verdict: Regions must be given")
	}
	if cfg.SampleEvery == 0 {
		cfg.SampleEvery = 15 * time.Second
	}
	if cfg.RegionAfter == 0 {
		cfg.RegionAfter = 20 * time.Second
	}
	if cfg.QueueSize == 0 {
		cfg.QueueSize = 1 << 16
	}
	e := &Engine{
		cfg: cfg, deps: deps, log: deps.Logger, seed: maphash.MakeSeed(),
		out: newOutbox(), slots: make(chan struct{}, maxProbesAtOnce),
		owners: make(chan struct{}, 1), restored: map[string]early{}, places: map[string]*place{}, status: map[string]model.Status{}, open: map[string]int{},
	}
	if e.log == nil {
		e.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	n := min(max(runtime.GOMAXPROCS(0), 1), 16)
	for range n {
		e.shards = append(e.shards, &shard{queue: make(chan model.Result, max(cfg.QueueSize/n, 1)), byID: map[string]*machine{}})
	}
	var err error
	if e.metrics, err = newMetrics(deps.Registerer, e); err != nil {
		return nil, fmt.Errorf("register metrics of verdict: %w", err)
	}
	return e, nil
}

func (e *Engine) shard(id string) *shard {
	return e.shards[maphash.String(e.seed, id)%uint64(len(e.shards))]
}

// Observe takes a result. It never blocks: when the queue is full the result is
// dropped, counted in panoptes_verdict_dropped_results_total, and logged.
func (e *Engine) Observe(r model.Result) {
	select {
	case e.shard(r.CheckID).queue <- r:
	default:
		e.metrics.dropped.Inc()
		e.metrics.sayDropped(e.log)
	}
}

// Update replaces the checks and the maintenances. Every server is given all
// checks. One that leaves the list is forgotten without a word. A record with a bad policy is decided by majority, a
// bad maintenance is left out; both are logged, since they should not have
// passed validation.
func (e *Engine) Update(checks []model.Check, maintenances []model.Maintenance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.windows = e.windows[:0:0]
	for _, m := range maintenances {
		w, err := newWindow(m)
		if err != nil {
			e.log.Error("maintenance ignored", "maintenance", m.Name, "err", err)
			continue
		}
		w.on = w.active(now)
		e.windows = append(e.windows, w)
	}
	e.regions = sorted(e.deps.Regions())
	e.setFamily(checks)
	want := make(map[string]bool, len(checks))
	for _, c := range checks {
		want[c.ID] = true
		p, err := ParsePolicy(c.Policy)
		if err != nil {
			e.log.Error("policy not understood, majority is used", "check", c.Name, "err", err)
		}
		var windows []*window
		for _, w := range e.windows {
			if w.covers(&c) {
				windows = append(windows, w)
			}
		}
		s := e.shard(c.ID)
		s.mu.Lock()
		m := s.byID[c.ID]
		if m == nil {
			m = newMachine(now)
			m.owned = e.owns(c.ID)
			s.byID[c.ID] = m
		}
		m.configure(c, p, expand(c.Regions, e.regions), now)
		m.windows = windows
		if x, ok := e.restored[c.ID]; ok {
			m.restore(x.t, now)
			delete(e.restored, c.ID)
		}
		e.setStatus(c.ID, m.visible)
		s.mu.Unlock()
	}
	e.forgetEarly(now)
	for _, s := range e.shards {
		s.mu.Lock()
		for id := range s.byID {
			if !want[id] {
				delete(s.byID, id)
				e.dropStatus(id)
			}
		}
		s.mu.Unlock()
	}
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// expand replaces "*" by all regions and removes doubles.
func expand(names, all []string) []string {
	out := make([]string, 0, len(names)+len(all))
	if len(names) == 0 {
		out = append(out, all...)
	}
	for _, n := range names {
		if n == "*" {
			out = append(out, all...)
			continue
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Restore continues from the last state events, by subject "check/<id>". It
// tells nobody; a first decision that differs does. It may be called before or
// after Update, and does nothing to a check that has been decided on here.
func (e *Engine) Restore(events map[string]model.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, ev := range events {
		t, err := FromEvent(ev)
		if err != nil {
			e.log.Warn("state not restored", "event", ev.ID, "err", err)
			continue
		}
		s := e.shard(t.Check.ID)
		s.mu.Lock()
		if m := s.byID[t.Check.ID]; m != nil {
			m.restore(t, now)
			e.setStatus(t.Check.ID, m.visible)
		} else {
			e.restored[t.Check.ID] = early{t, now}
		}
		s.mu.Unlock()
	}
}

// State returns the state of one check, whoever decides on it; false when there
// is no such check.
func (e *Engine) State(id string) (model.CheckState, bool) {
	s := e.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[id]
	if m == nil {
		return model.CheckState{}, false
	}
	return m.state(time.Now()), true
}

// LastRun is when a check last ran in a region, whoever ran it and whatever it
// found; zero when this server has heard of no run.
func (e *Engine) LastRun(id, region string) (last time.Time) {
	s := e.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[id]
	if m == nil {
		return last
	}
	for i := range m.regions {
		r := &m.regions[i]
		for j := range r.votes {
			if v := &r.votes[j]; r.name == region && v.start.After(last) {
				last = v.start
			}
		}
	}
	return last
}

// States returns the states of all checks by id.
func (e *Engine) States() map[string]model.CheckState {
	out := map[string]model.CheckState{}
	now := time.Now()
	for _, s := range e.shards {
		s.mu.Lock()
		for id, m := range s.byID {
			out[id] = m.state(now)
		}
		s.mu.Unlock()
	}
	return out
}

// Subscribe has fn called with every transition, after Record or after Adopt. fn
// must not block. The returned function ends the subscription.
func (e *Engine) Subscribe(fn func(Transition)) (cancel func()) { return e.out.subscribe(fn) }

// Package collect reads what a host says about itself, under node_exporter's
// names and labels: all collectors that are switched on run side by side, each
// bounded in time and in series, and one that hangs holds neither the others
// nor the next round.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/model"
)

// Batch is what a collector writes into.
type Batch = metric.Batch

// Collector reads one subject of a host.
type Collector = metric.Collector

// ErrAbsent says that a collector's subject does not exist on this host.
var ErrAbsent = metric.ErrAbsent

// Set runs the collectors that are switched on. All methods may be called
// from several goroutines; rounds follow each other.
type Set struct {
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc

	round sync.Mutex // held during a round

	mu    sync.Mutex // guards what follows
	cfg   Config
	slots []*slot
	stuck map[string]*slot // switched off while they hung
	size  int

	own   *metric.Batch
	known []entry
}

// New checks cfg and makes the set. Collectors that need hardware or services
// which this host has not are part of it and report themselves absent.
func New(cfg Config, deps Deps) (*Set, error) {
	return newSet(cfg, deps, registry())
}

func newSet(cfg Config, deps Deps, known []entry) (*Set, error) {
	log := deps.Log
	if log == nil {
		log = slog.Default()
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Set{log: log, ctx: ctx, stop: stop, stuck: map[string]*slot{}, own: metric.NewBatch(1000), known: known}
	if err := s.Configure(cfg); err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

// Configure takes over another configuration before the next round. A faulty
// one changes nothing. Collectors that stay keep their label sets; one that
// hangs is replaced when it returns.
func (s *Set) Configure(cfg Config) error {
	cfg = cfg.withDefaults()
	p, err := cfg.compile(infos(s.known))
	if err != nil {
		return err
	}
	s.round.Lock()
	defer s.round.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots != nil && reflect.DeepEqual(cfg, s.cfg) {
		return nil
	}
	old := s.stuck
	for _, sl := range s.slots {
		old[sl.name] = sl
	}
	s.slots, s.stuck = []*slot{}, map[string]*slot{}
	for _, e := range s.known {
		sl := old[e.Name]
		if !cfg.on(e.Info) {
			continue
		}
		c := e.make(cfg, p)
		if c == nil {
			continue
		}
		if sl == nil {
			sl = &slot{name: e.Name}
		}
		delete(old, e.Name)
		sl.replace(c)
		sl.current = c
		sl.every = e.Every
		if d, ok := cfg.Intervals[e.Name]; ok && e.Every > 0 {
			sl.every = d.D()
		}
		sl.due = time.Time{}
		if sl.batch == nil || sl.limit != cfg.MaxSeries {
			sl.limit = cfg.MaxSeries
			sl.fresh = true
		}
		s.slots = append(s.slots, sl)
	}
	for n, sl := range old {
		sl.replace(nil)
		if sl.running {
			s.stuck[n] = sl
		}
	}
	s.cfg = cfg
	return nil
}

// Close ends connections and background runs of the collectors. A collector
// that hangs in the system is left behind.
func (s *Set) Close() error {
	s.stop()
	s.round.Lock()
	defer s.round.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.NewTimer(s.cfg.Timeout.D())
	defer wait.Stop()
	for _, sl := range s.slots {
		if sl.running {
			select {
			case <-sl.done:
				sl.running = false
			case <-wait.C:
				wait.Reset(0)
			}
		}
		sl.replace(nil)
	}
	s.slots = []*slot{}
	return nil
}

// slot is the place of one collector. Its batch belongs to the running
// goroutine while running is true.
type slot struct {
	name    string
	c       metric.Collector // of the round's goroutine
	current metric.Collector // the same or its successor, guarded by Set.mu
	next    metric.Collector // takes over when c returns
	swap    bool
	batch   *metric.Batch
	limit   int
	fresh   bool // needs a new batch
	every   time.Duration
	due     time.Time
	running bool
	began   time.Time
	done    chan outcome

	last    outcome // of a slow collector's last run
	kept    []model.Sample
	keptAt  time.Time
	failing bool
}

type outcome struct {
	err  error
	took time.Duration
}

func (sl *slot) replace(c metric.Collector) {
	if sl.running {
		if sl.swap {
			shut(sl.next)
		}
		sl.next, sl.swap = c, true
		return
	}
	shut(sl.c)
	sl.c = c
}

func shut(c metric.Collector) {
	if cl, ok := c.(io.Closer); ok {
		_ = cl.Close()
	}
}

// settle notes that the goroutine of the slot has returned.
func (sl *slot) settle(o outcome) {
	sl.running = false
	sl.last = o
	if sl.every > 0 {
		sl.kept = append(sl.kept[:0], sl.batch.Samples()...)
		sl.keptAt = time.Now()
	}
	if sl.swap {
		shut(sl.c)
		sl.c, sl.next, sl.swap = sl.next, nil, false
	}
}

// poll looks whether a collector that was late has returned.
func (sl *slot) poll() {
	if !sl.running {
		return
	}
	select {
	case o := <-sl.done:
		sl.settle(o)
	default:
	}
}

func (sl *slot) start(ctx context.Context, at time.Time, timeout time.Duration) {
	if sl.batch == nil || sl.fresh {
		sl.batch, sl.fresh = metric.NewBatch(sl.limit), false
	}
	sl.running, sl.began = true, time.Now()
	done := make(chan outcome, 1)
	sl.done = done
	sl.batch.Reset(at.UnixMilli())
	c, b := sl.c, sl.batch
	go func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		begin := time.Now()
		err := guarded(ctx, c, b)
		done <- outcome{err, time.Since(begin)}
	}()
}

// guarded turns a panic into an error: what a collector reads is written by
// strangers, and one subject must not end the agent.
func guarded(ctx context.Context, c metric.Collector, b *metric.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Collect(ctx, b)
}

var errLate = errors.New("did not return in time")

// Collect runs one round and returns its samples, all at the same instant. It
// returns after the configured timeout at the latest, or when ctx ends, with
// what there is by then. The samples are the caller's.
func (s *Set) Collect(ctx context.Context, at time.Time) model.Batch {
	s.round.Lock()
	defer s.round.Unlock()
	s.mu.Lock()
	slots, timeout := slices.Clone(s.slots), s.cfg.Timeout.D()
	s.mu.Unlock()
	if s.ctx.Err() != nil || ctx.Err() != nil {
		return nil
	}

	asked := make([]*slot, 0, len(slots))
	for _, sl := range slots {
		sl.poll()
		switch {
		case sl.running:
		case sl.every == 0:
			sl.start(ctx, at, timeout)
			asked = append(asked, sl)
		// Not by the caller's clock, which may jump; a little early, so that
		// a round that comes just before its time does not cost a whole one.
		case time.Until(sl.due) <= sl.every/10:
			sl.due = time.Now().Add(sl.every)
			sl.start(s.ctx, at, max(timeout, min(sl.every, slowTimeout)))
		}
	}
	// The collectors' own contexts end first, so that those which look at them
	// still hand over what they have.
	late := time.NewTimer(timeout + timeout/20)
	defer late.Stop()
	expired := false
	for _, sl := range asked {
		if expired {
			sl.poll()
			continue
		}
		select {
		case o := <-sl.done:
			sl.settle(o)
		case <-late.C:
			expired = true
			sl.poll()
		case <-ctx.Done():
			expired = true
			sl.poll()
		}
	}
	return s.merge(slots, at)
}

// slowTimeout bounds a run of a slow collector.
const slowTimeout = time.Minute

func (s *Set) merge(slots []*slot, at time.Time) model.Batch {
	t := at.UnixMilli()
	out := make(model.Batch, 0, s.size+2*len(slots)+16)
	s.own.Reset(t)
	for _, sl := range slots {
		o, samples := sl.last, []model.Sample(nil)
		switch {
		case sl.every > 0:
			if sl.keptAt.IsZero() && sl.running && time.Since(sl.began) < slowTimeout {
				continue // its first run is not over
			}
			if time.Since(sl.keptAt) < 3*sl.every+slowTimeout {
				samples = sl.kept
			}
			if sl.running && time.Since(sl.began) > slowTimeout+time.Second {
				o = outcome{errLate, time.Since(sl.began)}
			}
		case sl.running:
			o = outcome{errLate, time.Since(sl.began)}
		default:
			samples = sl.batch.Samples()
		}
		n := len(out)
		out = append(out, samples...)
		for i := n; i < len(out); i++ {
			out[i].T = t
		}
		if sl.name == "textfile" && len(out) > n {
			out = withoutTaken(out, n)
		}
		s.own.Add("node_scrape_collector_duration_seconds", o.took.Seconds(), "collector", sl.name)
		s.own.Bool("node_scrape_collector_success", o.err == nil, "collector", sl.name)
		if !sl.running {
			if over, twice, _ := sl.batch.Stats(); over+twice > 0 {
				s.own.Add("panoptes_agent_collect_dropped_samples", float64(over), "collector", sl.name, "reason", "limit")
				s.own.Add("panoptes_agent_collect_dropped_samples", float64(twice), "collector", sl.name, "reason", "duplicate")
			}
		}
		s.note(sl, o)
	}
	out = append(out, s.own.Samples()...)
	s.size = len(out)
	return out
}

// note logs when a collector begins to fail and when it works again, not each time.
func (s *Set) note(sl *slot, o outcome) {
	failing := o.err != nil && !errors.Is(o.err, metric.ErrAbsent)
	switch {
	case failing && !sl.failing:
		s.log.Warn("collector fails", "collector", sl.name, "err", o.err)
	case !failing && sl.failing:
		s.log.Info("collector works again", "collector", sl.name)
	}
	sl.failing = failing
}

// withoutTaken removes from out[n:] the series that are in out[:n]: a text
// file must not speak for another collector.
func withoutTaken(out model.Batch, n int) model.Batch {
	taken := make(map[uint64]struct{}, n)
	for _, x := range out[:n] {
		taken[x.Labels.Hash()] = struct{}{}
	}
	return append(out[:n], slices.DeleteFunc(out[n:], func(x model.Sample) bool {
		_, ok := taken[x.Labels.Hash()]
		return ok
	})...)
}

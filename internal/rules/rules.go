// Package rules evaluates recording and alerting rules in Prometheus' format:
// those of the catalog, each group on one server at a time, and those of this
// server's own files.
package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Config is what an operator may set. Zero values mean the default.
type Config struct {
	Node string // this server's id; part of each group's identifier, so that two servers evaluate at different instants
	Dir  string // of rule files, *.yml and *.yaml, looked at every FilePoll; "" = none

	Interval       time.Duration // of groups that name none; default 1 min
	EvalTimeout    time.Duration // of one rule's query; default 30 s
	MaxSeries      int           // that one rule may produce; default 50,000
	MaxConcurrent  int           // rules evaluated at once; default 4
	QueryOffset    time.Duration // of groups that name none; default 0
	ResendDelay    time.Duration // between two tellings of an alert that fires; default 1 min
	OutageLookback time.Duration // how far back the start of pending alerts is looked for; default 1 h
	FilePoll       time.Duration // between two looks at Dir; default 10 s
	Patience       time.Duration // how long evaluation waits for missing samples before it goes on without; default 10 min
	MaxTrySamples  int           // of one Try; default 5 million
	TryTimeout     time.Duration // of one Try, which then says how far it came; default 30 s
	MaxSamples     int           // that one query of our own engine may hold in memory; default 50 million
	Lookback       time.Duration // of our own engine: the age at which a sample no longer counts as current; default 5 min
	ExternalLabels labels.Labels // for templates
}

func (c *Config) setDefaults() {
	c.Interval = cmp.Or(c.Interval, time.Minute)
	c.EvalTimeout = cmp.Or(c.EvalTimeout, 30*time.Second)
	c.MaxSeries = cmp.Or(c.MaxSeries, 50_000)
	c.MaxConcurrent = cmp.Or(c.MaxConcurrent, 4)
	c.ResendDelay = cmp.Or(c.ResendDelay, time.Minute)
	c.OutageLookback = cmp.Or(c.OutageLookback, time.Hour)
	c.Patience = cmp.Or(c.Patience, 10*time.Minute)
	c.FilePoll = cmp.Or(c.FilePoll, 10*time.Second)
	c.TryTimeout = cmp.Or(c.TryTimeout, 30*time.Second)
	c.MaxTrySamples = cmp.Or(c.MaxTrySamples, 5_000_000)
	c.MaxSamples = cmp.Or(c.MaxSamples, 50_000_000)
	c.Lookback = cmp.Or(c.Lookback, 5*time.Minute)
}

// Alert is one alert as it is handed to the alerting parts. EndsAt lies in the
// future while it fires.
type Alert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	GeneratorURL        string
}

// Deps are the collaborators. Queryable, Appendable and Put are needed.
type Deps struct {
	Queryable storage.Queryable
	// Engine evaluates. nil: one of our own, so that rules never wait behind
	// people's queries.
	Engine     promql.QueryEngine
	Appendable storage.Appendable // must honour storage.AppendOptions
	// Put hands alerts to the alerting parts of all live servers. It is called
	// again until it succeeds or the alert has run out; faults of single alerts
	// (model.Invalid) are not.
	Put func(ctx context.Context, alerts ...Alert) error
	// Owns says whether this server evaluates the group of that key; nil: all.
	Owns func(key string) bool
	// Current says whether the store has all samples that it should have; while
	// it has not, nothing is evaluated for as long as Config.Patience. nil: always.
	Current     func() bool
	ExternalURL *url.URL // of the pages, for links and templates; nil: none
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Rules evaluates the groups that this server owns. Its methods may be called
// by several goroutines.
type Rules struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	met  *metrics

	engineMetrics *engine.Metrics
	outbox        *outbox
	changed       chan struct{} // of size one: the plan has to be looked at again
	primed        sync.Map      // *engine.Group → *priming
	behind        atomic.Int64  // since when samples have been missing, ms; 0: they are not
	tries         chan struct{} // of the size of maxTries: who may try now

	mu      sync.RWMutex // guards the rest
	records map[string]set
	files   map[string]set
	faults  map[string]error // by source
	manager *engine.Manager  // nil unless it runs
	plan    plan
}

// set is what one record or file brings.
type set struct {
	source string // "hosts" or the path of a file
	local  bool   // from a file: nobody else may have it
	groups []Group
	labels map[string]Text
	bound  labels.Labels // see Record.Matchers
	since  time.Time     // when the record was created
}

// New checks and prepares; nothing is evaluated before Run.
func New(cfg Config, deps Deps) (*Rules, error) {
	cfg.setDefaults()
	var inv model.Invalid
	if cfg.Node == "" {
		inv.Add("node", "must be given")
	}
	for name, d := range map[string]time.Duration{"interval": cfg.Interval, "eval_timeout": cfg.EvalTimeout, "resend_delay": cfg.ResendDelay, "file_poll": cfg.FilePoll, "outage_lookback": cfg.OutageLookback, "query_offset": cfg.QueryOffset, "lookback": cfg.Lookback, "patience": cfg.Patience, "try_timeout": cfg.TryTimeout} {
		if d < 0 {
			inv.Add(name, "must not be negative; leave it out for the default")
		}
	}
	if min(cfg.MaxSeries, cfg.MaxConcurrent, cfg.MaxTrySamples, cfg.MaxSamples) < 0 {
		inv.Add("max_series", "and the other limits must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if deps.Queryable == nil || deps.Appendable == nil || deps.Put == nil {
		return nil, errors.New("rules: Queryable, Appendable and Put must be given")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Engine == nil {
		deps.Engine = promql.NewEngine(promql.EngineOpts{
			Logger: deps.Logger, MaxSamples: cfg.MaxSamples, Timeout: cfg.EvalTimeout, LookbackDelta: cfg.Lookback,
			NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
			EnableAtModifier:         true, EnableNegativeOffset: true,
		})
	}
	deps.Queryable = bounded{deps.Queryable}
	if deps.Owns == nil {
		deps.Owns = func(string) bool { return true }
	}
	if deps.Current == nil {
		deps.Current = func() bool { return true }
	}
	if deps.ExternalURL == nil {
		deps.ExternalURL = &url.URL{}
	}
	r := &Rules{
		cfg: cfg, deps: deps, log: deps.Logger, changed: make(chan struct{}, 1), tries: make(chan struct{}, maxTries),
		records: map[string]set{}, files: map[string]set{}, faults: map[string]error{},
	}
	r.met = newMetrics(deps.Registerer, r)
	r.engineMetrics = engine.NewGroupMetrics(deps.Registerer)
	r.outbox = newOutbox(deps.Put, r.log, r.met)
	return r, nil
}

// Update takes all records of the kind. One that does not load – written by a
// newer server, perhaps – keeps what it was before; the error names it.
func (r *Rules) Update(records []model.Record) error {
	next := make(map[string]set, len(records))
	faults := map[string]error{}
	var errs []error
	r.mu.RLock()
	old := r.records
	r.mu.RUnlock()
	for _, rec := range records {
		parsed, err := ParseRecord(rec.Spec)
		if err != nil {
			err = fmt.Errorf("rules %s: %w", rec.Name, err)
			faults[rec.Name] = err
			errs = append(errs, err)
			if s, ok := old[rec.Name]; ok {
				next[rec.Name] = s
			}
			continue
		}
		if !parsed.Disabled {
			bound, _ := model.Bound(parsed.Matchers) // ParseRecord has checked them
			next[rec.Name] = set{source: rec.Name, groups: parsed.Groups, labels: parsed.Labels, bound: bound, since: rec.Created}
		}
	}
	r.mu.Lock()
	r.records = next
	for name := range r.faults {
		if _, file := r.files[name]; !file && faults[name] == nil {
			delete(r.faults, name)
		}
	}
	for name, err := range faults {
		r.faults[name] = err
	}
	r.mu.Unlock()
	r.poke()
	return errors.Join(errs...)
}

// OwnersChanged asks Owns again about every group.
func (r *Rules) OwnersChanged() { r.poke() }

func (r *Rules) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run evaluates until ctx ends. Alerts that fire then are not ended: whoever
// evaluates next goes on with them.
func (r *Rules) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.outbox.run(ctx) })

	loader := &loader{}
	m := engine.NewManager(&engine.ManagerOptions{
		ExternalURL: r.deps.ExternalURL, QueryFunc: r.query, NotifyFunc: r.notify, Context: ctx,
		Appendable: appendable{r}, Queryable: r.deps.Queryable, Logger: r.log, Metrics: r.engineMetrics,
		OutageTolerance: r.cfg.OutageLookback, ResendDelay: r.cfg.ResendDelay, GroupLoader: loader,
		DefaultRuleQueryOffset: func() time.Duration { return r.cfg.QueryOffset },
		MaxConcurrentEvals:     int64(r.cfg.MaxConcurrent), ConcurrentEvalsEnabled: r.cfg.MaxConcurrent > 1,
	})
	// The manager restores alerts only into groups that come with its first
	// update, and waits two intervals for it; see prime for what happens instead.
	if err := r.hand(m, loader, plan{}); err != nil {
		return fmt.Errorf("start the rules: %w", err)
	}
	wg.Go(m.Run)
	defer m.Stop()
	defer r.setManager(nil)
	r.setManager(m)

	tick := time.NewTicker(r.cfg.FilePoll)
	defer tick.Stop()
	var seen map[string]stamp
	var current plan
	for {
		seen = r.lookAtFiles(seen)
		next := r.makePlan()
		if !next.equal(current) {
			for source, n := range next.left {
				r.log.Error("rule groups left out", "source", source, "groups", n, "allowed", MaxGroups)
			}
			if err := r.hand(m, loader, next); err != nil {
				r.log.Error("rules keep their old set", "err", err)
			} else {
				current = next
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.changed:
		}
	}
}

func (r *Rules) setManager(m *engine.Manager) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manager = m
}

// hand gives the manager a plan, and forgets what is known of groups that left.
func (r *Rules) hand(m *engine.Manager, l *loader, p plan) error {
	l.plan = p
	// Before the update, which stops the groups that leave: whether one left
	// this server or the world decides about its last samples.
	r.mu.Lock()
	before := r.plan
	r.plan = p
	r.mu.Unlock()
	if err := m.Update(r.cfg.Interval, p.sources, r.cfg.ExternalLabels, r.deps.ExternalURL.String(), r.iterate); err != nil {
		r.mu.Lock()
		r.plan = before
		r.mu.Unlock()
		return err
	}
	alive := map[*engine.Group]bool{}
	for _, g := range m.RuleGroups() {
		alive[g] = true
	}
	r.primed.Range(func(k, _ any) bool {
		if g, ok := k.(*engine.Group); ok && !alive[g] {
			r.primed.Delete(k)
		}
		return true
	})
	return nil
}

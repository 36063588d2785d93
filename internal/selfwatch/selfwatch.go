// Package selfwatch watches Panoptes itself: built-in rules over what its parts
// know and over the members, a dead man's switch, a notification canary.
//
// It runs on every server. The same trouble seen by several servers has the same
// labels, so that the alerting parts tell it once. It asks no store and no
// query: it must work just when those do not.
package selfwatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says who this server is.
type Config struct {
	NodeID   string
	Name     string        // the label server
	Dir      string        // whose disk is watched; empty: none
	Language string        // of summary and description: "en" (default) or "zh-CN"
	Interval time.Duration // between two looks, 15 s unless given
	Repeat   time.Duration // between two tellings of what fires, 1 min unless given
	// ProcDir and CgroupDir are /proc and /sys/fs/cgroup unless given.
	ProcDir, CgroupDir string
}

// Alert is what is handed to the alerting parts. EndsAt is zero while it fires.
type Alert struct {
	Name             string // also the label alertname
	Labels           map[string]string
	Annotations      map[string]string // summary, description and runbook, in both languages
	StartsAt, EndsAt time.Time
}

// Deps are the collaborators. Facts and Put are needed.
type Deps struct {
	// Facts is asked at each look. It must not block for long.
	Facts func(ctx context.Context) Facts
	// Put hands alerts to the alerting parts of all live servers.
	Put func(ctx context.Context, alerts []Alert) error
	// Owns says whether this server sends the canary; nil means yes.
	Owns func() bool
	// Canary sends a marked test message through the receiver of that name.
	Canary func(ctx context.Context, receiver string) error
	// HTTP calls the dead man's switch; it should dial the way other outgoing
	// calls do. nil means that there is none.
	HTTP       *http.Client
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Watch is the self-monitoring of one server.
type Watch struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	metrics    *metrics
	reader     *machineReader
	deliveries deliveries
	canary     canary
	deadMan    deadMan
	woken      chan struct{} // size 1: settings changed

	// Only the loop of Run touches these.
	cpu  average
	disk trend
	last time.Time // of the last look

	mu       sync.Mutex // guards the rest
	settings Settings
	machine  Machine
	unwell   error     // as of looked
	looked   time.Time // the last look; zero: none yet
	active   map[string]*active
}

// New validates; nothing is watched before Run.
func New(cfg Config, settings Settings, deps Deps) (*Watch, error) {
	if cfg.Name == "" || deps.Facts == nil || deps.Put == nil {
		return nil, errors.New("selfwatch: Name, Facts and Put must be given")
	}
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	cfg.Interval = cmp.Or(cfg.Interval, 15*time.Second)
	cfg.Repeat = cmp.Or(cfg.Repeat, time.Minute)
	cfg.ProcDir = cmp.Or(cfg.ProcDir, "/proc")
	cfg.CgroupDir = cmp.Or(cfg.CgroupDir, "/sys/fs/cgroup")
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watch{
		cfg: cfg, deps: deps, log: deps.Logger, settings: settings, active: map[string]*active{}, woken: make(chan struct{}, 1),
		reader: newMachineReader(cfg.ProcDir, cfg.CgroupDir, cfg.Dir),
	}
	w.canary.changed, w.deadMan.changed = make(chan struct{}, 1), make(chan struct{}, 1)
	w.metrics = newMetrics(deps.Registerer, w)
	return w, nil
}

// Settings returns what holds now.
func (w *Watch) Settings() Settings {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings
}

// Update changes the settings at once. Faulty ones change nothing.
func (w *Watch) Update(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	w.mu.Lock()
	w.settings = s
	w.mu.Unlock()
	for _, ch := range []chan struct{}{w.woken, w.canary.changed, w.deadMan.changed} {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	return nil
}

// Run watches until ctx ends. What fires then is not ended: another server, or
// this one after its start, goes on with it, or it runs out.
func (w *Watch) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.runDeadMan(ctx) })
	wg.Go(func() { w.runCanary(ctx) })
	tick := time.NewTicker(w.cfg.Interval)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.woken:
		}
	}
}

// look evaluates all rules once and tells what began, ended or goes on.
func (w *Watch) look(ctx context.Context) {
	began := time.Now()
	facts := w.deps.Facts(ctx)
	if ctx.Err() != nil {
		return
	}
	machine := w.reader.read(began)
	if machine.hasCPU {
		w.cpu.add(machine.CPU)
	}
	if machine.hasDisk {
		w.disk.add(began, machine.DiskFree)
	}
	// After a pause of the process what was pending is old news.
	var gap time.Duration
	if !w.last.IsZero() {
		if d := began.Sub(w.last); d > 4*w.cfg.Interval {
			gap = d
		}
	}
	w.last = began

	w.mu.Lock()
	w.machine, w.unwell, w.looked = machine, facts.Unwell, began
	settings := w.settings
	w.mu.Unlock()

	found := map[string]found{}
	for _, r := range rules() {
		tuned, on := settings.tuned(r.Rule)
		if !on {
			continue
		}
		for _, f := range r.check(w, &facts, tuned.Threshold) {
			found[key(tuned.Name, f)] = foundOf(tuned, f)
		}
	}
	w.tell(ctx, w.advance(found, began, gap))
	w.metrics.looks.Inc()
	w.metrics.took.Set(time.Since(began).Seconds())
}

func (w *Watch) tell(ctx context.Context, alerts []Alert) {
	if len(alerts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(w.cfg.Interval, time.Second))
	defer cancel()
	err := w.deps.Put(ctx, alerts)
	if err != nil && ctx.Err() == nil {
		w.log.Warn("alerts about Panoptes itself were not taken", "alerts", len(alerts), "err", err)
	}
	if err != nil {
		w.metrics.putFailed.Inc()
	}
	w.told(alerts, err == nil, time.Now())
}

// Machine returns what was last read of this machine.
func (w *Watch) Machine() Machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine
}

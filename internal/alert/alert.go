// Package alert groups, silences, inhibits, routes and remembers alerts: it
// runs Alertmanager's parts on configuration that comes from records.
package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/client_golang/prometheus"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/common/route"

	"panoptes/internal/model"
)

// Config is what an operator may set.
type Config struct {
	// Dir holds the notification log, silences and active alerts. One process
	// at a time may use it.
	Dir string
	// ResolveTimeout is when an alert without an end counts as resolved unless
	// it is sent again; default 5 min.
	ResolveTimeout time.Duration
	// RestoreGrace is how long after a start an alert from before it stays
	// active without being sent again; default 5 min.
	RestoreGrace time.Duration
	// SilenceRetention is how long ended silences are kept; default 120 h.
	SilenceRetention time.Duration
	// SnapshotInterval is the time between two snapshots; default 1 min. What
	// happens between them is in a journal, fsynced at once.
	SnapshotInterval time.Duration
	// MaxAlerts bounds the alerts of one alertname; default 100,000.
	MaxAlerts int
}

// Receivers makes receivers of records. *notify.Notify is one.
type Receivers interface {
	// Build decodes a record and makes its notifiers; faults are model.Invalid.
	Build(model.Receiver) (config.Receiver, []notify.Integration, error)
	// Test sends a marked alert through a receiver at once.
	Test(context.Context, model.Receiver) error
	// Template renders texts; its ExternalURL is set.
	Template() *template.Template
	// Timeout is the longest that one attempt may take.
	Timeout() time.Duration
}

// Deps are the collaborators. Receivers is needed, the rest may be left out.
type Deps struct {
	Receivers Receivers
	// Record takes an event when an alert begins or ends. It must not block.
	Record func(model.Event)
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer

	// Quiet reports whether nobody is to be notified at the moment; what began
	// meanwhile is told afterwards if it still lasts. nil: never.
	Quiet func() bool

	// The rest joins several servers; all nil for one.

	// Settled is closed when the state of the others has arrived after the
	// start, or there are none. It is waited for up to 10 s before the first
	// notification; nil waits for nobody.
	Settled <-chan struct{}
	// Resettle asks the others for their whole state again, after this process
	// stood still; it must not block. nil: they send it by themselves within
	// seconds.
	Resettle func()
	// Peer waits until the state of the others has arrived. A nil interface
	// for one server, never a nil pointer in it.
	Peer notify.Peer
	// Position is this server's index in the sorted list of live ones; the
	// first notifies, the others wait Position × PeerTimeout and a tenth of it.
	Position    func() int
	PeerTimeout time.Duration // default 5 s
	// Broadcast sends what changed in a part ("nflog" or "silences") to the
	// others, who pass it to Merge. It must not block.
	Broadcast func(part string, b []byte)
}

// Alerting is the alerting part. Its methods may be called by several goroutines.
type Alerting struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	alerts   *mem.Alerts
	silences *silence.Silences
	silencer *silence.Silencer
	nflog    *nflog.Log
	groups   marker.GroupMarker
	pipeline *notify.PipelineBuilder
	dmetrics *dispatch.DispatcherMetrics
	api      *api.API
	handler  http.Handler
	logs     *journal // of the notification log
	sils     *journal // of silences
	active   *activeFile
	metrics  *metrics
	flying   flights
	gate     *gate
	restored restored
	untold   untold

	dispatcher atomic.Pointer[dispatch.Dispatcher]
	inhibitor  atomic.Pointer[inhibit.Inhibitor]
	plan       atomic.Pointer[plan]

	mu      sync.Mutex // guards the rest and serialises swaps
	running bool
	stopped bool
}

// New opens Dir and reads what was kept there. The store of alerts begins to
// collect garbage at once and ends with Run or Close; nothing is notified before Run.
func New(cfg Config, deps Deps) (*Alerting, error) {
	if cfg.Dir == "" {
		return nil, errors.New("alert: Dir must be given")
	}
	if deps.Receivers == nil {
		return nil, errors.New("alert: Receivers must be given")
	}
	defaults(&cfg, &deps)
	anyNames()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", cfg.Dir, err)
	}
	// Alertmanager's parts want a registry even when nobody reads it.
	reg := deps.Registerer
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	a := &Alerting{cfg: cfg, deps: deps, log: deps.Logger, groups: marker.NewGroupMarker(), gate: newGate(deps.Settled, deps.Peer, deps.Quiet)}
	if err := a.open(reg); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func defaults(cfg *Config, deps *Deps) {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&cfg.ResolveTimeout, 5*time.Minute)
	set(&cfg.RestoreGrace, 5*time.Minute)
	set(&cfg.SilenceRetention, 120*time.Hour)
	set(&cfg.SnapshotInterval, time.Minute)
	set(&deps.PeerTimeout, 5*time.Second)
	if cfg.MaxAlerts <= 0 {
		cfg.MaxAlerts = 100_000
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Record == nil {
		deps.Record = func(model.Event) {}
	}
	if deps.Position == nil {
		deps.Position = func() int { return 0 }
	}
	if deps.Broadcast == nil {
		deps.Broadcast = func(string, []byte) {}
	}
}

// logRetention must exceed every repeat interval: an entry lives for twice its
// route's repeat interval, and never longer than this.
const logRetention = 2*maxRepeat + 24*time.Hour

func (a *Alerting) open(reg prometheus.Registerer) error {
	var err error
	if a.metrics, err = newMetrics(reg); err != nil {
		return err
	}
	rec := eventrecorder.Recorder{}
	a.nflog, err = nflog.New(nflog.Options{
		SnapshotReader: a.snapshot("nflog"), Retention: logRetention, Logger: a.log.With("component", "nflog"), Metrics: reg,
	})
	if err != nil {
		return fmt.Errorf("read notification log: %w", err)
	}
	a.silences, err = silence.New(silence.Options{
		SnapshotReader: a.snapshot("silences"), Retention: a.cfg.SilenceRetention, Logger: a.log.With("component", "silences"), Metrics: reg,
		Limits: silence.Limits{MaxSilences: func() int { return 10_000 }, MaxSilenceSizeBytes: func() int { return 64 << 10 }},
	})
	if err != nil {
		return fmt.Errorf("read silences: %w", err)
	}
	if a.logs, err = openJournal(filepath.Join(a.cfg.Dir, "nflog.journal"), a.nflog.Merge); err != nil {
		return err
	}
	if a.sils, err = openJournal(filepath.Join(a.cfg.Dir, "silences.journal"), a.silences.Merge); err != nil {
		return err
	}
	a.nflog.SetBroadcast(func(b []byte) {
		// The caller holds the log's lock: only the copy into the file happens
		// here, the fsync in syncedLog.
		a.logs.append(b)
		a.deps.Broadcast("nflog", b)
	})
	a.silences.SetBroadcast(func(b []byte) {
		a.sils.append(b)
		if err := a.sils.sync(); err != nil {
			a.log.Error("silence not on disk", "err", err)
		}
		a.deps.Broadcast("silences", b)
	})
	a.silencer = silence.NewSilencer(a.silences, a.log, rec)
	a.active = &activeFile{path: filepath.Join(a.cfg.Dir, "alerts.json"), firing: map[pm.Fingerprint]struct{}{}}
	a.untold = untold{path: filepath.Join(a.cfg.Dir, "ended.json"), m: map[pm.Fingerprint]*amalert.Alert{}}
	a.alerts, err = mem.NewAlerts(context.Background(), time.Minute, a.cfg.MaxAlerts, &observer{a: a}, a.log, rec, reg, featurecontrol.NoopFlags{})
	if err != nil {
		return fmt.Errorf("create the store of alerts: %w", err)
	}
	a.pipeline = notify.NewPipelineBuilder(reg, featurecontrol.NoopFlags{}, rec)
	a.dmetrics = dispatch.NewDispatcherMetrics(false, reg, featurecontrol.NoopFlags{})
	a.api, err = api.New(api.Options{
		Alerts: a.alerts, Silences: a.silences, GroupMutedFunc: a.groups.Muted, GroupFunc: a.groupsOf,
		Logger: a.log.With("component", "api"), Registry: reg, RequestDuration: a.metrics.requests,
	})
	if err != nil {
		return fmt.Errorf("create the API: %w", err)
	}
	first, err := a.build(nil, nil, nil, nil, true)
	if err != nil {
		return err
	}
	a.plan.Store(first)
	a.publish(first)
	a.handler = guardBody(a.api.Register(route.New(), "/"))
	if err := a.untold.load(a.log); err != nil {
		return err
	}
	return a.restoreActive()
}

// snapshot opens a part's snapshot; a damaged one is set aside by read.
func (a *Alerting) snapshot(part string) io.Reader {
	return readSnapshot(filepath.Join(a.cfg.Dir, part), a.log)
}

// Handler answers Alertmanager's API under /api/v2/. It asks nobody for rights.
func (a *Alerting) Handler() http.Handler { return a.handler }

// Run dispatches alerts until ctx ends. What is being sent then may finish for
// a moment; afterwards everything is on disk.
func (a *Alerting) Run(ctx context.Context) error {
	defer a.Close()
	a.mu.Lock()
	a.running = true
	a.start(a.plan.Load())
	a.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { a.keep(ctx) })
	wg.Go(func() { a.gate.start(ctx, func() { a.endRestored(ctx) }) })
	wg.Go(func() { a.watchClock(ctx) })
	<-ctx.Done()
	wg.Wait()

	a.mu.Lock()
	a.running, a.stopped = false, true
	a.halt()
	a.mu.Unlock()
	return a.save()
}

// Close ends an Alerting that is not run.
func (a *Alerting) Close() {
	if a.alerts != nil {
		a.alerts.Close()
	}
	if a.logs != nil {
		a.logs.close()
	}
	if a.sils != nil {
		a.sils.close()
	}
}

// TestReceiver sends a marked alert right through a receiver, which need not be
// stored, and returns what its side answered.
func (a *Alerting) TestReceiver(ctx context.Context, r model.Receiver) error {
	return a.deps.Receivers.Test(ctx, r)
}

// ValidateReceiver says what is wrong with a receiver, as model.Invalid.
func (a *Alerting) ValidateReceiver(r model.Receiver) error {
	_, _, err := a.deps.Receivers.Build(r)
	return err
}

// Merge takes over what another server broadcast about "nflog" or "silences".
func (a *Alerting) Merge(part string, b []byte) error {
	switch part {
	case "nflog":
		return a.nflog.Merge(b)
	case "silences":
		return a.silences.Merge(b)
	}
	return fmt.Errorf("merge alerting state: there is no part %q", part)
}

// State returns all of a part, for a server that has just joined.
func (a *Alerting) State(part string) ([]byte, error) {
	switch part {
	case "nflog":
		return a.nflog.MarshalBinary()
	case "silences":
		return a.silences.MarshalBinary()
	}
	return nil, fmt.Errorf("alerting state: there is no part %q", part)
}

// Package agent is what runs on a host that is watched: it has the collectors
// run on time, brings what they and the checks of this place find to one of the
// servers, and keeps on disk what no server has yet. It opens one connection,
// outward, and listens on nothing.
//
// What was measured waits in memory until a server has acknowledged it. What is
// not acknowledged within a second is written to disk and takes the second
// lane, beside the live one.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// Config says who the agent is and what it may do. The zero value of a field
// means its default.
type Config struct {
	Dir     string // of the buffer and of what the agent remembers
	NodeID  string
	Name    string
	Version string
	Labels  map[string]string // of the host, told to the servers
	Kinds   []string          // of checks that its worker runs; empty for all
	Servers []uplink.Server   // known from joining; those that servers tell of are remembered

	Interval time.Duration // until a server says otherwise; default 15 s
	// MinInterval bounds what servers may ask for; default 1 s, which live mode needs.
	MinInterval time.Duration
	Buffer      spool.Config // Dir is filled in

	// MoveBack is the time after which an agent that fled to another server
	// returns to the one that is its by hash; default 5 to 10 minutes.
	MoveBack time.Duration
}

// Collectors measure the host. Collect returns after a bounded time; the
// samples are the agent's.
type Collectors interface {
	Collect(ctx context.Context, at time.Time) model.Batch
	// Configure switches collectors on or off, as far as the host's own file lets it.
	Configure(s uplink.Settings) error
	// Snapshot tells what the host does now, as JSON can write it.
	Snapshot(ctx context.Context) (any, error)
}

// Worker runs checks from this place. It refuses targets that the host's own
// file does not allow.
type Worker interface {
	Update(checks []model.Check)
	RunCheck(ctx context.Context, c model.Check) (model.Result, error)
}

// Source produces samples on its own beat, such as a scraper of targets on this host.
type Source interface {
	Configure(s uplink.Settings) error
	Run(ctx context.Context, emit func(model.Batch)) error
}

// Actor does what servers request, as far as the host's own file allows it.
type Actor interface {
	// Allows reports whether there is anything that it would do.
	Allows() bool
	Act(ctx context.Context, r uplink.ActionRequest) uplink.ActionResult
}

// Deps are the collaborators of an Agent. Dial is required.
type Deps struct {
	// Dial returns the way to a server; id is empty when it is not known yet.
	Dial       func(id, addr string) wire.Conn
	Collectors Collectors // nil: the host is not measured
	Worker     Worker     // nil: checks are switched off here
	Sources    []Source
	Actor      Actor // nil: nothing is done on request
	// Update tells how the renewal of this program goes; nil: it is never renewed.
	Update func() *uplink.UpdateState
	// Leaving says why the process is told to end: one of the reasons of
	// uplink.Bye. nil: ByeStop.
	Leaving    func() string
	Facts      func() Facts // of the machine; nil asks the system
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	SpoolDeps  spool.Deps
}

// Agent is the process on a host.
type Agent struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics
	run  string // of this process
	box  *outbox
	disk *spool.Spool

	servers  *servers
	settings atomic.Pointer[uplink.Settings]
	changed  chan struct{} // the interval has changed
	wakeUp   chan struct{} // the session has something to do
	spoolNow chan struct{}
	refused  bool // the disk took nothing when it was last tried; of who saves
	careful  bool // a server refused something for its size: one thing at a time; of uplink

	results *resultQueue
	renewal renewal

	checksMu sync.Mutex // guards checks
	checks   map[string]model.Check

	stopping  atomic.Pointer[string] // why, once the process ends
	connected atomic.Bool
	began     time.Time
}

// New opens the buffer. Nothing is sent before Run.
func New(cfg Config, deps Deps) (*Agent, error) {
	var inv model.Invalid
	if cfg.Dir == "" {
		inv.Add("data_dir", "must name a directory")
	}
	if cfg.NodeID == "" {
		inv.Add("node_id", "must name this node")
	}
	if deps.Dial == nil {
		inv.Add("dial", "is missing")
	}
	if cfg.Interval < 0 || cfg.MinInterval < 0 {
		inv.Add("interval", "must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	def(&cfg.Interval, 15*time.Second)
	def(&cfg.MinInterval, time.Second)
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Facts == nil {
		deps.Facts = facts
	}
	if deps.Leaving == nil {
		deps.Leaving = func() string { return uplink.ByeStop }
	}
	cfg.Buffer.Dir = filepath.Join(cfg.Dir, "buffer")
	sd := deps.SpoolDeps
	sd.Logger = deps.Logger
	if sd.Now == nil {
		sd.Now = deps.Now
	}
	disk, err := spool.Open(cfg.Buffer, sd)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, deps: deps, log: deps.Logger, run: model.NewID(time.Now()), disk: disk,
		box: newOutbox(), servers: openServers(serversFile(cfg.Dir), cfg.NodeID, cfg.Servers),
		changed: make(chan struct{}, 1), wakeUp: make(chan struct{}, 1), spoolNow: make(chan struct{}, 1),
		results: &resultQueue{}, checks: map[string]model.Check{}, began: time.Now(),
	}
	a.settings.Store(&uplink.Settings{})
	a.m = newMetrics(deps.Registerer, a)
	return a, nil
}

func def(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}

// goodbye bounds how long a process that ends tries to deliver what it has.
const goodbye = 1500 * time.Millisecond

// Run works until ctx ends, then delivers what it has or leaves it on disk, and
// takes leave of its server.
func (a *Agent) Run(ctx context.Context) error {
	uctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var producers, carriers sync.WaitGroup
	errs := make(chan error, len(a.deps.Sources))
	producers.Go(func() { a.collect(ctx) })
	for _, s := range a.deps.Sources {
		producers.Go(func() {
			if err := s.Run(ctx, a.put); err != nil && ctx.Err() == nil {
				errs <- err
			}
		})
	}
	carriers.Go(func() { a.uplink(uctx) })
	carriers.Go(func() { a.keep(uctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	reason := a.deps.Leaving()
	a.stopping.Store(&reason)
	if err == nil {
		producers.Wait()
	}
	a.wake()
	ended := make(chan struct{})
	timer := time.AfterFunc(goodbye, cancel)
	go func() { carriers.Wait(); close(ended) }()
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		case <-time.After(20 * time.Millisecond):
			if !a.connected.Load() {
				cancel() // nobody to take leave of
			}
		}
	}
	timer.Stop()
	a.save(0)
	return errors.Join(err, a.disk.Close())
}

// Result takes the result of a check; it implements the worker's sink.
func (a *Agent) Result(r model.Result) {
	a.checksMu.Lock()
	c, ok := a.checks[r.CheckID]
	a.checksMu.Unlock()
	if !ok {
		return
	}
	a.put(stampCheck(r, c))
	r.Samples = nil
	if late := 2 * c.Interval.D(); time.Since(r.Start) <= late || late == 0 {
		a.results.add(r, max(late, 10*time.Second))
		a.wake()
	}
}

// Event brings an event of this host to the servers. Its kind and subject are theirs to set.
func (a *Agent) Event(e model.Event) {
	if e.ID == "" {
		e.ID = model.NewID(a.deps.Now())
	}
	if e.Time.IsZero() {
		e.Time = a.deps.Now().UTC()
	}
	a.box.put(nil, []model.Event{e})
	a.wake()
	kick(a.spoolNow)
}

// Connected reports whether a server takes what is measured.
func (a *Agent) Connected() bool { return a.connected.Load() }

// Buffer tells what waits on disk.
func (a *Agent) Buffer() spool.Stats { return a.disk.Stats() }

// put takes samples that the servers should have.
func (a *Agent) put(b model.Batch) {
	if len(b) == 0 {
		return
	}
	a.box.put(b, nil)
	a.wake()
	kick(a.spoolNow)
}

func (a *Agent) wake() { kick(a.wakeUp) }

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// apply takes over settings of a server.
func (a *Agent) apply(s uplink.Settings) {
	old := a.settings.Swap(&s)
	if old.Interval != s.Interval || old.Live != s.Live {
		kick(a.changed)
	}
	if s.MaxAge > 0 {
		a.disk.SetMaxAge(s.MaxAge.D())
	}
	if len(s.Servers) > 0 {
		if err := a.servers.set(s.Servers); err != nil {
			a.log.Warn("list of servers not kept", "err", err)
		}
	}
	before, _ := json.Marshal(withoutLive(*old))
	after, _ := json.Marshal(withoutLive(s))
	if string(before) == string(after) {
		return
	}
	if a.deps.Collectors != nil {
		if err := a.deps.Collectors.Configure(s); err != nil {
			a.log.Warn("settings of the collectors not taken", "err", err)
		}
	}
	for _, src := range a.deps.Sources {
		if err := src.Configure(s); err != nil {
			a.log.Warn("settings not taken", "err", err)
		}
	}
	a.log.Info("settings of the servers taken", "interval", a.interval())
}

func withoutLive(s uplink.Settings) uplink.Settings {
	s.Live = false
	s.Servers = nil
	return s
}

// interval is the time between two rounds now.
func (a *Agent) interval() time.Duration {
	s := a.settings.Load()
	d := a.cfg.Interval
	switch {
	case s.Live && a.connected.Load():
		d = time.Second
	case s.Interval > 0:
		d = s.Interval.D()
	}
	return min(max(d, a.cfg.MinInterval), time.Hour)
}

func (a *Agent) hello() uplink.Hello {
	f := a.deps.Facts()
	return uplink.Hello{
		Version: a.cfg.Version, Run: a.run, Boot: f.Boot, Machine: f.Machine, Hostname: f.Hostname, BootTime: f.BootTime, Started: a.began.UTC(),
		Time: a.deps.Now().UTC(), OS: f.OS, Arch: f.Arch, Addresses: f.Addresses, Labels: a.cfg.Labels,
		Checks: a.deps.Worker != nil, Kinds: a.cfg.Kinds, Actions: a.deps.Actor != nil && a.deps.Actor.Allows(), Backlog: a.disk.Stats().Bytes,
		Update: a.updateState(),
	}
}

// String names the agent in logs.
func (a *Agent) String() string { return fmt.Sprintf("agent %s (%s)", a.cfg.Name, a.cfg.NodeID) }

// ServerAddrs are where servers answer, as far as is known.
func (a *Agent) ServerAddrs() []string { return a.servers.addrs() }

// Package hosts is the servers' side of agents. It takes what they send and
// sees to it that each writes as itself only; it tells them what to do; and it
// knows, together with the other servers, which hosts are there, and finds out
// about those that fell silent.
package hosts

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// Config bounds agents. The zero value of a field means its default.
type Config struct {
	NodeID string // of this server
	Dir    string // where the last known state of hosts is kept; empty: nowhere

	MaxSeries int           // of one host in an hour; default 20,000
	MaxRate   float64       // samples a second of one host that are taken; more waits; default 20,000
	MaxAge    time.Duration // older samples are refused; default 48 h
	MaxAhead  time.Duration // samples from the future beyond it are refused; default 5 min

	Grace       time.Duration // without a stream before a host is unknown; default 10 s
	Settle      time.Duration // after the start, before anything is decided; default 20 s
	SilentDown  time.Duration // a host that nobody could ever reach is down after; default 5 min
	ProbePorts  []int         // tried beside ICMP; default 22
	ProbeEvery  time.Duration // of silent hosts; default 15 s
	LiveFor     time.Duration // how long one look at a host keeps its agent live; default 15 s
	SnapshotGap time.Duration // between two snapshots for alerts of one host; default 1 min
}

func (c Config) withDefaults() Config {
	set(&c.MaxSeries, 20_000)
	set(&c.MaxRate, 20_000)
	set(&c.MaxAge, 48*time.Hour)
	set(&c.MaxAhead, 5*time.Minute)
	set(&c.Grace, 10*time.Second)
	set(&c.Settle, 20*time.Second)
	set(&c.SilentDown, 5*time.Minute)
	set(&c.ProbeEvery, 15*time.Second)
	set(&c.LiveFor, 15*time.Second)
	set(&c.SnapshotGap, time.Minute)
	if len(c.ProbePorts) == 0 {
		c.ProbePorts = []int{22}
	}
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Deps are the collaborators. Store, Node and the functions about checks are
// required; the others may be nil.
type Deps struct {
	Store        storage.Appendable // Commit makes durable, here and elsewhere
	AppendEvents func(ctx context.Context, events ...model.Event) error
	// Result takes what an agent's worker found; it must not block.
	Result func(model.Result)
	// Node returns the record of an agent.
	Node func(id string) (model.Node, bool)
	// Nodes lists the records of all agents that are not revoked.
	Nodes func() []model.Node
	// Groups lists the groups of hosts, in any order.
	Groups func() []model.HostGroup
	// Scrapes are the targets that an agent scrapes, as its scraper reads them.
	Scrapes func(nodeID string) []byte
	// ActionKey signs what hosts are asked to do; all servers have the same one.
	// nil: they are asked nothing.
	ActionKey func() (ed25519.PrivateKey, error)
	// Checks lists the checks that an agent is to run now; nil when that is not
	// decided yet.
	Checks func(nodeID string) []model.Check
	// Check returns a check that an agent may run, or might have run.
	Check func(nodeID, checkID string) (model.Check, bool)
	// Given reports whether a check is one that an agent is to run now, or was a
	// moment ago: only then it has a vote about it. nil: Check says it.
	Given func(nodeID, checkID string) bool
	// Update returns the version that an agent should renew itself to, nil for none.
	Update func(nodeID string) *uplink.UpdateWanted
	// Servers lists where agents find servers.
	Servers func() []uplink.Server
	// Dial returns the way to another server.
	Dial func(serverID string) (wire.Conn, error)
	// Alive lists the live servers, this one among them; nil: only this one.
	Alive func() []string
	// Owns reports whether this server decides about key ("host/<id>"); nil: it does.
	Owns func(key string) bool
	// Probe has some workers run a check now, but not the agent except.
	Probe func(ctx context.Context, c model.Check, except string) []model.Result
	// Broadcast sends news of the part to all servers; it must not block.
	Broadcast func(b []byte)
	// SessionsChanged is called when an agent came or went; HostChanged when a
	// host is in another state. They must not block, nor call this package.
	SessionsChanged func()
	HostChanged     func(model.Host)

	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Hosts serves agents. It is safe for use by several goroutines.
type Hosts struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	m      *metrics
	began  time.Time
	series *seriesLimit
	wake   chan struct{} // something about hosts has changed
	alerts chan alertRef
	mesh   mesh
	owners owners

	mu       sync.Mutex                  // guards what follows
	sessions map[string]*session         // of this server, by node
	entries  map[string]map[string]entry // who talks to whom: node → server → newest word
	states   map[string]*state           // of hosts, by node
	lives    map[string]time.Time        // agents that are live, until
	refused  map[string]time.Time        // runs of copies
	copied   map[string]time.Time        // last event about a copy, by node
	allowed  map[string]*allowance       // by node; those that are used
	version  int64                       // of the last word of this server
	shots    map[string]time.Time        // last snapshot for an alert
	probing  map[string]bool             // hosts that are being probed
	missed   map[string]time.Time        // hosts that have no stream, since when
	stopping bool                        // nobody is let in any more
	ctx      context.Context             //nolint:containedctx // of Run: what is begun for agents ends with it
	wg       sync.WaitGroup
}

type alertRef struct {
	event model.Event
	node  string
}

// New reads what was known before. Nothing is served before Register.
func New(cfg Config, deps Deps) (*Hosts, error) {
	switch {
	case cfg.NodeID == "":
		return nil, errors.New("hosts: NodeID is missing")
	case deps.Store == nil || deps.Node == nil || deps.Nodes == nil || deps.Checks == nil || deps.Check == nil:
		return nil, errors.New("hosts: Store, Node, Nodes, Checks and Check are needed")
	}
	if deps.AppendEvents == nil {
		deps.AppendEvents = func(context.Context, ...model.Event) error { return nil }
	}
	if deps.Result == nil {
		deps.Result = func(model.Result) {}
	}
	if deps.Given == nil {
		deps.Given = func(node, check string) bool { _, ok := deps.Check(node, check); return ok }
	}
	if deps.Alive == nil {
		deps.Alive = func() []string { return []string{cfg.NodeID} }
	}
	if deps.Owns == nil {
		deps.Owns = func(string) bool { return true }
	}
	if deps.Broadcast == nil {
		deps.Broadcast = func([]byte) {}
	}
	if deps.SessionsChanged == nil {
		deps.SessionsChanged = func() {}
	}
	if deps.HostChanged == nil {
		deps.HostChanged = func(model.Host) {}
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hosts{
		cfg: cfg.withDefaults(), deps: deps, log: deps.Logger, began: time.Now(), wake: make(chan struct{}, 1), alerts: make(chan alertRef, 64),
		sessions: map[string]*session{}, entries: map[string]map[string]entry{}, states: map[string]*state{},
		lives: map[string]time.Time{}, refused: map[string]time.Time{}, copied: map[string]time.Time{}, allowed: map[string]*allowance{}, shots: map[string]time.Time{}, probing: map[string]bool{}, missed: map[string]time.Time{},
	}
	h.series = newSeriesLimit(h.cfg.MaxSeries)
	h.m = newMetrics(deps.Registerer, h)
	if err := h.load(); err != nil {
		h.log.Warn("last known state of hosts not read; it is found out anew", "err", err)
	}
	return h, nil
}

// Names of the calls between servers.
const (
	methodProbe = "hosts.probe"
	methodLook  = "hosts.look"
	methodLive  = "hosts.live"
)

// Register serves agents and the other servers.
func (h *Hosts) Register(s *wire.Server) {
	s.HandleStream(uplink.Method, []model.NodeRole{model.RoleAgent}, h.serve)
	h.registerActions(s)
	servers := []model.NodeRole{model.RoleServer}
	wire.HandleJSON(s, methodProbe, servers, func(ctx context.Context, _ model.Peer, r routed) (model.Result, error) { return h.probeHere(ctx, r) })
	wire.HandleJSON(s, methodLook, servers, func(ctx context.Context, _ model.Peer, r routed) (looked, error) { return h.lookHere(ctx, r) })
	wire.HandleJSON(s, methodLive, servers, func(_ context.Context, _ model.Peer, r routed) (struct{}, error) { return struct{}{}, h.liveHere(r) })
}

// Run decides about hosts until ctx ends.
func (h *Hosts) Run(ctx context.Context) error {
	h.mu.Lock()
	h.ctx = ctx
	h.mu.Unlock()
	h.wg.Go(func() { h.snapshots(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	save := time.NewTicker(30 * time.Second)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			h.sendAway()
			h.wg.Wait()
			return h.save()
		case <-tick.C:
			h.tick(ctx)
		case <-h.wake:
			h.tick(ctx)
		case <-save.C:
			h.turn(time.Now())
			if err := h.save(); err != nil {
				h.log.Warn("state of hosts not kept", "err", err)
			}
		}
	}
}

// awayPatience is how long a server that stops waits for its agents to go.
const awayPatience = 2 * time.Second

// sendAway has all agents move to other servers, as long as what they sent can
// be stored and the others can be told.
func (h *Hosts) sendAway() {
	h.mu.Lock()
	h.stopping = true
	for _, s := range h.sessions {
		s.cancel(errStopping)
	}
	h.mu.Unlock()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	limit := time.After(awayPatience)
	for {
		select {
		case <-limit:
			return
		case <-t.C:
			h.mu.Lock()
			n := len(h.sessions)
			h.mu.Unlock()
			if n == 0 {
				return
			}
		}
	}
}

// Refresh has settings and checks of all agents looked at again; what changed
// is sent. Call it when a record has changed or work has moved.
func (h *Hosts) Refresh() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		s.kick()
	}
}

// Revoke ends the stream of an agent that was removed. Its certificate is worth
// nothing any more; see pki.
func (h *Hosts) Revoke(nodeID string) {
	h.mu.Lock()
	s := h.sessions[nodeID]
	h.mu.Unlock()
	if s != nil {
		s.cancel(errRevoked)
	}
}

func (h *Hosts) stateFile() string {
	if h.cfg.Dir == "" {
		return ""
	}
	return filepath.Join(h.cfg.Dir, "hosts.json")
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

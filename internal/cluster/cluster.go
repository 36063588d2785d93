// Package cluster knows which servers there are and which of them answer, and
// carries small news among them.
//
// The gossip library (memberlist) finds members, spreads what they say of
// themselves, and encrypts. Who answers is found out by beats (see beat): a
// member that nobody has heard for a second and a half is suspect, after four
// seconds it is dead, and it is alive again with the first beat. Nothing that
// cannot be undone may follow from either: a process that was paused comes back.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"panoptes/internal/model"
)

// Cluster is this server's view of the others. Its methods may be called by
// several goroutines, before, during and after Run.
type Cluster struct {
	cfg       Config
	deps      Deps
	log       *slog.Logger
	transport *transport
	parts     map[string]Part // not changed after Run has begun
	metrics   *metrics
	news      news

	settled    chan struct{}
	settleOnce sync.Once
	changed    chan struct{} // size 1: tell the subscribers
	announce   chan struct{} // size 1: tell the others what changed in self

	ml   atomic.Pointer[memberlist.Memberlist] // nil before Run
	addr atomic.Pointer[netip.AddrPort]        // what is advertised, once it is known

	mu       sync.Mutex // guards the rest; never held while the library is called, it calls back
	self     model.Member
	trimmed  bool // not all of self fits
	book     book
	sent     sentBeats
	began    time.Time                 // Run
	seeds    map[string]netip.AddrPort // as last resolved
	conflict conflict
	subs     map[int]func()
	nextSub  int
}

// New validates and binds; Run makes the server a member.
func New(cfg Config, deps Deps) (*Cluster, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	cfg.Key = slices.Clone(cfg.Key)
	t, err := listen(cfg.Bind)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, deps: deps, log: deps.Logger, transport: t, parts: map[string]Part{}, subs: map[int]func(){}, seeds: map[string]netip.AddrPort{},
		settled: make(chan struct{}), changed: make(chan struct{}, 1), announce: make(chan struct{}, 1),
		self: model.Member{ID: cfg.NodeID, Self: true, State: model.MemberAlive, Since: deps.Now()},
	}
	c.book = book{suspectAfter: 3 * cfg.Probe, deadAfter: 8 * cfg.Probe, keep: cfg.Keep, wall: deps.Now, peers: map[string]*peer{}, changed: c.stateChanged}
	c.sent.last = uint64(time.Now().UnixNano())
	c.news.init()
	c.metrics = newMetrics(deps.Registerer, c)
	t.resolve = c.resolveSelf
	t.refused = c.metrics.refused.Inc
	return c, nil
}

// Addr returns host:port as it is advertised, with the port that was bound.
func (c *Cluster) Addr() string {
	host, port, _ := splitAddr(c.cfg.Advertise)
	if port == 0 {
		port = c.transport.port()
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// Close gives the listeners back; only needed when Run is never called.
func (c *Cluster) Close() error { return c.transport.Shutdown() }

// resolveSelf finds the address of what is advertised.
func (c *Cluster) resolveSelf() (netip.AddrPort, error) {
	ap, err := resolve(context.Background(), c.Addr())
	if err != nil {
		return ap, fmt.Errorf("find the address that is advertised: %w", err)
	}
	c.addr.Store(&ap)
	return ap, nil
}

// resolve makes an address of host:port.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := splitAddr(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s has no address", host)
	}
	slices.SortFunc(ips, func(a, b netip.Addr) int { return a.Unmap().Compare(b.Unmap()) }) // v4 first, and always the same
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), nil
}

// Run makes this server a member until ctx ends; then the others hear that it
// left on purpose. A probe of the library that is on its way may outlive Run by
// a second; it reaches nobody any more.
func (c *Cluster) Run(ctx context.Context) error {
	defer c.transport.Shutdown()
	for {
		_, err := c.resolveSelf()
		if err == nil {
			break
		}
		// A dead name server at start must not end the process.
		c.log.Warn("gossip waits for a name to resolve", "address", c.Addr(), "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	c.news.gossip.NumNodes = func() int { return len(c.Alive()) }
	c.transport.start()
	ml, err := memberlist.Create(c.libraryConfig())
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	c.mu.Lock()
	c.began = time.Now()
	c.mu.Unlock()
	c.ml.Store(ml)

	var wg, beats sync.WaitGroup
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	wg.Go(func() { c.notifyLoop(inner) })
	wg.Go(func() { c.mergeLoop(inner) })
	wg.Go(func() { c.sendLoop(inner) })
	wg.Go(func() { c.rejoinLoop(inner) })
	wg.Go(func() { c.announceLoop(inner) })
	beatCtx, stopBeats := context.WithCancel(inner)
	beats.Go(func() { c.beatLoop(beatCtx) })

	<-ctx.Done()
	stopBeats()
	beats.Wait() // no beat after the last one
	c.leave(ml)
	cancel()
	err = ml.Shutdown()
	wg.Wait()
	if err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// leave tells the others that this server ends on purpose: by a last beat, over
// both ways, and in the library's own manner.
func (c *Cluster) leave(ml *memberlist.Memberlist) {
	const patience = 500 * time.Millisecond
	c.sendBeats(time.Now(), true)
	var wg sync.WaitGroup
	for _, t := range c.targets(time.Now(), true) {
		t.msg[1] |= beatStream
		wg.Go(func() { _ = ml.SendReliable(t.node(), t.msg) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	if err := ml.Leave(patience); err != nil {
		c.log.Debug("nobody took note that this server leaves", "err", err)
	}
	select {
	case <-done:
	case <-time.After(patience):
	}
	// Streams that still wait end with the transport.
	_ = c.transport.Shutdown()
	<-done
}

func (c *Cluster) libraryConfig() *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name = c.cfg.NodeID
	conf.Transport = c.transport
	conf.Label = c.cfg.ClusterID
	conf.SecretKey = c.cfg.Key
	conf.ProbeInterval = c.cfg.Probe
	conf.ProbeTimeout = c.cfg.Probe / 2
	conf.SuspicionMult = 4
	conf.SuspicionMaxTimeoutMult = 2
	// A server that sees many fail must not become slower and slower in finding
	// the rest: with few members that is just what a split looks like.
	conf.AwarenessMaxMultiplier = 2
	conf.GossipInterval = c.cfg.Probe * 2 / 5
	conf.PushPullInterval = c.cfg.Exchange
	conf.DeadNodeReclaimTime = time.Millisecond // a server may return with another address
	conf.TCPTimeout = streamTimeout
	conf.HandoffQueueDepth = 2 * queuedNews
	conf.EnableCompression = false // LZW: costs more time than it saves on packets of ours
	conf.LogOutput, conf.Logger = nil, libraryLogger(c.log, c.metrics)
	d := (*delegate)(c)
	conf.Delegate, conf.Events, conf.Conflict = d, d, d
	return conf
}

// Members returns all servers that are known: self, the living, the suspects,
// and for an hour the dead and those that left, sorted by ID. Their labels must
// not be changed.
func (c *Cluster) Members() []model.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]model.Member, 0, len(c.book.peers)+1)
	out = append(out, c.self)
	for _, p := range c.book.peers {
		out = append(out, p.m)
	}
	slices.SortFunc(out, func(a, b model.Member) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Alive returns self and the members that answer, sorted by ID.
func (c *Cluster) Alive() []model.Member {
	return slices.DeleteFunc(c.Members(), func(m model.Member) bool { return m.State != model.MemberAlive })
}

// Subscribe calls fn after members, their states or what they say of themselves
// changed: at once, and when there are many changes at most once a second. fn
// must not block; it may still be called once after cancel.
func (c *Cluster) Subscribe(fn func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextSub
	c.nextSub++
	c.subs[id] = fn
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, id)
	}
}

// Update changes what this server says of itself. Its ID and state stay. What
// does not fit into 512 bytes is left out, labels first.
func (c *Cluster) Update(fn func(*model.Member)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.self
	m.Labels = maps.Clone(m.Labels)
	fn(&m)
	m.ID, m.Self, m.State, m.Since = c.self.ID, true, c.self.State, c.self.Since
	if sameMember(m, c.self) {
		return
	}
	c.self = m
	if _, whole := encodeMeta(m); whole {
		c.trimmed = false
	} else if !c.trimmed {
		c.trimmed = true
		c.log.Warn("gossip cannot carry all that this server says of itself", "limit_bytes", maxMeta, "left_out", "labels")
	}
	poke(c.announce)
	poke(c.changed)
}

// Settled is closed when the first exchange with a live member is done, or there
// is none; after ten seconds at the latest.
func (c *Cluster) Settled() <-chan struct{} { return c.settled }

func (c *Cluster) settle() { c.settleOnce.Do(func() { close(c.settled) }) }

// Isolated says that nobody answers this server though there should be somebody:
// it is on record with others, or has just heard of them, and none has answered
// what it said in the last moments. After a pause of the process it is true until the first answer.
func (c *Cluster) Isolated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isolated(time.Now())
}

func (c *Cluster) isolated(now time.Time) bool {
	// An answer takes a beat there and one back.
	patience := c.book.suspectAfter + c.cfg.Probe
	if c.ml.Load() == nil || now.Sub(c.began) < patience {
		return false
	}
	expected := false
	known := map[netip.AddrPort]*peer{}
	for _, p := range c.book.peers {
		if now.Sub(p.echoed) < patience {
			return false
		}
		known[p.addr] = p
		if p.m.State == model.MemberAlive || p.m.State == model.MemberSuspect || c.deps.Seeds == nil && p.m.State == model.MemberDead {
			expected = true
		}
	}
	self := c.addr.Load()
	for _, a := range c.seeds {
		if self != nil && a == *self {
			continue
		}
		if p := known[a]; p == nil || !p.left {
			expected = true
		}
	}
	return expected
}

// Skew returns by how much the clocks of other members are ahead of this one's,
// by ID; of those that answered at least once and are not dead.
func (c *Cluster) Skew() map[string]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]time.Duration{}
	for id, p := range c.book.peers {
		if ahead, _, ok := p.clock.best(); ok && (p.m.State == model.MemberAlive || p.m.State == model.MemberSuspect) {
			out[id] = ahead
		}
	}
	return out
}

// conflict is a process that uses our own ID.
type conflict struct {
	addr string
	at   time.Time
}

// Err says what keeps this server from being a good member: somebody else uses
// its ID, say because its data directory was copied.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conflict.addr != "" && time.Since(c.conflict.at) < 3*c.cfg.Exchange {
		return fmt.Errorf("the process at %s uses the same node id as this one; stop it, and give each server a data directory of its own", c.conflict.addr)
	}
	return nil
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

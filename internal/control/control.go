// Package control is the configuration store: an embedded etcd that answers
// in-process. It makes the cluster of its members grow and shrink, and keeps
// etcd from meeting the two things it does not survive: a full disk and its
// own damaged files.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"panoptes/internal/model"
)

// The data of the store live in model, so that its users need not import this package.
type (
	KV         = model.KV
	Cond       = model.KVCond
	Op         = model.KVOp
	WatchBatch = model.KVBatch
)

// leaderPatience is how long there may be no leader before it is worth a word:
// an election takes less.
const leaderPatience = 2500 * time.Millisecond

// Control is the configuration store of this server. Its methods may be used
// by several goroutines; before Ready they answer model.ErrUnavailable.
type Control struct {
	cfg    Config
	log    *slog.Logger
	space  *space
	met    *metrics
	name   func(nodeID string) string
	verify func(tls.ConnectionState) error
	slots  *slots
	peers  *peers
	http   *http.Client

	bmu   sync.Mutex
	bound Config // cfg with the ports that were found; zero before the first start

	ready   chan struct{}
	opened  sync.Once // ready
	restart chan chan error
	closed  atomic.Bool
	eng     atomic.Pointer[engine]
	fatal   atomic.Pointer[string] // why etcd ended itself
	waiting atomic.Pointer[string] // why it has not started yet
	removed atomic.Bool            // this member is none any more
	away    atomic.Bool            // restarting

	// ctx ends all watches; it is made here because watches may be asked for before Run.
	ctx     context.Context //nolint:containedctx // the lifetime of the watches, not of a call
	cancel  context.CancelFunc
	watches sync.WaitGroup
	mu      sync.Mutex // guards starting a watch against the end of Run
	late    atomic.Bool
	full    atomic.Bool // etcd raised its NOSPACE alarm
	slim    chan struct{}
	seen    atomic.Int64 // revision that a client saw last
	lost    atomic.Int64 // when the leader was lost, Unix ns; 0 while there is one
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config, deps Deps) (*Control, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configuration store: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.FreeSpace == nil {
		deps.FreeSpace = freeSpace
	}
	if deps.NodeName == nil {
		deps.NodeName = func(string) string { return "" }
	}
	c := &Control{
		cfg:     cfg,
		log:     deps.Logger,
		name:    deps.NodeName,
		verify:  deps.Verify,
		slots:   newSlots(cfg.NodeID),
		peers:   newPeers(),
		ready:   make(chan struct{}),
		restart: make(chan chan error),
		slim:    make(chan struct{}, 1),
		space: &space{
			dir: cfg.Dir, file: filepath.Join(cfg.Dir, "reserve"), free: deps.FreeSpace,
			min: cfg.MinFreeBytes, reserve: cfg.ReserveBytes, log: deps.Logger,
		},
	}
	c.http = c.peerHTTP()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.met = newMetrics(deps.Registerer, c)
	return c, nil
}

// Ready is closed once the store answers reads and writes.
func (c *Control) Ready() <-chan struct{} { return c.ready }

// Run keeps the store open until ctx ends. It returns an error when etcd
// cannot be started; a store that dies later, that has no quorum, or that was
// removed from the cluster keeps Run waiting, so that the rest of the server
// goes on: Status and Writable give the reason.
func (c *Control) Run(ctx context.Context) error {
	defer func() {
		c.shut()
		c.watches.Wait()
		c.http.CloseIdleConnections()
	}()
	if c.cfg.Endpoints != nil {
		return c.runClient(ctx)
	}
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("open configuration store: %w", err)
	}
	c.space.check()
	var gone atomic.Bool // others said that this member was removed
	bridge := newBridge(c.log, func(msg string) { c.fatal.CompareAndSwap(nil, &msg) }, c.isOlder, func() { gone.Store(true) })
	stopLog := bridge.run()
	defer stopLog()

	var asked chan error // who waits for the restart
	for {
		eng, err := c.open(ctx, bridge.zap(), asked != nil)
		if asked != nil {
			asked <- err // it has room
			asked = nil
		}
		if eng == nil {
			if err == nil {
				<-ctx.Done()
			}
			return err
		}
		asked = c.tend(ctx, eng, &gone)
		if asked == nil {
			c.shut()
			return eng.close(15 * time.Second)
		}
		if err := eng.close(10 * time.Second); err != nil {
			c.died(err)
			asked <- err
			<-ctx.Done()
			return nil
		}
	}
}

// open starts the engine. A server that joins, or starts again, is patient:
// what it waits for is outside of it. No engine and no error means that there
// is nothing to do but to wait for the end.
func (c *Control) open(ctx context.Context, lg *zap.Logger, again bool) (*engine, error) {
	if wasRemoved(c.cfg.Dir, c.cfg.NodeID) {
		if c.cfg.Join && c.listed(ctx) {
			c.log.Info("this server was removed and added again; its old data are dropped")
			if err := errors.Join(os.RemoveAll(filepath.Join(c.cfg.Dir, "member")), dropMark(c.cfg.Dir, removedFile)); err != nil {
				return nil, fmt.Errorf("open configuration store: %w", err)
			}
		} else {
			c.removed.Store(true)
			c.log.Warn("this server was removed from the cluster")
			return nil, nil
		}
	}
	began := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		eng, err := c.startEngine(ctx, lg)
		if err == nil {
			c.waiting.Store(nil)
			return eng, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if msg := c.fatal.Load(); msg != nil {
			err = errors.Join(err, errors.New(*msg))
		}
		joining := c.cfg.Join && !memberExists(c.cfg.Dir) && c.fatal.Load() == nil
		if !joining && !(again && c.fatal.Load() == nil && time.Since(began) < 10*time.Second) {
			if isAddrInUse(err) {
				return nil, fmt.Errorf("open configuration store %s: %w (choose other ports with --port-offset or peer_listen)", c.cfg.Dir, err)
			}
			return nil, fmt.Errorf("open configuration store %s: %w", c.cfg.Dir, err)
		}
		msg := err.Error()
		if old := c.waiting.Swap(&msg); old == nil || *old != msg {
			c.log.Warn("configuration store not started yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(pause):
		}
	}
}

// tend looks after a started engine until ctx ends or a restart is asked for,
// whose channel it returns then.
func (c *Control) tend(ctx context.Context, eng *engine, gone *atomic.Bool) (asked chan error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	defer c.eng.Store(nil)
	wg.Go(func() { c.monitor(wctx, eng) })
	ended := func(err error) {
		if eng.front != nil {
			eng.front.Stop() // clients find another member
		}
		if gone.Load() || errors.Is(err, errRemoved) {
			c.leave()
		} else {
			c.died(err)
		}
	}
	ready := make(chan struct{})
	wg.Go(func() { eng.published(wctx, ready) })
	for {
		select {
		case <-ready:
			ready = nil
			c.admit(eng)
			wg.Go(func() { c.lead(wctx, eng) })
		case asked := <-c.restart:
			c.away.Store(true)
			c.log.Info("configuration store restarts")
			return asked
		case err := <-eng.etcd.Err():
			ended(err)
			<-ctx.Done()
			return nil
		case <-eng.gone():
			var err error
			if !eng.etcd.Server.IsMemberExist(eng.etcd.Server.MemberID()) {
				err = errRemoved
			}
			ended(err)
			<-ctx.Done()
			return nil
		case <-ctx.Done():
			c.shut()
			return nil
		}
	}
}

// admit opens the store for callers.
func (c *Control) admit(eng *engine) {
	c.eng.Store(eng)
	c.away.Store(false)
	if err := dropMark(c.cfg.Dir, beginFile); err != nil {
		c.log.Warn("mark of the first start stays", "err", err)
	}
	c.log.Info("configuration store ready", "node", c.cfg.NodeID, "peer", c.address().PeerAdvertise, "took", time.Since(eng.started))
	c.opened.Do(func() { close(c.ready) })
}

// shut refuses new calls and ends the watches.
func (c *Control) shut() {
	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	c.cancel()
}

var (
	errRemoved = errors.New("removed from the cluster")
	errOlder   = errors.New("its files are older than what this server told the others, as when the disk or the machine was set back to an earlier state")
)

// leave notes for this and later starts that this server is no member any more.
func (c *Control) leave() {
	c.removed.Store(true)
	c.log.Warn("this server was removed from the cluster")
	if err := writeMark(c.cfg.Dir, removedFile, c.cfg.NodeID+"\n"); err != nil {
		c.log.Warn("the removal is not noted in the directory", "err", err)
	}
}

// isOlder notes for this and later starts that the files are from before what
// this member told the others. CheckDir reports it then.
func (c *Control) isOlder() {
	if err := writeMark(c.cfg.Dir, olderFile, ""); err != nil {
		c.log.Warn("that the files are too old is not noted in the directory", "err", err)
	}
	c.died(errOlder)
}

func (c *Control) died(err error) {
	msg := "etcd stopped"
	if err != nil {
		msg = err.Error()
	}
	c.fatal.CompareAndSwap(nil, &msg)
	c.log.Error("configuration store died; this server goes on with the last seen configuration and needs a restart", "err", msg)
}

// Restart closes the store and opens it again in this process, because etcd
// reads the CA file of peers only when it starts. Watches go on by themselves,
// writes wait, reads answer model.ErrUnavailable meanwhile (about a second).
// Servers must do this one after the other. It returns when the store is ready.
func (c *Control) Restart(ctx context.Context) error {
	if c.removed.Load() || c.fatal.Load() != nil {
		return fmt.Errorf("restart: %w", c.state())
	}
	asked := make(chan error, 1)
	select {
	case c.restart <- asked:
	case <-c.ctx.Done():
		return fmt.Errorf("restart: %w", c.state())
	case <-ctx.Done():
		return fmt.Errorf("restart: %w: %w", model.ErrUnavailable, ctx.Err())
	}
	select {
	case err := <-asked:
		if err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	case <-ctx.Done():
		return fmt.Errorf("restart: %w: %w", model.ErrUnavailable, ctx.Err())
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.eng.Load() == nil {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return fmt.Errorf("restart: %w", c.state())
		case <-ctx.Done():
			return fmt.Errorf("restart: %w: %w", model.ErrUnavailable, ctx.Err())
		}
	}
	return nil
}

// address returns the configuration with the ports that were found.
func (c *Control) address() Config {
	c.bmu.Lock()
	defer c.bmu.Unlock()
	if c.bound.PeerAddr == "" {
		return c.cfg
	}
	return c.bound
}

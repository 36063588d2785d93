// Package control is the configuration store: an embedded etcd that answers
// in-process, without a client port. It keeps etcd from meeting the two things
// it does not survive: a full disk and its own damaged files.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// The data of the store live in model, so that its users need not import this package.
type (
	KV         = model.KV
	Cond       = model.KVCond
	Op         = model.KVOp
	WatchBatch = model.KVBatch
)

// Config says where the store lives and how it guards itself. The zero value
// of an optional field is its default.
type Config struct {
	Dir       string // etcd's data directory; made when it does not exist
	NodeID    string // name of this member; never the same on two servers
	ClusterID string // token of the cluster

	PeerAddr string        // host:port for other members; default 127.0.0.1:0 (any free port of loopback)
	PeerTLS  TLSFiles      // mutual TLS towards other members; required unless PeerAddr is loopback
	Initial  []Member      // all first members of the cluster, this one included; default this one alone
	Join     bool          // this server joins a running cluster that already lists it
	Heart    time.Duration // heartbeat; an election takes ten of them. Default 100ms

	QuotaBytes   int64 // largest size of etcd's database; default 512 MiB
	MinFreeBytes int64 // writes are refused when less than this is free on the disk; default 128 MiB
	ReserveBytes int64 // size of the file that is given up when something else fills the disk; default 256 MiB

	Timeout      time.Duration // limit of one call; default 5s
	StartTimeout time.Duration // after this without being ready Status says so; default 60s
}

// TLSFiles names PEM files. Certificate and key are read again at each handshake.
type TLSFiles struct{ Cert, Key, CA string }

// Member is one voter of the cluster.
type Member struct{ NodeID, Addr string }

// Deps are the collaborators of a Control. All may be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// FreeSpace reports the bytes that a process may still write below dir.
	// Default: what the file system says.
	FreeSpace func(dir string) (int64, error)
}

func (c *Config) setDefaults() {
	if c.PeerAddr == "" {
		c.PeerAddr = "127.0.0.1:0"
	}
	if c.Heart == 0 {
		c.Heart = 100 * time.Millisecond
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = 512 << 20
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 128 << 20
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 256 << 20
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = time.Minute
	}
}

func (c *Config) validate() error {
	var inv model.Invalid
	if c.Dir == "" {
		inv.Add("dir", "must name a directory")
	}
	if c.NodeID == "" {
		inv.Add("node_id", "must be given: two members with the same name are taken for one")
	}
	if c.ClusterID == "" {
		inv.Add("cluster_id", "must be given")
	}
	host, _, err := net.SplitHostPort(c.PeerAddr)
	if err != nil {
		inv.Add("peer_addr", "must be host:port: %s", err)
	} else if ip := net.ParseIP(host); c.PeerTLS == (TLSFiles{}) && (ip == nil || !ip.IsLoopback()) {
		inv.Add("peer_addr", "must be a loopback address such as 127.0.0.1:0 unless peer TLS is set")
	}
	if t := c.PeerTLS; t != (TLSFiles{}) && (t.Cert == "" || t.Key == "" || t.CA == "") {
		inv.Add("peer_tls", "needs all three of cert, key and CA")
	}
	if c.QuotaBytes < 16<<20 {
		inv.Add("quota_bytes", "must be at least 16 MiB")
	}
	if c.MinFreeBytes < 0 || c.ReserveBytes < 0 {
		inv.Add("min_free_bytes", "and reserve_bytes must not be negative")
	}
	return inv.Err()
}

// Control is the configuration store of this server. Its methods may be used
// by several goroutines; before Ready they answer model.ErrUnavailable.
type Control struct {
	cfg   Config
	log   *slog.Logger
	space *space
	met   *metrics

	ready  chan struct{}
	closed atomic.Bool
	eng    atomic.Pointer[engine]
	fatal  atomic.Pointer[string] // why etcd ended itself

	// ctx ends all watches; it is made here because watches may be asked for before Run.
	ctx     context.Context //nolint:containedctx // the lifetime of the watches, not of a call
	cancel  context.CancelFunc
	watches sync.WaitGroup
	mu      sync.Mutex // guards starting a watch against the end of Run
	late    atomic.Bool
	full    atomic.Bool // etcd raised its NOSPACE alarm
	slim    chan struct{}
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
	c := &Control{
		cfg:   cfg,
		log:   deps.Logger,
		ready: make(chan struct{}),
		slim:  make(chan struct{}, 1),
		space: &space{
			dir: cfg.Dir, file: filepath.Join(cfg.Dir, "reserve"), free: deps.FreeSpace,
			min: cfg.MinFreeBytes, reserve: cfg.ReserveBytes, log: deps.Logger,
		},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.met = newMetrics(deps.Registerer, c)
	return c, nil
}

// Ready is closed once the store answers reads and writes.
func (c *Control) Ready() <-chan struct{} { return c.ready }

// Run keeps the store open until ctx ends. It returns an error when etcd
// cannot be started; a store that dies later, or that has no quorum, keeps
// Run waiting, so that the rest of the server goes on: Status and Writable
// give the reason.
func (c *Control) Run(ctx context.Context) error {
	defer func() {
		c.mu.Lock()
		c.closed.Store(true)
		c.mu.Unlock()
		c.cancel()
		c.watches.Wait()
	}()
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("open configuration store: %w", err)
	}
	c.space.check()
	bridge := newBridge(c.log, func(msg string) { c.fatal.CompareAndSwap(nil, &msg) })
	stopLog := bridge.run()
	defer stopLog()

	eng, err := startEngine(c.cfg, bridge.zap())
	if err != nil {
		if msg := c.fatal.Load(); msg != nil {
			err = errors.Join(err, errors.New(*msg))
		}
		if isAddrInUse(err) {
			return fmt.Errorf("open configuration store %s: %w (choose other ports with --port-offset or peer_listen)", c.cfg.Dir, err)
		}
		return fmt.Errorf("open configuration store %s: %w", c.cfg.Dir, err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { c.monitor(wctx, eng) })

	select {
	case <-eng.etcd.Server.ReadyNotify():
		c.eng.Store(eng)
		c.log.Info("configuration store ready", "node", c.cfg.NodeID, "peer", eng.peer, "took", time.Since(eng.started))
		close(c.ready)
		select {
		case <-ctx.Done():
		case err := <-eng.etcd.Err():
			c.died(err)
			<-ctx.Done()
		}
	case err := <-eng.etcd.Err():
		c.died(err)
		<-ctx.Done()
	case <-ctx.Done():
	}

	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	stop()
	c.cancel()
	c.watches.Wait() // they use the client, so they end first
	wg.Wait()
	return eng.close(10 * time.Second)
}

func (c *Control) died(err error) {
	msg := "etcd stopped"
	if err != nil {
		msg = err.Error()
	}
	c.fatal.CompareAndSwap(nil, &msg)
	c.log.Error("configuration store died; this server goes on with the last seen configuration and needs a restart", "err", msg)
}

// client returns the in-process client, or why there is none.
func (c *Control) client() (*clientv3.Client, error) {
	if err := c.state(); err != nil {
		return nil, err
	}
	return c.eng.Load().client, nil
}

// state says why the store cannot be used at all.
func (c *Control) state() error {
	switch {
	case c.closed.Load():
		return fmt.Errorf("%w: the configuration store is shutting down", model.ErrUnavailable)
	case c.fatal.Load() != nil:
		return fmt.Errorf("%w: the configuration store has stopped (%s); restart this server", model.ErrUnavailable, *c.fatal.Load())
	case c.eng.Load() == nil && c.late.Load():
		return fmt.Errorf("%w: the configuration store did not get ready in %s: no majority of servers, or its log is damaged", model.ErrUnavailable, c.cfg.StartTimeout)
	case c.eng.Load() == nil:
		return fmt.Errorf("%w: the configuration store is starting", model.ErrUnavailable)
	}
	return nil
}

// Writable says why a write would be refused now, nil when it would not.
func (c *Control) Writable() error {
	if err := c.state(); err != nil {
		return err
	}
	if c.eng.Load().etcd.Server.Leader() == 0 {
		return fmt.Errorf("%w: the configuration store has no leader: too few servers are reachable", model.ErrUnavailable)
	}
	if c.full.Load() {
		return fmt.Errorf("%w: the configuration store has reached its size limit of %d bytes", model.ErrNoSpace, c.cfg.QuotaBytes)
	}
	return c.space.writable()
}

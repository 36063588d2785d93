package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"panoptes/internal/model"
)

const (
	// maxOps is the largest number of conditions, and of operations, of one
	// transaction. etcd is told two more, for what makes repeating it safe.
	maxOps      = 1024
	maxLearners = 2
	maxVoters   = 5
)

// engine is one run of etcd, or the connections of a client. Every call holds
// it by acquire, so that it is closed only when nobody uses it.
type engine struct {
	etcd    *embed.Etcd // nil for a client
	client  *clientv3.Client
	front   *grpc.Server // serves clients from outside; may be nil
	started time.Time
	joining bool // the member has no data yet, it gets them from the others

	ctx    context.Context //nolint:containedctx // its end makes callers let go of the engine
	cancel context.CancelFunc
	mu     sync.Mutex // guards adding users against closing
	closed bool
	users  sync.WaitGroup
}

func newEngine() *engine {
	e := &engine{started: time.Now()}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// acquire returns a context that also ends with the engine. release must be called.
func (e *engine) acquire(ctx context.Context) (_ context.Context, release func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, fmt.Errorf("%w: the configuration store is restarting", model.ErrUnavailable)
	}
	e.users.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() { stop(); cancel(); e.users.Done() }, nil
}

// gone is closed when etcd has ended, for whatever reason.
func (e *engine) gone() <-chan struct{} {
	if e.etcd == nil {
		return nil
	}
	return e.etcd.Server.StopNotify()
}

// published closes done when the members know this one by its name. etcd waits
// until the name comes by in the log. For a member that joins it often comes
// within a snapshot: etcd does not notice, and would try again after seven
// seconds. What a consistent read finds is what the members have agreed on.
func (e *engine) published(ctx context.Context, done chan<- struct{}) {
	s := e.etcd.Server
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-s.ReadyNotify():
			close(done)
			return
		case <-t.C:
			if !e.joining || !e.current(ctx) {
				continue
			}
			if m := s.Cluster().Member(s.MemberID()); m != nil && m.Name != "" {
				close(done)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// current reports whether this member has what had been agreed on a moment ago.
func (e *engine) current(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := e.client.Get(ctx, "0", clientv3.WithCountOnly())
	return err == nil
}

// close stops etcd. One that has died may never finish; after the limit it is left behind.
func (e *engine) close(limit time.Duration) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.users.Wait()
		if e.front != nil {
			e.front.Stop()
		}
		_ = e.client.Close() // ends its watch goroutines; the server is closed next
		if e.etcd != nil {
			e.etcd.Close()
		}
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("close configuration store: etcd did not stop within %s", limit)
	}
}

// etcdConfig translates cfg. initial is etcd's initial cluster: name=URL,…
func etcdConfig(cfg Config, initial string, lg *zap.Logger) *embed.Config {
	ec := embed.NewConfig()
	ec.Dir = cfg.Dir
	ec.Name = cfg.NodeID
	ec.InitialClusterToken = cfg.ClusterID
	scheme := cfg.scheme()
	if t := cfg.PeerTLS; scheme == "https" {
		p := &ec.PeerTLSInfo
		p.CertFile, p.KeyFile, p.TrustedCAFile, p.ClientCertAuth = t.Cert, t.Key, t.CA, true
		p.SkipClientSANVerify = true // a server may connect from another address than it is reached under
		if cfg.AllowedCN != "" {
			p.AllowedCNs = []string{cfg.AllowedCN}
		}
	}
	ec.ListenPeerUrls = []url.URL{{Scheme: scheme, Host: cfg.PeerAddr}}
	ec.AdvertisePeerUrls = []url.URL{{Scheme: scheme, Host: cfg.PeerAdvertise}}
	// Clients are served by us: etcd's own listener takes seconds to stop and
	// serves more than the store.
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil
	if cfg.ClientAddr != "" {
		ec.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: cfg.ClientAdvertise}}
	}
	ec.InitialCluster = initial
	if cfg.Join {
		ec.ClusterState = embed.ClusterStateFlagExisting
	}
	ec.EnableGRPCGateway = false
	ec.EnablePprof = false
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	ec.QuotaBackendBytes = cfg.QuotaBytes
	ec.TickMs = uint(cfg.Heart.Milliseconds())
	ec.ElectionMs = 10 * ec.TickMs
	ec.MaxLearners = maxLearners
	ec.MaxTxnOps = maxOps + 2
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	return ec
}

// startEtcd starts etcd; it does not wait until it is ready. etcd panics on
// some damaged files, and its fatal errors end the goroutine that meets them:
// both must not be ours.
func startEtcd(ec *embed.Config) (*embed.Etcd, error) {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() {
		res := result{err: errors.New("etcd gave up while starting")}
		defer func() {
			if p := recover(); p != nil {
				res.err = fmt.Errorf("etcd panicked while starting: %v", p)
			}
			done <- res
		}()
		res.etcd, res.err = embed.StartEtcd(ec)
	}()
	res := <-done
	return res.etcd, res.err
}

// startEngine starts a member of the cluster. Ports that were asked for as 0
// are kept by a later start.
func (c *Control) startEngine(ctx context.Context, lg *zap.Logger) (*engine, error) {
	var err error
	for range 3 { // a port that was free a moment ago may be taken
		cfg := c.cfg
		if c.bound.PeerAddr != "" {
			cfg = c.bound
		} else if err = cfg.bind(); err != nil {
			return nil, err
		}
		var eng *engine
		if eng, err = c.tryEngine(ctx, cfg, lg); err == nil {
			c.bmu.Lock()
			c.bound = cfg
			c.bmu.Unlock()
			return eng, nil
		}
		if _, port, _ := net.SplitHostPort(c.cfg.PeerAddr); port != "0" || !isAddrInUse(err) {
			break
		}
	}
	return nil, err
}

func (c *Control) tryEngine(ctx context.Context, cfg Config, lg *zap.Logger) (*engine, error) {
	fresh := !memberExists(cfg.Dir)
	initial := cfg.NodeID + "=" + cfg.scheme() + "://" + cfg.PeerAdvertise
	switch {
	case fresh && cfg.Join:
		var err error
		if initial, err = c.joinList(ctx, cfg); err != nil {
			return nil, err
		}
	default:
		for _, m := range cfg.Initial {
			if m.NodeID != cfg.NodeID {
				initial += "," + m.NodeID + "=" + cfg.scheme() + "://" + m.Addr
			}
		}
	}
	var ln net.Listener
	if cfg.ClientAddr != "" {
		var err error
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.ClientAddr); err != nil {
			return nil, err
		}
	}
	if fresh {
		if err := beginMember(cfg.Dir); err != nil {
			return nil, err
		}
	}
	eng := newEngine()
	eng.joining = fresh && cfg.Join
	var err error
	if eng.etcd, err = startEtcd(etcdConfig(cfg, initial, lg)); err != nil {
		eng.cancel()
		if ln != nil {
			_ = ln.Close()
		}
		return nil, err
	}
	eng.client = v3client.New(eng.etcd.Server)
	if ln != nil {
		eng.front = c.serveClients(eng, ln)
	}
	return eng, nil
}

// peerHTTP returns a client for the small HTTP service of members.
func (c *Control) peerHTTP() *http.Client {
	tr := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: probeTimeout}).DialContext,
		TLSHandshakeTimeout: probeTimeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
	}
	if c.cfg.PeerTLS.Cert != "" {
		tr.TLSClientConfig = c.identity().client("http/1.1")
	}
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (c *Control) identity() identity {
	return identity{files: c.cfg.PeerTLS, cn: c.cfg.AllowedCN}
}

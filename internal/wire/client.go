package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Times of a client's connections.
const (
	dialTimeout  = 3 * time.Second
	callTimeout  = 30 * time.Second // of calls without a deadline
	maxBackoff   = time.Second
	idleConns    = 10 * time.Minute // after which a connection that nobody uses is closed
	maxConnAge   = 6 * time.Hour    // after which new calls get a new connection, made with the certificate of that day
	silenceProbe = time.Second      // without a byte from the peer: ask
	silenceLimit = 2 * time.Second  // without one after having asked: the peer is gone
)

// ClientConfig says how to reach nodes.
type ClientConfig struct {
	// TLS is asked at each new connection, so that renewed certificates are used
	// at once. nodeID is who must answer, "" any server of ours.
	TLS        func(nodeID string) *tls.Config
	MaxMessage int // bytes of one message; default 8 MiB
	// Dial replaces the plain TCP dialer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// ClientDeps are the collaborators of a Client; all may be nil.
type ClientDeps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Client keeps one connection to each node that it talks to.
type Client struct {
	cfg     ClientConfig
	log     *slog.Logger
	metrics *metrics
	wg      sync.WaitGroup // watchers of connections

	mu      sync.Mutex // guards what follows
	links   map[linkKey]*link
	retired map[*link]struct{} // too old for new calls, still with streams
	closed  bool
	methods map[string]*traffic
}

type linkKey struct{ nodeID, addr string }

// NewClient returns a client that connects when it is needed. It works before
// Run, which tidies up and closes it in the end; without Run, call Close.
func NewClient(cfg ClientConfig, deps ClientDeps) *Client {
	setDefault(&cfg.MaxMessage, DefaultMaxMessage)
	if cfg.Dial == nil {
		d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{
		cfg: cfg, log: deps.Logger, metrics: newMetrics(deps.Registerer, "client"),
		links: map[linkKey]*link{}, retired: map[*link]struct{}{}, methods: map[string]*traffic{},
	}
}

// Conn returns the way to nodeID at addr (host:port). It costs nothing until it
// is used.
func (c *Client) Conn(nodeID, addr string) Conn {
	return &conn{c: c, key: linkKey{nodeID, addr}}
}

// Run closes connections that nobody uses, and all of them when ctx ends.
func (c *Client) Run(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return c.Close()
		case <-t.C:
			c.tidy(time.Now())
		}
	}
}

// Close ends all connections and waits for what watches them. Calls after it
// are model.ErrUnavailable.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	var all []*link
	for _, l := range c.links {
		all = append(all, l)
	}
	for l := range c.retired {
		all = append(all, l)
	}
	clear(c.links)
	clear(c.retired)
	c.mu.Unlock()
	var errs []error
	for _, l := range all {
		errs = append(errs, l.close())
	}
	c.wg.Wait()
	return errors.Join(errs...)
}

func (c *Client) tidy(now time.Time) {
	var idle []*link
	c.mu.Lock()
	for k, l := range c.links {
		if l.users == 0 && now.Sub(l.used) > idleConns {
			delete(c.links, k)
			idle = append(idle, l)
		}
	}
	c.mu.Unlock()
	for _, l := range idle {
		_ = l.close()
	}
}

// acquire returns the link to key, which the caller releases.
func (c *Client) acquire(key linkKey) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("%w: this process is stopping", model.ErrUnavailable)
	}
	now := time.Now()
	l := c.links[key]
	if l != nil && now.Sub(l.made) > maxConnAge {
		delete(c.links, key)
		if l.users == 0 {
			c.wg.Go(func() { _ = l.close() }) // not under the lock
		} else {
			c.retired[l] = struct{}{}
		}
		l = nil
	}
	if l == nil {
		var err error
		if l, err = newLink(c, key, now); err != nil {
			return nil, err
		}
		c.links[key] = l
	}
	l.users++
	l.used = now
	return l, nil
}

func (c *Client) release(l *link) {
	c.mu.Lock()
	l.users--
	l.used = time.Now()
	_, old := c.retired[l]
	gone := old && l.users == 0
	if gone {
		delete(c.retired, l)
	}
	c.mu.Unlock()
	if gone {
		_ = l.close()
	}
}

func (c *Client) traffic(method string) *traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.methods[method]
	if t == nil {
		t = c.metrics.traffic(method)
		c.methods[method] = t
	}
	return t
}

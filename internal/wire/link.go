package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// link is the gRPC channel to one node and what watches its connection.
type link struct {
	c    *Client
	key  linkKey
	made time.Time
	cc   *grpc.ClientConn

	// Guarded by c.mu.
	users int
	used  time.Time
}

func newLink(c *Client, key linkKey, now time.Time) (*link, error) {
	l := &link{c: c, key: key, made: now, used: now}
	cc, err := grpc.NewClient("passthrough:///"+key.addr,
		grpc.WithTransportCredentials(&dialTLS{config: func() *tls.Config { return c.cfg.TLS(key.nodeID) }, addr: key.addr}),
		grpc.WithContextDialer(l.dial),
		grpc.WithNoProxy(),
		grpc.WithUserAgent(serviceName),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(64<<10),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(c.cfg.MaxMessage), grpc.MaxCallSendMsgSize(c.cfg.MaxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", key.addr, err)
	}
	l.cc = cc
	return l, nil
}

func (l *link) close() error {
	if err := l.cc.Close(); err != nil {
		return fmt.Errorf("close connection to %s: %w", l.key.addr, err)
	}
	return nil
}

// dial connects and begins to watch the connection.
func (l *link) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := l.c.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	w := &watched{Conn: raw, made: time.Now(), done: make(chan struct{})}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	l.c.metrics.conns.WithLabelValues("peer").Inc()
	l.c.wg.Go(func() { l.watch(w) })
	return w, nil
}

// watch ends the connection when the peer, asked after a second of silence, says
// nothing for two more: a stopped process or a cut cable closes no connection.
func (l *link) watch(w *watched) {
	defer l.c.metrics.conns.WithLabelValues("peer").Dec()
	look := time.NewTimer(silenceProbe)
	defer look.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-look.C:
		}
		heard := w.heard.Load()
		left := silenceProbe - (time.Since(w.made) - time.Duration(heard))
		look.Reset(max(left, silenceProbe/20))
		if left > 0 {
			continue
		}
		l.ping(w)
		if w.heard.Load() != heard {
			continue
		}
		select {
		case <-w.done:
			return
		default:
		}
		l.c.metrics.refused.WithLabelValues("silent").Inc()
		l.c.log.Info("connection given up: peer is silent", "node", l.key.nodeID, "address", l.key.addr)
		_ = w.Close()
		return
	}
}

// ping asks for a sign of life and waits until there is one, whatever it says.
func (l *link) ping(w *watched) {
	ctx, cancel := context.WithTimeout(context.Background(), silenceLimit)
	defer cancel()
	heard := w.heard.Load()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		resp := message{own: true}
		_ = l.cc.Invoke(ctx, "/"+serviceName+"/"+pingMethod, []byte(nil), &resp)
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for w.heard.Load() == heard {
		select {
		case <-ctx.Done():
			<-asked
			return
		case <-w.done:
			cancel()
		case <-tick.C:
		}
	}
	cancel()
	<-asked
}

// watched is a connection that knows when it last heard its peer. It counts from
// its beginning, whatever the wall clock does.
type watched struct {
	net.Conn
	made  time.Time
	heard atomic.Int64 // ns since made
	once  sync.Once
	done  chan struct{}
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.heard.Store(int64(time.Since(w.made)))
	}
	return n, err
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.done) })
	return w.Conn.Close()
}

// dialTLS asks for the configuration at each handshake.
type dialTLS struct {
	config func() *tls.Config
	addr   string
}

func (d *dialTLS) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg := d.config()
	if cfg == nil {
		return nil, nil, errors.New("there is no TLS configuration for this peer")
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	cfg.MinVersion = tls.VersionTLS13
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(d.addr)
		if err != nil {
			return nil, nil, fmt.Errorf("address %s: %w", d.addr, err)
		}
		cfg.ServerName = host
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{State: conn.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (d *dialTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for clients")
}

func (d *dialTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (d *dialTLS) Clone() credentials.TransportCredentials { c := *d; return &c }
func (d *dialTLS) OverrideServerName(string) error         { return nil }

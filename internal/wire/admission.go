package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"

	"panoptes/internal/model"
)

// admitted takes over connections whose handshake has been made.
type admitted struct{}

func (admitted) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*serverConn)
	if !ok {
		return nil, nil, fmt.Errorf("connection of type %T was not admitted", raw)
	}
	return c, c, nil
}

func (admitted) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers")
}

func (admitted) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (admitted) Clone() credentials.TransportCredentials { return admitted{} }
func (admitted) OverrideServerName(string) error         { return nil }

// serverConn is a connection whose peer is known. As AuthInfo it tells handlers
// who that is.
type serverConn struct {
	*tls.Conn
	reg   *registry
	addr  string // of the peer, for limits
	state tls.ConnectionState
	peer  atomic.Pointer[model.Peer]
	made  time.Time
	asked atomic.Int64 // when Identify was asked last, ns since made
	// denied is why the certificate is no good. Such a peer is a stranger whose
	// every call gets this answer, since a closed connection would tell it nothing.
	denied error
	once   sync.Once
}

// hangUp ends the connection when an answer has had the time to leave.
func (c *serverConn) hangUp() {
	time.AfterFunc(100*time.Millisecond, func() { _ = c.Close() })
}

// AuthType names the kind of proof.
func (*serverConn) AuthType() string { return "panoptes" }

// stranger says whether the peer may only make the calls of anyone.
func (c *serverConn) stranger() bool {
	p := c.peer.Load()
	return p.NodeID == "" || p.Expired
}

// class is a kind of peer with bounds of its own.
type class int

const (
	ours class = iota // servers and witnesses
	agents
	strangers // and nodes whose certificate has ended
)

func (c *serverConn) class() class {
	switch {
	case c.stranger():
		return strangers
	case c.peer.Load().Role == model.RoleAgent:
		return agents
	}
	return ours
}

// Close ends the connection and its registration.
func (c *serverConn) Close() error {
	c.once.Do(func() { c.reg.drop(c) })
	// A peer that does not read would keep the closing alert waiting.
	_ = c.Conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	return c.Conn.Close()
}

// registry knows all connections, to bound them and to end those of a node.
type registry struct {
	cfg     ServerConfig
	metrics *metrics

	mu      sync.Mutex // guards what follows
	pending map[net.Conn]struct{}
	conns   map[*serverConn]string // → node id, empty for strangers
	nodes   map[string]int
	addrs   map[string]int // pending and strangers
	closed  bool
}

func newRegistry(cfg ServerConfig, m *metrics) *registry {
	return &registry{cfg: cfg, metrics: m, pending: map[net.Conn]struct{}{}, conns: map[*serverConn]string{}, nodes: map[string]int{}, addrs: map[string]int{}}
}

// admit makes the handshake and registers the connection, or closes it and says
// why (a label of metrics).
func (r *registry) admit(raw net.Conn, cfg *tls.Config, identify func(tls.ConnectionState) (model.Peer, error)) (*serverConn, string, error) {
	addr := source(raw.RemoteAddr())
	if reason := r.begin(raw, addr); reason != "" {
		_ = raw.Close()
		return nil, reason, errors.New("too many connections")
	}
	defer r.end(raw, addr)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	conn := tls.Server(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, "handshake", fmt.Errorf("handshake: %w", err)
	}
	c := &serverConn{Conn: conn, reg: r, addr: addr, state: conn.ConnectionState(), made: time.Now()}
	peer, err := identify(c.state)
	if err != nil {
		peer, c.denied = model.Peer{}, err
		r.metrics.refused.WithLabelValues("identity").Inc()
	}
	c.peer.Store(&peer)
	if reason := r.add(c, peer); reason != "" {
		_ = conn.Close()
		return nil, reason, errors.New("too many connections")
	}
	// Who was revoked between the first look and the registration would be missed
	// by Disconnect.
	if _, err := identify(c.state); err != nil && c.denied == nil {
		_ = c.Close()
		return nil, "identity", err
	}
	return c, "", nil
}

func (r *registry) begin(raw net.Conn, addr string) (refused string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return "stopping"
	case r.addrs[addr] >= max(r.cfg.AnonymousConns/4, 1):
		return "address"
	}
	r.pending[raw] = struct{}{}
	r.addrs[addr]++
	return ""
}

func (r *registry) end(raw net.Conn, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, raw)
	decrement(r.addrs, addr)
}

func (r *registry) add(c *serverConn, p model.Peer) (refused string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return "stopping"
	case p.NodeID != "" && r.nodes[p.NodeID] >= r.connsOf(p):
		return "node_connections"
	case p.NodeID == "" && r.nodes[""] >= r.cfg.AnonymousConns:
		return "strangers"
	}
	r.conns[c] = p.NodeID
	r.nodes[p.NodeID]++
	if p.NodeID == "" {
		r.addrs[c.addr]++
	}
	r.metrics.conns.WithLabelValues(roleLabel(p)).Inc()
	return ""
}

// connsOf is how many connections a node may have.
func (r *registry) connsOf(p model.Peer) int {
	if p.Role == model.RoleAgent {
		return r.cfg.AgentConns
	}
	return r.cfg.NodeConns
}

func (r *registry) drop(c *serverConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.conns[c]
	if !ok {
		return
	}
	delete(r.conns, c)
	decrement(r.nodes, id)
	if id == "" {
		decrement(r.addrs, c.addr)
	}
	r.metrics.conns.WithLabelValues(roleLabel(*c.peer.Load())).Dec()
}

func (r *registry) disconnect(nodeID string) int {
	if nodeID == "" {
		return 0
	}
	var of []*serverConn
	r.mu.Lock()
	for c, id := range r.conns {
		if id == nodeID {
			of = append(of, c)
		}
	}
	r.mu.Unlock()
	for _, c := range of {
		_ = c.Close()
	}
	return len(of)
}

// closePending ends handshakes; none is begun any more.
func (r *registry) closePending() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for c := range r.pending {
		_ = c.Close()
	}
}

func decrement(m map[string]int, key string) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}

func roleLabel(p model.Peer) string {
	if p.NodeID == "" {
		return "stranger"
	}
	switch p.Role {
	case model.RoleServer, model.RoleWitness, model.RoleAgent:
		return string(p.Role)
	}
	return "other"
}

// source names where a connection comes from: an IPv4 address or the /64 of an
// IPv6 one, since a single host has all of those.
func source(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := ap.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}

// rates bounds the calls of strangers, each and all together.
type rates struct {
	each rate.Limit
	all  *rate.Limiter

	mu sync.Mutex // guards by
	by map[string]*rate.Limiter
}

func newRates(each float64) *rates {
	return &rates{each: rate.Limit(each), all: rate.NewLimiter(rate.Limit(40*each), int(160*each)+1), by: map[string]*rate.Limiter{}}
}

func (r *rates) allow(key string) bool {
	r.mu.Lock()
	l := r.by[key]
	if l == nil {
		if len(r.by) >= 4096 {
			// Forgetting all is kinder than remembering without end; the common
			// limit still holds.
			clear(r.by)
		}
		l = rate.NewLimiter(r.each, int(4*r.each)+1)
		r.by[key] = l
	}
	r.mu.Unlock()
	return l.Allow() && r.all.Allow()
}

// handover is the listener of a gRPC server that is given its connections.
type handover struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handover) put(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept returns the next connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, io.EOF
	}
}

// Close ends Accept.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is where the real listener listens.
func (h *handover) Addr() net.Addr { return h.addr }

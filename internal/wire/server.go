package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"panoptes/internal/model"
)

// Times of a server's life. A peer that is gone is noticed after the sum of the
// first two.
const (
	keepaliveTime    = time.Second
	keepaliveTimeout = 2 * time.Second
	handshakeTimeout = 5 * time.Second
	identifyEvery    = 30 * time.Second       // how often a live connection is looked at again when it calls
	stopGrace        = 2 * time.Second        // for calls in flight
	stopStreams      = 300 * time.Millisecond // for streams, and for answers on their way
	stopHandlers     = time.Second            // for handlers after their connection was closed
)

// ServerConfig says where to listen and what to bear. Zero limits mean defaults.
type ServerConfig struct {
	Listener net.Listener
	TLS      *tls.Config // must ask for client certificates, and let strangers in who have none

	MaxMessage   int // bytes of one message; default 8 MiB
	MaxAnonymous int // bytes of one message of a stranger; default 64 KiB

	AnonymousRate  float64 // calls a second of one stranger's address; default 5, bursts four times that
	AnonymousConns int     // connections of strangers and handshakes at once; default 256, a quarter of them from one address
	NodeConns      int     // connections of one node; default 16

	// Agents are many, and what runs on their hosts is not ours: each may have
	// this much of the server's memory.
	AgentConns   int // connections of one agent; default 8
	AgentStreams int // calls and streams at once of one of them; default 6
	AgentMessage int // bytes of one message; default 2 MiB, MaxMessage at most

	// IdentifyEvery is how often a live connection is looked at again when it
	// calls; default 30 s.
	IdentifyEvery time.Duration
}

// ServerDeps are the collaborators of a Server.
type ServerDeps struct {
	// Identify says who is there, before anything that they sent is read. The
	// zero Peer is a stranger; an error is the answer to all calls of that peer.
	// It is asked again from time to time while the connection lives.
	Identify   func(tls.ConnectionState) (model.Peer, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Server answers calls and streams of nodes, and of strangers where a method
// lets them.
type Server struct {
	cfg     ServerConfig
	deps    ServerDeps
	log     *slog.Logger
	tls     *tls.Config
	metrics *metrics
	conns   *registry
	rate    *rates

	// mu guards what follows, which stands still once Run has begun.
	mu      sync.Mutex
	methods map[string]*method
	running bool

	stopping  atomic.Bool
	stopCtx   context.Context //nolint:containedctx // ends the contexts of streams
	stopFn    context.CancelFunc
	unary     atomic.Int64 // calls in flight
	handlers  sync.WaitGroup
	inFlight  sync.Map // a key of each running handler → name of its method
	handshake chan struct{}
}

// method is what is known of a registered name.
type method struct {
	name    string
	allow   []model.NodeRole
	public  bool
	unary   Handler
	stream  StreamHandler
	traffic *traffic
}

// NewServer takes over the listener; Run closes it.
func NewServer(cfg ServerConfig, deps ServerDeps) (*Server, error) {
	switch {
	case cfg.Listener == nil:
		return nil, errors.New("wire server: Listener is missing")
	case cfg.TLS == nil || deps.Identify == nil:
		return nil, errors.New("wire server: TLS and Identify are needed: nothing is read from peers that nobody knows")
	}
	setDefault(&cfg.MaxMessage, DefaultMaxMessage)
	setDefault(&cfg.MaxAnonymous, MaxAnonymous)
	setDefault(&cfg.AnonymousConns, 256)
	setDefault(&cfg.NodeConns, 16)
	setDefault(&cfg.AgentConns, 8)
	setDefault(&cfg.AgentStreams, 6)
	setDefault(&cfg.AgentMessage, 2<<20)
	cfg.AgentMessage = min(cfg.AgentMessage, cfg.MaxMessage)
	setDefault(&cfg.IdentifyEvery, 30*time.Second)
	if cfg.AnonymousRate <= 0 {
		cfg.AnonymousRate = 5
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	t := cfg.TLS.Clone()
	t.NextProtos = []string{"h2"}
	t.MinVersion = tls.VersionTLS13
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Logger, tls: t,
		metrics:   newMetrics(deps.Registerer, "server"),
		methods:   map[string]*method{},
		rate:      newRates(cfg.AnonymousRate),
		handshake: make(chan struct{}, cfg.AnonymousConns),
	}
	s.conns = newRegistry(cfg, s.metrics)
	s.stopCtx, s.stopFn = context.WithCancel(context.Background())
	s.Handle(pingMethod, Anyone, func(context.Context, model.Peer, []byte) ([]byte, error) { return nil, nil })
	return s, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.cfg.Listener.Addr() }

// Handle registers a call before Run. Allow names the roles that may make it;
// nil means every node with a valid certificate, Anyone strangers too.
func (s *Server) Handle(name string, allow []model.NodeRole, h Handler) {
	s.register(&method{name: name, allow: allow, unary: h})
}

// HandleStream registers a stream before Run; see Handle.
func (s *Server) HandleStream(name string, allow []model.NodeRole, h StreamHandler) {
	s.register(&method{name: name, allow: allow, stream: h})
}

// Methods lists what was registered and the roles that may call it, as they were
// given to Handle.
func (s *Server) Methods() map[string][]model.NodeRole {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]model.NodeRole, len(s.methods))
	for name, m := range s.methods {
		out[name] = slices.Clone(m.allow)
	}
	return out
}

func (s *Server) register(m *method) {
	m.public = slices.Contains(m.allow, anyone)
	m.traffic = s.metrics.traffic(m.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		panic("wire: method " + m.name + " registered while the server runs")
	}
	if s.methods[m.name] != nil {
		panic("wire: method " + m.name + " registered twice")
	}
	s.methods[m.name] = m
}

// Disconnect ends all connections of a node. Who was revoked does not come back,
// since Identify is asked before anything else.
func (s *Server) Disconnect(nodeID string) {
	if n := s.conns.disconnect(nodeID); n > 0 {
		s.metrics.refused.WithLabelValues("disconnected").Add(float64(n))
		s.log.Info("peer disconnected", "node", nodeID, "connections", n)
	}
}

// Run serves until ctx ends. Calls in flight have 2 s to end, streams are told
// at once by their context; after 3 s Run is back.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("run wire server: it has run already")
	}
	s.running = true
	s.mu.Unlock()

	var servers []*grpc.Server
	doors := map[class]*handover{}
	var wg sync.WaitGroup
	for _, c := range []class{ours, agents, strangers} {
		g, h := s.grpcServer(c), newHandover(s.Addr())
		servers, doors[c] = append(servers, g), h
		wg.Go(func() { _ = g.Serve(h) })
	}

	failed := make(chan error, 1)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		failed <- s.accept(&accepting, doors)
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.stopping.Store(true)
	if cerr := s.cfg.Listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) && err == nil {
		err = fmt.Errorf("close cluster listener: %w", cerr)
	}
	s.conns.closePending()
	ended := s.stop(servers...)
	accepting.Wait()
	if ended {
		wg.Wait()
	}
	return err
}

// stop ends the servers within three seconds. It returns false when a handler
// outlasts that: gRPC's servers wait for it without end, so nobody may wait for
// them.
func (s *Server) stop(servers ...*grpc.Server) (ended bool) {
	s.stopFn()
	quiet := make(chan struct{})
	var graceful sync.WaitGroup
	for _, g := range servers {
		graceful.Go(g.GracefulStop)
	}
	go func() { graceful.Wait(); close(quiet) }() // ends at the latest with the last handler

	began := time.Now()
	busy := began // an answer needs a moment more to be on its way
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-quiet:
			waiting = false
		case <-tick.C:
			if s.unary.Load() > 0 {
				busy = time.Now()
			}
			waiting = time.Since(busy) < stopStreams && time.Since(began) < stopGrace
		}
	}
	for _, g := range servers {
		go g.Stop() // waits for handlers when the graceful stop does
	}
	done := make(chan struct{})
	go func() { s.handlers.Wait(); <-quiet; close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(stopHandlers):
		var names []string
		s.inFlight.Range(func(_, v any) bool {
			names = append(names, v.(string))
			return true
		})
		s.log.Error("handlers did not end with their connection", "methods", names)
		return false
	}
}

// accept hands each connection to the server that its peer may talk to.
func (s *Server) accept(wg *sync.WaitGroup, doors map[class]*handover) error {
	for delay := time.Duration(0); ; {
		raw, err := s.cfg.Listener.Accept()
		if err != nil {
			if s.stopping.Load() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, or the like: the listener still lives.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Warn("accept on the cluster port", "err", err, "again_in", delay)
			select {
			case <-s.stopCtx.Done():
				return nil
			case <-time.After(delay):
			}
			continue
		}
		delay = 0
		select {
		case s.handshake <- struct{}{}:
		default:
			s.metrics.refused.WithLabelValues("handshakes").Inc()
			_ = raw.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-s.handshake }()
			s.welcome(raw, doors)
		})
	}
}

// welcome makes the handshake, learns who it is and passes the connection on.
func (s *Server) welcome(raw net.Conn, doors map[class]*handover) {
	c, reason, err := s.conns.admit(raw, s.tls, s.deps.Identify)
	if err != nil {
		s.metrics.refused.WithLabelValues(reason).Inc()
		s.log.Debug("connection refused", "address", raw.RemoteAddr().String(), "reason", reason, "err", err)
		return
	}
	if !doors[c.class()].put(c) {
		_ = c.Close()
	}
}

// grpcServer makes the server of one class of peers.
func (s *Server) grpcServer(who class) *grpc.Server {
	kp := keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}
	opts := []grpc.ServerOption{
		grpc.Creds(admitted{}),
		grpc.ForceServerCodecV2(codec{}),
		grpc.InTapHandle(s.tap),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.MaxHeaderListSize(16 << 10),
	}
	switch who {
	case strangers:
		kp.MaxConnectionIdle, kp.MaxConnectionAge, kp.MaxConnectionAgeGrace = 10*time.Second, time.Minute, 2*time.Minute // joining may take its time
		opts = append(opts, grpc.MaxRecvMsgSize(s.cfg.MaxAnonymous), grpc.MaxSendMsgSize(s.cfg.MaxMessage), grpc.MaxConcurrentStreams(4))
	case agents:
		opts = append(opts, grpc.MaxRecvMsgSize(s.cfg.AgentMessage), grpc.MaxSendMsgSize(s.cfg.MaxMessage), grpc.MaxConcurrentStreams(uint32(s.cfg.AgentStreams)),
			grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow))
	default:
		opts = append(opts, grpc.MaxRecvMsgSize(s.cfg.MaxMessage), grpc.MaxSendMsgSize(s.cfg.MaxMessage), grpc.MaxConcurrentStreams(256),
			grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow))
	}
	g := grpc.NewServer(append(opts, grpc.KeepaliveParams(kp))...)
	desc := &grpc.ServiceDesc{ServiceName: serviceName}
	for _, m := range s.methods {
		switch {
		case who == strangers && !m.public:
		case m.unary != nil:
			desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: m.name, Handler: s.serveCall(m)})
		default:
			desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: m.name, Handler: s.serveStream(m), ServerStreams: true, ClientStreams: true})
		}
	}
	g.RegisterService(desc, nil)
	return g
}

package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"panoptes/internal/model"
)

var errPanic = errors.New("handler panicked")

// connOf finds the connection that a call came by.
func connOf(ctx context.Context) *serverConn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	c, _ := p.AuthInfo.(*serverConn)
	return c
}

// tap decides about a call when only its name has been read.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	name := strings.TrimPrefix(info.FullMethodName, "/"+serviceName+"/")
	reason, err := s.permit(connOf(ctx), s.methods[name], name)
	if err != nil {
		s.metrics.refused.WithLabelValues(reason).Inc()
		return nil, err
	}
	return ctx, nil
}

func (s *Server) permit(c *serverConn, m *method, name string) (reason string, err error) {
	if c == nil {
		return "identity", status.Error(codeUnauthorized, "connection without an identity")
	}
	if s.stopping.Load() {
		return "stopping", status.Error(codeUnavailable, "unavailable: this server is stopping")
	}
	if c.denied != nil {
		c.hangUp()
		return "denied", denied(c.denied)
	}
	if age := time.Since(c.made); age-time.Duration(c.asked.Load()) > s.cfg.IdentifyEvery {
		p, err := s.deps.Identify(c.state)
		if err != nil {
			c.hangUp()
			return "identity", denied(err)
		}
		c.peer.Store(&p)
		c.asked.Store(int64(age))
	}
	p := c.peer.Load()
	switch {
	case m != nil && m.public:
		if key := c.addr + "/" + p.NodeID; c.stranger() && m.name != pingMethod && !s.rate.allow(key) {
			return "rate", status.Error(codeLimit, "limit exceeded: too many calls without a valid certificate; try again in some seconds")
		}
		return "", nil
	case c.stranger() && p.Expired:
		// The next connection may show a new certificate; a pool would keep this one.
		c.hangUp()
		return "expired", status.Error(codeUnauthorized, "not authenticated: the certificate has ended; renew it and connect again")
	case c.stranger():
		return "stranger", status.Error(codeUnauthorized, "not authenticated: this needs a certificate of this cluster; join it first")
	case m == nil:
		return "", nil // gRPC answers that it is unknown
	case m.allow != nil && !slices.Contains(m.allow, p.Role):
		return "role", status.Error(codeForbidden, clip(fmt.Sprintf("not allowed: %s is not for the role %s", name, p.Role)))
	}
	return "", nil
}

func denied(err error) error {
	if errors.Is(err, model.ErrUnauthorized) {
		return status.Error(codeUnauthorized, clip(err.Error()))
	}
	return status.Error(codeUnauthorized, clip("not authenticated: "+err.Error()))
}

// serveCall makes gRPC's handler of one method.
func (s *Server) serveCall(m *method) grpc.MethodHandler {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		c := connOf(ctx)
		done := s.enter(m)
		s.unary.Add(1)
		defer done()
		defer s.unary.Add(-1)
		req := message{own: true}
		if err := decode(&req); err != nil {
			s.metrics.refused.WithLabelValues("message").Inc()
			return nil, err
		}
		m.traffic.received.Add(float64(len(req.b)))
		resp, err := s.guard(m, func() ([]byte, error) { return m.unary(ctx, *c.peer.Load(), req.b) })
		s.ended(m, c, err)
		if err != nil {
			return nil, toStatus(err, !c.stranger())
		}
		m.traffic.sent.Add(float64(len(resp)))
		return resp, nil
	}
}

// serveStream makes gRPC's handler of one stream.
func (s *Server) serveStream(m *method) grpc.StreamHandler {
	return func(_ any, g grpc.ServerStream) error {
		c := connOf(g.Context())
		done := s.enter(m)
		defer done()
		m.traffic.streams.Inc()
		defer m.traffic.streams.Dec()
		ctx, cancel := context.WithCancel(g.Context())
		defer cancel()
		defer context.AfterFunc(s.stopCtx, cancel)()
		st := &serverStream{g: g, m: m, s: s, ctx: ctx}
		defer st.in.free()
		_, err := s.guard(m, func() ([]byte, error) { return nil, m.stream(*c.peer.Load(), st) })
		if err == io.EOF {
			err = nil
		}
		s.ended(m, c, err)
		if err != nil && s.stopping.Load() && !errors.Is(err, model.ErrUnavailable) {
			err = fmt.Errorf("%w: this server is stopping", model.ErrUnavailable)
		}
		return toStatus(err, !c.stranger())
	}
}

func (s *Server) enter(m *method) (done func()) {
	s.handlers.Add(1)
	key := new(int)
	s.inFlight.Store(key, m.name)
	return func() {
		s.inFlight.Delete(key)
		s.handlers.Done()
	}
}

// guard turns a panic of a handler into an internal error: one broken message
// must not end the process.
func (s *Server) guard(m *method, h func() ([]byte, error)) (resp []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", "method", m.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			resp, err = nil, fmt.Errorf("%s: %w", m.name, errPanic)
		}
	}()
	return h()
}

func (s *Server) ended(m *method, c *serverConn, err error) {
	k := kind(err)
	s.metrics.calls.WithLabelValues(m.name, k).Inc()
	if k == "internal" && !s.stopping.Load() {
		s.log.Warn("call failed", "method", m.name, "node", c.peer.Load().NodeID, "err", err)
	}
}

// serverStream is the server's end of a stream.
type serverStream struct {
	g   grpc.ServerStream
	m   *method
	s   *Server
	ctx context.Context //nolint:containedctx // is the stream's life
	in  message
}

// HangUp ends the connection by which a stream came to a Server, with all that
// runs over it; other connections of the same node stay. For other streams it
// does nothing.
func HangUp(s Stream) {
	if t, ok := s.(*serverStream); ok {
		_ = connOf(t.ctx).Close() // it may be closed already
	}
}

func (t *serverStream) Context() context.Context { return t.ctx }

func (t *serverStream) Send(b []byte) error {
	if err := t.g.SendMsg(b); err != nil {
		return fromStatus(t.ctx, t.m.name, "peer", err)
	}
	t.m.traffic.sent.Add(float64(len(b)))
	return nil
}

func (t *serverStream) Recv() ([]byte, error) {
	if err := t.g.RecvMsg(&t.in); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fromStatus(t.ctx, t.m.name, "peer", err)
	}
	t.m.traffic.received.Add(float64(len(t.in.b)))
	return t.in.b, nil
}

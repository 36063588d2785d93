package wire

import (
	"context"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"panoptes/internal/model"
)

// conn is a Conn of the pool.
type conn struct {
	c   *Client
	key linkKey
}

func (n *conn) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	l, err := n.c.acquire(n.key)
	if err != nil {
		return nil, err
	}
	defer n.c.release(l)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	t := n.c.traffic(method)
	resp := message{own: true}
	err = fromStatus(ctx, method, n.key.addr, l.cc.Invoke(ctx, "/"+serviceName+"/"+method, request, &resp))
	n.c.metrics.calls.WithLabelValues(method, kind(err)).Inc()
	if err != nil {
		return nil, err
	}
	t.sent.Add(float64(len(request)))
	t.received.Add(float64(len(resp.b)))
	return resp.b, nil
}

func (n *conn) Open(ctx context.Context, method string) (ClientStream, error) {
	l, err := n.c.acquire(n.key)
	if err != nil {
		return nil, err
	}
	sctx, cancel := context.WithCancel(ctx)
	desc := &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}
	g, err := l.cc.NewStream(sctx, desc, "/"+serviceName+"/"+method)
	if err != nil {
		cancel()
		n.c.release(l)
		err = fromStatus(ctx, method, n.key.addr, err)
		n.c.metrics.calls.WithLabelValues(method, kind(err)).Inc()
		return nil, err
	}
	s := &clientStream{g: g, l: l, method: method, ctx: sctx, caller: ctx, cancel: cancel, t: n.c.traffic(method)}
	s.t.streams.Inc()
	// Whoever opened the stream may end it by its context alone.
	context.AfterFunc(sctx, func() { s.end(ctx.Err()) })
	return s, nil
}

// clientStream is the end that opened the stream.
type clientStream struct {
	g      grpc.ClientStream
	l      *link
	method string
	ctx    context.Context //nolint:containedctx // is the stream's life
	caller context.Context //nolint:containedctx // tells whether the caller ended it
	cancel context.CancelFunc
	t      *traffic
	once   sync.Once
	in     message
}

func (s *clientStream) end(err error) {
	s.once.Do(func() {
		s.cancel()
		s.t.streams.Dec()
		s.l.c.metrics.calls.WithLabelValues(s.method, kind(err)).Inc()
		s.l.c.release(s.l)
	})
}

func (s *clientStream) Context() context.Context { return s.ctx }

func (s *clientStream) Send(b []byte) error {
	err := s.g.SendMsg(b)
	switch {
	case err == io.EOF:
		// gRPC keeps the reason for Recv.
		return fmt.Errorf("%w: %s at %s has ended the stream", model.ErrUnavailable, s.method, s.l.key.addr)
	case err != nil:
		return fromStatus(s.caller, s.method, s.l.key.addr, err)
	}
	s.t.sent.Add(float64(len(b)))
	return nil
}

func (s *clientStream) CloseSend() error { return s.g.CloseSend() }

func (s *clientStream) Recv() ([]byte, error) {
	if err := s.g.RecvMsg(&s.in); err != nil {
		s.in.free()
		err = fromStatus(s.caller, s.method, s.l.key.addr, err)
		s.end(err)
		return nil, err
	}
	s.t.received.Add(float64(len(s.in.b)))
	return s.in.b, nil
}

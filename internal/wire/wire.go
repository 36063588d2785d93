// Package wire carries calls, streams and samples between our own processes:
// one gRPC server per process with mutual TLS, pooled connections to the others,
// and messages that are bytes to it. Nothing that a peer sends is read before it
// is known who it is and whether it may call that method.
package wire

import (
	"context"
	"encoding/json"
	"fmt"

	"panoptes/internal/model"
)

// The limits of one connection, the same on both sides.
const (
	DefaultMaxMessage = 8 << 20 // bytes of one message
	MaxAnonymous      = 64 << 10

	serviceName  = "panoptes"
	pingMethod   = "wire.ping"
	streamWindow = 1 << 20 // what a stream whose reader does not read may have in memory
	connWindow   = 8 << 20
)

// anyone as a role lets also those call who have no valid certificate.
const anyone model.NodeRole = "anyone"

// Anyone, as the roles that may call a method, lets strangers call it too, and
// nodes whose certificate has ended. Their messages are small and few.
var Anyone = []model.NodeRole{anyone}

// Handler answers one call. The request is its own. An error that is one of
// model's sentinels, or model.Invalid, is the same error on the other side; any
// other is logged here and internal there.
type Handler func(ctx context.Context, from model.Peer, request []byte) ([]byte, error)

// StreamHandler serves one stream, which ends when it returns.
type StreamHandler func(from model.Peer, s Stream) error

// Stream is one end of a stream of messages. Send and Recv may be called by one
// goroutine each.
type Stream interface {
	// Context ends with the stream, and on a server that is stopping.
	Context() context.Context
	// Send waits while the other side does not read. The message may be used
	// again once it has returned.
	Send(message []byte) error
	// Recv returns io.EOF when the other side has ended the stream in peace. The
	// message is valid until the next Recv.
	Recv() ([]byte, error)
}

// ClientStream is the end that opened the stream. It lives until its context
// ends or Recv returns an error: whoever opens one does either.
type ClientStream interface {
	Stream
	// CloseSend says that no more messages will be sent; the answers still come.
	CloseSend() error
}

// Conn is the way to one node. It connects when it is needed, and again when the
// connection is lost.
type Conn interface {
	// Call waits until ctx ends, 30 s when it has no deadline. An answer that is
	// not there in time is model.ErrUnavailable, and so is a peer that is away: it
	// may have carried out the call all the same.
	Call(ctx context.Context, method string, request []byte) ([]byte, error)
	// Open begins a stream that ends with ctx.
	Open(ctx context.Context, method string) (ClientStream, error)
}

// Call sends req as JSON and decodes the answer.
func Call[Resp any](ctx context.Context, conn Conn, method string, req any) (Resp, error) {
	var resp Resp
	b, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("encode request of %s: %w", method, err)
	}
	b, err = conn.Call(ctx, method, b)
	if err != nil {
		return resp, err
	}
	if err := json.Unmarshal(b, &resp); err != nil {
		return resp, fmt.Errorf("decode answer of %s: %w", method, err)
	}
	return resp, nil
}

// HandleJSON registers a handler of JSON. Fields that it does not know are
// ignored, since the caller may be newer.
func HandleJSON[Req, Resp any](s *Server, method string, allow []model.NodeRole, h func(context.Context, model.Peer, Req) (Resp, error)) {
	s.Handle(method, allow, func(ctx context.Context, from model.Peer, request []byte) ([]byte, error) {
		var req Req
		if err := json.Unmarshal(request, &req); err != nil {
			return nil, fmt.Errorf("decode request of %s: %w", method, model.DecodeError(err))
		}
		resp, err := h(ctx, from, req)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("encode answer of %s: %w", method, err)
		}
		return b, nil
	})
}

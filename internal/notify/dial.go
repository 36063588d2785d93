package notify

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	commoncfg "github.com/prometheus/common/config"
)

// maxAnswer is what the other side may send on one connection. Most of the
// borrowed senders keep an answer whole in memory, however long it is.
const maxAnswer = 1 << 20

var errEndless = errors.New("the answer does not end; the connection was cut")

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// bounded cuts connections on which too much is answered.
func bounded(next dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &boundedConn{Conn: c}, nil
	}
}

type boundedConn struct {
	net.Conn
	read atomic.Int64
}

func (c *boundedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.read.Add(int64(n)) > maxAnswer {
		_ = c.Close() // the error below is the one to tell
		return 0, errEndless
	}
	return n, err
}

// clientOptions are those of all senders over HTTP. A connection serves one
// request, so that what is read on it is the answer to that; HTTP/2 would share
// it among several. Answers are not compressed, which the client sees to.
func (n *Notify) clientOptions() []commoncfg.HTTPClientOption {
	return []commoncfg.HTTPClientOption{
		commoncfg.WithDialContextFunc(n.dial), commoncfg.WithKeepAlivesDisabled(), commoncfg.WithHTTP2Disabled(), commoncfg.WithUserAgent("Panoptes"),
	}
}

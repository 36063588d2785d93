package scrape

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// slack is what a connection may carry beyond the largest answer: headers,
// the frames of TLS, chunk sizes.
const slack = 1 << 20

var errEndless = errors.New("the answer does not end; the connection was cut")

// readLimit cuts connections whose peer sends more than the largest answer that
// any job allows. The engine stops at the limit of the job, but then reads the
// rest of the answer to use the connection again, for as long as its timeout.
type readLimit struct{ most atomic.Int64 }

func (l *readLimit) set(body int64) { l.most.Store(body + body/8 + slack) }

func (l *readLimit) dial(next func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &limitedConn{Conn: c, limit: l}, nil
	}
}

// limitedConn counts what is read since the last request was written.
type limitedConn struct {
	net.Conn
	limit *readLimit
	read  atomic.Int64
}

func (c *limitedConn) Write(b []byte) (int, error) {
	c.read.Store(0)
	return c.Conn.Write(b)
}

func (c *limitedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.read.Add(int64(n)) > c.limit.most.Load() {
		_ = c.Close() // the error below is the one to tell
		return 0, errEndless
	}
	return n, err
}

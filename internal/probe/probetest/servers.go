package probetest

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// Listen serves each connection on loopback with f until the test ends and
// returns host:port.
func Listen(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go serve(l, f, done)
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func serve(l net.Listener, f func(net.Conn), done chan struct{}) {
	defer close(done)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { defer c.Close(); serveOne(c, f) }()
	}
}

func serveOne(c net.Conn, f func(net.Conn)) { f(c) }

// Hole returns an address that takes connections and never answers.
func Hole(t *testing.T) string {
	return Listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// Garbage returns an address that answers with bytes that mean nothing.
func Garbage(t *testing.T) string {
	return Listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("\x00\xff\x13 what is this\r\n\r\n\x80\x81"))
		_, _ = c.Read(make([]byte, 1))
	})
}

// Refused returns an address where nobody listens, and nobody will.
func Refused(t *testing.T) string { return harness.FreeAddr(t, "127.0.0.1") }

// Endless returns an address that never stops answering with chunk.
func Endless(t testing.TB, chunk []byte) string {
	return Listen(t, func(c net.Conn) {
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
}

package wire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

func TestSizes(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{MaxMessage: 1 << 20}, func(s *wire.Server) {
		s.Handle("test.echo", wire.Anyone, echo)
		s.HandleStream("test.stream", nil, echoStream)
		s.Handle("test.large", nil, func(context.Context, model.Peer, []byte) ([]byte, error) { return make([]byte, 3<<19), nil })
	})
	node := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	stranger := dial(t, a, "", "").Conn("", addr)
	ctx := within(t, time.Minute)
	b, err := node.Call(ctx, "test.echo", make([]byte, 1<<20))
	require.NoError(t, err)
	require.Len(t, b, 1<<20)
	_, err = node.Call(ctx, "test.echo", make([]byte, 1<<20+1))
	require.ErrorIs(t, err, model.ErrTooLarge)
	_, err = node.Call(ctx, "test.large", nil)
	require.ErrorIs(t, err, model.ErrTooLarge)
	_, err = stranger.Call(ctx, "test.echo", make([]byte, 64<<10))
	require.NoError(t, err)
	_, err = stranger.Call(ctx, "test.echo", make([]byte, 64<<10+1))
	require.ErrorIs(t, err, model.ErrTooLarge)
	s, err := node.Open(ctx, "test.stream")
	require.NoError(t, err)
	_ = s.Send(make([]byte, 2<<20))
	_, err = s.Recv()
	require.ErrorIs(t, err, model.ErrTooLarge)
}

func TestStrangersAreFew(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{AnonymousRate: 1, AnonymousConns: 8}, func(s *wire.Server) {
		s.Handle("test.echo", wire.Anyone, echo)
	})
	conn := dial(t, a, "", "").Conn("", addr)
	served, refused, began := 0, 0, time.Now()
	for range 30 {
		switch _, err := conn.Call(within(t, time.Minute), "test.echo", nil); {
		case err == nil:
			served++
		case errors.Is(err, model.ErrLimit):
			refused++
		default:
			t.Fatal(err)
		}
	}
	require.GreaterOrEqual(t, served, 5)
	require.GreaterOrEqual(t, refused, 20-int(time.Since(began).Seconds()), "one a second comes through")
	// Nodes are not concerned.
	node := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	for range 30 {
		_, err := node.Call(within(t, time.Minute), "test.echo", nil)
		require.NoError(t, err)
	}
	// One address holds a quarter of the strangers' connections at most.
	full := 0
	for range 6 {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, NextProtos: []string{"h2"}})
		if err != nil {
			full++
			continue
		}
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := c.Read(make([]byte, 1)); err != nil { // the server's settings come first
			full++
		}
	}
	require.GreaterOrEqual(t, full, 4)
}

// TestAgentsAreBounded holds open whatever one agent can: what runs on a host is
// not ours, and there are thousands.
func TestAgentsAreBounded(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) { s.HandleStream("test.stream", nil, echoStream) })
	open := func(c *wire.Client, patience time.Duration) int {
		n := 0
		for ; n < 20; n++ {
			ctx, cancel := context.WithCancel(within(t, 2*patience))
			late := time.AfterFunc(patience, cancel)
			s, err := c.Conn("server", addr).Open(ctx, "test.stream")
			if err == nil {
				err = s.Send([]byte("x"))
			}
			if err == nil {
				_, err = s.Recv()
			}
			late.Stop()
			if err != nil {
				cancel()
				break
			}
			t.Cleanup(cancel)
		}
		return n
	}
	require.Equal(t, 20, open(dial(t, a, "s1", model.RoleServer), time.Minute))
	total := 0
	for range 10 {
		total += open(dial(t, a, "a1", model.RoleAgent), time.Second)
	}
	require.LessOrEqual(t, total, 8*6)
	require.Greater(t, total, 8)
	// Others are not concerned.
	other := dial(t, a, "a2", model.RoleAgent).Conn("server", addr)
	s, err := other.Open(within(t, time.Minute), "test.stream")
	require.NoError(t, err)
	require.NoError(t, s.Send(make([]byte, 2<<20)))
	_, err = s.Recv()
	require.NoError(t, err)
	require.NoError(t, s.Send(make([]byte, 2<<20+1)))
	_, err = s.Recv()
	require.ErrorIs(t, err, model.ErrTooLarge)
}

func TestSlowReaderHoldsNobodyElse(t *testing.T) {
	a := newAuthority(t)
	sent := atomic.Int64{}
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.HandleStream("test.flood", nil, func(_ model.Peer, st wire.Stream) error {
			b := make([]byte, 256<<10)
			for {
				if err := st.Send(b); err != nil {
					return err
				}
				sent.Add(int64(len(b)))
			}
		})
		s.Handle("test.echo", nil, echo)
	})
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := conn.Open(ctx, "test.flood")
	require.NoError(t, err)
	_, err = s.Recv()
	require.NoError(t, err)
	// Nothing is read any more: the sender comes to a stop soon, and calls on the
	// same connection go on.
	last, since := sent.Load(), time.Now()
	require.Eventually(t, func() bool {
		if now := sent.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	}, 30*time.Second, 10*time.Millisecond)
	require.Less(t, last, int64(8<<20), "what a slow reader may have in flight is bounded")
	for range 20 {
		_, err := conn.Call(within(t, time.Minute), "test.echo", bytes.Repeat([]byte("x"), 100_000))
		require.NoError(t, err)
	}
}

func TestGarbageIsRefused(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) { s.Handle("test.echo", wire.Anyone, echo) })
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""} {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, _ = io.WriteString(c, garbage)
		_ = c.Close()
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	_, _ = c.Write(bytes.Repeat([]byte("nonsense"), 1000)) // it hangs up in the middle
	_ = c.Close()
	_, err = dial(t, a, "", "").Conn("", addr).Call(within(t, time.Minute), "test.echo", nil)
	require.NoError(t, err)
}

package wire_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

func benchServer(b *testing.B) wire.Conn {
	b.Helper()
	a := newAuthority(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: &tls.Config{
		Certificates: []tls.Certificate{a.issue(b, "server", model.RoleServer)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}}, wire.ServerDeps{Identify: a.identify})
	require.NoError(b, err)
	s.Handle("bench.echo", nil, echo)
	s.HandleStream("bench.sink", nil, func(_ model.Peer, st wire.Stream) error {
		for {
			if _, err := st.Recv(); err != nil {
				return err
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cfg := &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.issue(b, "a1", model.RoleAgent)}}
	c := wire.NewClient(wire.ClientConfig{TLS: func(string) *tls.Config { return cfg }}, wire.ClientDeps{})
	b.Cleanup(func() {
		require.NoError(b, c.Close())
		cancel()
		require.NoError(b, <-done)
	})
	return c.Conn("server", l.Addr().String())
}

func BenchmarkCall(b *testing.B) {
	conn := benchServer(b)
	msg := make([]byte, 200)
	for b.Loop() {
		_, err := conn.Call(context.Background(), "bench.echo", msg)
		require.NoError(b, err)
	}
}

func BenchmarkStream64K(b *testing.B) {
	conn := benchServer(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := conn.Open(ctx, "bench.sink")
	require.NoError(b, err)
	msg := make([]byte, 64<<10)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, s.Send(msg))
	}
}

package hosts

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// TestAnOldStreamEndsAlone: an agent that came back by another connection does not
// lose that one with the old one, which it does not end by itself.
func TestAnOldStreamEndsAlone(t *testing.T) {
	p, err := pki.Create(pki.Config{Dir: t.TempDir(), Name: "n1", Region: "eu", Role: model.RoleServer}, pki.Deps{})
	require.NoError(t, err)
	h := told(t, p.NodeID(), map[string]*Hosts{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: p.ServerTLS()}, wire.ServerDeps{
		Identify: func(tls.ConnectionState) (model.Peer, error) {
			return model.Peer{NodeID: "a1", Name: "web-1", Region: "eu", Role: model.RoleAgent}, nil
		},
	})
	require.NoError(t, err)
	h.Register(s)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })

	next := func(stream wire.ClientStream, want uplink.Kind) {
		t.Helper()
		for {
			b, err := stream.Recv()
			require.NoError(t, err)
			if k, _, err := uplink.Split(b); err == nil && k == want {
				return
			}
		}
	}
	connect := func() wire.ClientStream {
		client := wire.NewClient(wire.ClientConfig{TLS: p.ClientTLS}, wire.ClientDeps{})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		stream, err := client.Conn(p.NodeID(), l.Addr().String()).Open(ctx, uplink.Method)
		require.NoError(t, err)
		b, err := uplink.Encode(uplink.KindHello, uplink.Hello{Run: "r", Time: time.Now()})
		require.NoError(t, err)
		require.NoError(t, stream.Send(b))
		next(stream, uplink.KindWelcome)
		return stream
	}
	before, now := connect(), connect()
	next(before, uplink.KindBye)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, err := before.Recv(); err != nil {
				return
			}
		}
	}()
	beat := func() {
		require.NoError(t, now.Send([]byte{byte(uplink.KindBeat)}))
		next(now, uplink.KindBeat)
	}
	for ended := false; !ended; {
		beat()
		select {
		case <-gone:
			ended = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	for range 10 {
		beat()
	}
	require.Equal(t, []string{"a1"}, h.Connected())
}

package agentcli

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe"
	"panoptes/test/harness"
)

func TestPing(t *testing.T) {
	p := &pinger{dialer: probe.NewDialer(probe.Policy{AllowLoopback: true}), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	home := netip.MustParseAddr("127.0.0.1")
	if a, err := p.echo(ctx, home); err == nil { // where ICMP is allowed
		require.Equal(t, 3, a.Sent)
		require.Equal(t, 3, a.Got)
		require.Positive(t, a.RTT)
	}
	// A port that is open, and one that is closed: somebody is there.
	l, err := net.Listen("tcp", harness.FreeAddr(t, "127.0.0.1"))
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	for range 2 {
		a, err := p.connect(ctx, home, port)
		require.NoError(t, err)
		require.Equal(t, 1, a.Got)
		_ = l.Close()
	}
	_, err = p.connect(ctx, netip.MustParseAddr("169.254.169.254"), 80)
	require.Error(t, err, "policy is no loss")
}

func TestTheMeshIsTheFilesToAllow(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	m, err := newMesh(Config{}, log)
	require.NoError(t, err)
	require.Nil(t, m, "off by default")
	_, err = newMesh(Config{Mesh: Mesh{Enabled: true, Allow: []string{"x"}}}, log)
	require.ErrorContains(t, err, "mesh.allow[0]")
	m, err = newMesh(Config{Mesh: Mesh{Enabled: true}}, log)
	require.NoError(t, err)
	require.NotNil(t, m)
}

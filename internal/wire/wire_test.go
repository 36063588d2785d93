package wire_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// authority is a certificate authority for tests: the subject's CN is the node
// id, its OU the role.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool

	mu      sync.Mutex
	revoked map[string]bool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{key: key, cert: cert, pool: pool, revoked: map[string]bool{}}
}

func (a *authority) issue(t testing.TB, id string, role model.NodeRole) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id, OrganizationalUnit: []string{string(role)}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) revoke(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked[id] = true
}

func (a *authority) identify(s tls.ConnectionState) (model.Peer, error) {
	if len(s.PeerCertificates) == 0 {
		return model.Peer{}, nil
	}
	c := s.PeerCertificates[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked[c.Subject.CommonName] {
		return model.Peer{}, errors.New("revoked")
	}
	p := model.Peer{NodeID: c.Subject.CommonName, Role: model.NodeRole(c.Subject.OrganizationalUnit[0])}
	p.Expired = p.NodeID == "expired"
	return p, nil
}

// startServer runs a server on loopback until the test ends.
func startServer(t *testing.T, a *authority, cfg wire.ServerConfig, register func(*wire.Server)) (*wire.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg.Listener = l
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server", model.RoleServer)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool}
	s, err := wire.NewServer(cfg, wire.ServerDeps{Identify: a.identify})
	require.NoError(t, err)
	register(s)
	runUntilEnd(t, s.Run)
	return s, l.Addr().String()
}

func runUntilEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			t.Error("does not stop")
		}
	})
}

// dial returns a client that is nodeID; empty has no certificate.
func dial(t *testing.T, a *authority, nodeID string, role model.NodeRole, change ...func(*wire.ClientConfig)) *wire.Client {
	t.Helper()
	c := &tls.Config{RootCAs: a.pool}
	if nodeID != "" {
		c.Certificates = []tls.Certificate{a.issue(t, nodeID, role)}
	}
	cfg := wire.ClientConfig{TLS: func(string) *tls.Config { return c }}
	for _, f := range change {
		f(&cfg)
	}
	client := wire.NewClient(cfg, wire.ClientDeps{})
	runUntilEnd(t, client.Run)
	return client
}

func echo(_ context.Context, _ model.Peer, b []byte) ([]byte, error) { return b, nil }

func echoStream(_ model.Peer, s wire.Stream) error {
	for {
		b, err := s.Recv()
		if err != nil {
			return err
		}
		if err := s.Send(b); err != nil {
			return err
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCall(t *testing.T) {
	a := newAuthority(t)
	type msg struct{ Text string }
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.Handle("test.echo", nil, echo)
		wire.HandleJSON(s, "test.hello", nil, func(_ context.Context, from model.Peer, m msg) (msg, error) {
			return msg{fmt.Sprintf("%s to %s the %s", m.Text, from.NodeID, from.Role)}, nil
		})
	})
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	got, err := conn.Call(within(t, time.Minute), "test.echo", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	got, err = conn.Call(within(t, time.Minute), "test.echo", nil)
	require.NoError(t, err)
	require.Empty(t, got)
	m, err := wire.Call[msg](within(t, time.Minute), conn, "test.hello", msg{"hi"})
	require.NoError(t, err)
	require.Equal(t, "hi to a1 the agent", m.Text)
	_, err = conn.Call(within(t, time.Minute), "test.nothing", nil)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorContains(t, err, "does not know this method")
}

func TestStream(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) { s.HandleStream("test.echo", nil, echoStream) })
	s, err := dial(t, a, "a1", model.RoleAgent).Conn("server", addr).Open(within(t, time.Minute), "test.echo")
	require.NoError(t, err)
	for i := range 100 {
		// The same buffer again and again: Send must not keep it.
		b := make([]byte, 100_000)
		for j := range b {
			b[j] = byte(i)
		}
		require.NoError(t, s.Send(b))
		clear(b)
		got, err := s.Recv()
		require.NoError(t, err)
		require.Len(t, got, 100_000)
		require.Equal(t, byte(i), got[0])
		require.Equal(t, byte(i), got[99_999])
	}
	require.NoError(t, s.CloseSend())
	_, err = s.Recv()
	require.EqualError(t, err, "EOF")
}

func TestErrorsSurviveTheWay(t *testing.T) {
	a := newAuthority(t)
	kinds := []error{model.ErrNotFound, model.ErrConflict, model.ErrRevision, model.ErrUnauthorized, model.ErrForbidden, model.ErrUnavailable,
		model.ErrNoSpace, model.ErrLimit, model.ErrTooLarge}
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		for i, k := range kinds {
			s.Handle(fmt.Sprint("test.", i), nil, func(context.Context, model.Peer, []byte) ([]byte, error) {
				return nil, fmt.Errorf("open the door “%d”: %w", i, k)
			})
		}
		s.Handle("test.invalid", nil, func(context.Context, model.Peer, []byte) ([]byte, error) {
			return nil, fmt.Errorf("so: %w", model.Invalid{{Field: "a.b", Msg: "must be c"}, {Msg: "no"}})
		})
		s.Handle("test.internal", nil, func(context.Context, model.Peer, []byte) ([]byte, error) { return nil, errors.New("disk sang") })
		s.Handle("test.panic", nil, func(context.Context, model.Peer, []byte) ([]byte, error) { panic("ouch") })
		s.HandleStream("test.stream", nil, func(model.Peer, wire.Stream) error { return fmt.Errorf("stream: %w", model.ErrLimit) })
		s.Handle("test.public", wire.Anyone, func(context.Context, model.Peer, []byte) ([]byte, error) { return nil, errors.New("disk sang") })
	})
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	ctx := within(t, time.Minute)
	for i, k := range kinds {
		_, err := conn.Call(ctx, fmt.Sprint("test.", i), nil)
		require.EqualError(t, err, fmt.Sprintf("open the door “%d”: %s", i, k))
		for _, other := range kinds {
			require.Equal(t, other == k, errors.Is(err, other), "%v is %v", err, other)
		}
	}
	_, err := conn.Call(ctx, "test.invalid", nil)
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	require.Equal(t, model.Invalid{{Field: "a.b", Msg: "must be c"}, {Msg: "no"}}, inv)
	_, err = conn.Call(ctx, "test.internal", nil)
	require.ErrorContains(t, err, "disk sang")
	_, err = conn.Call(ctx, "test.panic", nil)
	require.ErrorContains(t, err, "handler panicked")
	require.NotContains(t, err.Error(), "ouch")
	s, err := conn.Open(ctx, "test.stream")
	require.NoError(t, err)
	_, err = s.Recv()
	require.ErrorIs(t, err, model.ErrLimit)
	_, err = dial(t, a, "", "").Conn("server", addr).Call(ctx, "test.public", nil)
	require.ErrorContains(t, err, "internal error")
	require.NotContains(t, err.Error(), "disk", "strangers learn nothing of the inside")
}

func TestWhoMayCall(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.Handle("test.servers", []model.NodeRole{model.RoleServer}, echo)
		s.HandleStream("test.stream", []model.NodeRole{model.RoleServer}, echoStream)
		s.Handle("test.nodes", nil, echo)
		s.Handle("test.anyone", wire.Anyone, func(_ context.Context, from model.Peer, _ []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s %v", from.NodeID, from.Expired), nil
		})
	})
	call := func(id string, role model.NodeRole, method string) (string, error) {
		b, err := dial(t, a, id, role).Conn("server", addr).Call(within(t, time.Minute), method, []byte("x"))
		return string(b), err
	}
	ok := func(id string, role model.NodeRole, method, want string) {
		t.Helper()
		got, err := call(id, role, method)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	refused := func(id string, role model.NodeRole, method string, want error) {
		t.Helper()
		_, err := call(id, role, method)
		require.ErrorIs(t, err, want)
	}
	ok("s2", model.RoleServer, "test.servers", "x")
	ok("a1", model.RoleAgent, "test.nodes", "x")
	ok("", "", "test.anyone", " false")
	ok("expired", model.RoleServer, "test.anyone", "expired true")
	refused("a1", model.RoleAgent, "test.servers", model.ErrForbidden)
	refused("", "", "test.nodes", model.ErrUnauthorized)
	refused("", "", "test.unknown", model.ErrUnauthorized)
	refused("expired", model.RoleServer, "test.nodes", model.ErrUnauthorized)
	s, err := dial(t, a, "a1", model.RoleAgent).Conn("server", addr).Open(within(t, time.Minute), "test.stream")
	require.NoError(t, err)
	_, err = s.Recv()
	require.ErrorIs(t, err, model.ErrForbidden)
	a.revoke("a9")
	for _, method := range []string{"test.anyone", "test.nodes"} {
		_, err = call("a9", model.RoleAgent, method)
		require.ErrorIs(t, err, model.ErrUnauthorized)
		require.ErrorContains(t, err, "revoked", "it is told why")
	}
}

package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
)

func ends(t *testing.T, cfg pki.Config) time.Time {
	t.Helper()
	return leaf(t, cfg).NotAfter
}

func leaf(t *testing.T, cfg pki.Config) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(cfg.Dir, "node.crt"))
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	run(t, w.p.Run)
	for _, role := range []model.NodeRole{model.RoleServer, model.RoleWitness, model.RoleAgent} {
		p, cfg := w.mustJoin(string(role), role)
		cert, key, _ := p.Files()
		keyBefore, err := os.ReadFile(key)
		require.NoError(t, err)
		first := ends(t, cfg)
		require.WithinDuration(t, w.clock.now().Add(24*time.Hour), first, time.Minute)
		require.WithinDuration(t, w.clock.now().Add(-5*time.Minute), leaf(t, cfg).NotBefore, time.Minute)
		t.Run(string(role), func(t *testing.T) {
			run(t, p.Run)
			w.clock.advance(11 * time.Hour)
			never(t, 200*time.Millisecond, func() bool { return ends(t, cfg) != first }, "renewed before half its life")
			w.clock.advance(2 * time.Hour)
			require.Eventually(t, func() bool { return ends(t, cfg).After(first) }, 30*time.Second, 10*time.Millisecond)
			require.WithinDuration(t, w.clock.now().Add(24*time.Hour), ends(t, cfg), time.Minute)
			got, err := whoami(t, p, "", w.addr)
			require.NoError(t, err)
			require.Contains(t, got, p.NodeID())
			// What others read of the files is a pair at any time: the key stays.
			keyAfter, err := os.ReadFile(key)
			require.NoError(t, err)
			require.Equal(t, keyBefore, keyAfter)
			_, err = tls.LoadX509KeyPair(cert, key)
			require.NoError(t, err)
		})
	}
}

// never waits on the opposite of a condition.
func never(t *testing.T, d time.Duration, cond func() bool, msg string) {
	t.Helper()
	require.Never(t, cond, d, 10*time.Millisecond, msg)
}

func TestAServerThatWasAwayRenewsItself(t *testing.T) {
	w := newWorld(t)
	_, cfg := w.mustJoin("n2", model.RoleServer)
	w.clock.advance(40 * 24 * time.Hour)
	p, err := pki.Open(cfg, pki.Deps{})
	require.NoError(t, err)
	require.WithinDuration(t, w.clock.now().Add(24*time.Hour), ends(t, cfg), time.Minute)
	w.addr, _ = w.serve(p, "1.4.0", nil)
	w.mustJoin("a1", model.RoleAgent)
	// New addresses get into the certificate.
	cfg.Hosts = []string{"10.9.8.7", "n2.example"}
	_, err = pki.Open(cfg, pki.Deps{})
	require.NoError(t, err)
	require.NoError(t, leaf(t, cfg).VerifyHostname("n2.example"))
	require.NoError(t, leaf(t, cfg).VerifyHostname("10.9.8.7"))
	require.NoError(t, leaf(t, cfg).VerifyHostname("localhost"))
	require.Equal(t, "panoptes-server", leaf(t, cfg).Subject.CommonName)
}

func TestExpiredMayRenewAndNothingElse(t *testing.T) {
	w := newWorld(t)
	p, cfg := w.mustJoin("a1", model.RoleAgent)
	// The servers live on; only the agent's certificate ends.
	w.clock.advance(25 * time.Hour)
	require.NoError(t, w.p.Renew(t.Context()))
	conn := client(t, p).Conn("", w.addr)
	_, err := conn.Call(within(t, 5*time.Second), "test.whoami", nil)
	require.ErrorIs(t, err, model.ErrUnauthorized)
	require.ErrorContains(t, err, "the certificate has ended; renew it")
	run(t, p.Run)
	require.Eventually(t, func() bool { return ends(t, cfg).After(w.clock.now()) }, 30*time.Second, 10*time.Millisecond)
	// The connection in the pool, made with the old certificate, makes way.
	require.Eventually(t, func() bool {
		_, err := conn.Call(within(t, time.Second), "test.whoami", nil)
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
}

func TestExpiredForLong(t *testing.T) {
	w := newWorld(t)
	p, _ := w.mustJoin("a1", model.RoleAgent)
	q, _ := w.mustJoin("a2", model.RoleAgent)
	w.clock.advance(30 * 24 * time.Hour)
	require.NoError(t, w.p.Renew(t.Context()))
	require.NoError(t, p.Renew(t.Context()), "24 h and 29 days")
	w.clock.advance(25 * time.Hour)
	require.NoError(t, w.p.Renew(t.Context()))
	err := q.Renew(t.Context())
	require.ErrorIs(t, err, model.ErrUnauthorized, "24 h and 30 days")
	require.ErrorContains(t, err, "more than 30 days ago: remove the node, empty its data directory and join it again")
}

// stateOf is what a server sees of p.
func stateOf(t *testing.T, p *pki.PKI) tls.ConnectionState {
	t.Helper()
	c, err := p.ClientTLS("").GetClientCertificate(nil)
	require.NoError(t, err)
	chain, err := x509.ParseCertificates(join(c.Certificate))
	require.NoError(t, err)
	return tls.ConnectionState{PeerCertificates: chain}
}

func join(parts [][]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestIdentify(t *testing.T) {
	w := newWorld(t)
	p, _ := w.mustJoin("a/1 (x)", model.RoleAgent)
	peer, err := w.p.Identify(tls.ConnectionState{})
	require.NoError(t, err)
	require.Equal(t, model.Peer{}, peer)
	peer, err = w.p.Identify(stateOf(t, p))
	require.NoError(t, err)
	require.Equal(t, model.Peer{NodeID: p.NodeID(), Name: "a/1 (x)", Region: "eu", Role: model.RoleAgent}, peer)
	other := newWorld(t)
	_, err = w.p.Identify(stateOf(t, other.p))
	require.ErrorIs(t, err, model.ErrUnauthorized)
	require.ErrorContains(t, err, "not from an authority of this cluster")
	w.clock.advance(-30 * time.Minute)
	_, err = w.p.Identify(stateOf(t, p))
	require.NoError(t, err, "a clock that is late cuts nobody off")
	w.clock.advance(-90 * time.Minute)
	_, err = w.p.Identify(stateOf(t, p))
	require.ErrorContains(t, err, "set the clocks of both machines")
	w.clock.advance(2 * time.Hour)
	w.p.SetRevoked([]string{"x", p.NodeID()})
	_, err = w.p.Identify(stateOf(t, p))
	require.ErrorIs(t, err, model.ErrUnauthorized)
	require.ErrorContains(t, err, "was removed from the cluster: empty its data directory and join it again")
	w.p.SetRevoked(nil)
	_, err = w.p.Identify(stateOf(t, p))
	require.NoError(t, err)
}

func TestClientsLookWhoAnswers(t *testing.T) {
	w := newWorld(t)
	p, _ := w.mustJoin("a1", model.RoleAgent)
	n2, _ := w.mustJoin("n2", model.RoleServer)
	_, err := whoami(t, p, n2.NodeID(), w.addr)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorContains(t, err, "answers where "+n2.NodeID()+" should")
	other := newWorld(t)
	_, err = whoami(t, p, "", other.addr)
	require.ErrorContains(t, err, "not from an authority of this cluster")
	p.SetRevoked([]string{w.p.NodeID()})
	_, err = whoami(t, p, "", w.addr)
	require.ErrorContains(t, err, "was removed from the cluster")
	// A server whose certificate has ended is not believed, however short ago.
	p.SetRevoked(nil)
	agent, _ := w.mustJoin("a2", model.RoleAgent)
	w.clock.advance(13 * time.Hour)
	require.NoError(t, agent.Renew(t.Context()))
	w.clock.advance(12 * time.Hour)
	_, err = whoami(t, agent, "", w.addr)
	require.ErrorContains(t, err, "the certificate of n1 ended at")
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	bad, _ := w.mustJoin("bad", model.RoleAgent)
	good, _ := w.mustJoin("good", model.RoleAgent)
	streams := map[*pki.PKI]wire.ClientStream{}
	for _, p := range []*pki.PKI{bad, good} {
		s, err := client(t, p).Conn("", w.addr).Open(within(t, 30*time.Second), "test.echo")
		require.NoError(t, err)
		require.NoError(t, s.Send([]byte("x")))
		_, err = s.Recv()
		require.NoError(t, err)
		streams[p] = s
	}
	w.p.SetRevoked([]string{bad.NodeID()})
	w.wire.Disconnect(bad.NodeID())
	_, err := streams[bad].Recv()
	require.ErrorIs(t, err, model.ErrUnavailable, "the live connection ends")
	for _, err := range []error{second(whoami(t, bad, "", w.addr)), bad.Renew(t.Context())} {
		require.ErrorIs(t, err, model.ErrUnauthorized, "a new one is of no use")
		require.ErrorContains(t, err, "was removed from the cluster: empty its data directory and join it again with a new token")
	}
	require.NoError(t, streams[good].Send([]byte("x")))
	_, err = streams[good].Recv()
	require.NoError(t, err)

	// The record alone is enough for the authority, when the list is late.
	w.p.SetRevoked(nil)
	w.edit(bad.NodeID(), func(n *model.Node) { n.Revoked = true })
	err = bad.Renew(t.Context())
	require.ErrorIs(t, err, model.ErrForbidden)
	require.ErrorContains(t, err, "was removed from the cluster: empty its data directory and join it again with a new token")
}

func second(_ string, err error) error { return err }

func TestRevokedNodeMayNotJoinWithItsOldIdentity(t *testing.T) {
	w := newWorld(t)
	p, cfg := w.mustJoin("a1", model.RoleAgent)
	w.edit(p.NodeID(), func(n *model.Node) { n.Revoked = true })
	_, err := w.join(cfg, w.token(model.RoleAgent, "", time.Hour, 1))
	require.ErrorIs(t, err, model.ErrForbidden)
	require.ErrorContains(t, err, "was removed from the cluster: empty its data directory and join again with a new token")
	require.Equal(t, "revoked_node", w.lastEvent().Labels["reason"])
}

func TestRenewalIsForTheSameKeyAndRole(t *testing.T) {
	w := newWorld(t)
	p, _ := w.mustJoin("a1", model.RoleAgent)
	w.edit(p.NodeID(), func(n *model.Node) { n.KeyHash = "another" })
	err := p.Renew(t.Context())
	require.ErrorIs(t, err, model.ErrForbidden)
	require.ErrorContains(t, err, "joined with another key")
	w.edit(p.NodeID(), func(n *model.Node) { n.KeyHash, n.Role = p.KeyHash(), model.RoleServer })
	require.ErrorContains(t, p.Renew(t.Context()), "is a server on record, its certificate is a agent's")
	delete(w.nodes, p.NodeID())
	require.ErrorContains(t, p.Renew(t.Context()), "is not on record: empty its data directory and join it again")
	// Strangers cannot renew anything.
	c := wire.NewClient(wire.ClientConfig{TLS: func(string) *tls.Config { return &tls.Config{InsecureSkipVerify: true} }}, wire.ClientDeps{}) //nolint:gosec // a stranger
	defer c.Close()
	_, err = c.Conn("", w.addr).Call(within(t, 5*time.Second), "pki.renew", []byte(`{}`))
	require.ErrorIs(t, err, model.ErrUnauthorized)
	_, err = c.Conn("", w.addr).Call(within(t, 5*time.Second), "test.whoami", nil)
	require.ErrorIs(t, err, model.ErrUnauthorized)
}

func TestRenewalGoesOnWhenServersAreAway(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("a1", model.RoleAgent)
	servers := []string{"127.0.0.1:1"}
	_, _, err := pki.Join(within(t, 10*time.Second), cfg, pki.JoinRequest{Addr: w.addr, Token: w.token(model.RoleAgent, "", time.Hour, 1)}, pki.Deps{})
	require.NoError(t, err)
	p, err := pki.Open(cfg, pki.Deps{Servers: func() []string { return servers }})
	require.NoError(t, err)
	err = p.Renew(t.Context())
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorContains(t, err, "127.0.0.1:1")
	servers = append(servers, w.addr)
	require.NoError(t, p.Renew(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, p.Run(ctx))
}

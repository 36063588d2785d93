package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
	"panoptes/test/harness"
)

// calls says who may make each call of the port of servers and agents. A call
// that is not here fails the test: whoever adds one says here whom it is for.
var calls = map[string]string{
	"wire.ping": "anyone", "pki.ca": "anyone", "pki.join": "anyone", "pki.renew": "anyone", // renew wants a certificate, which may have ended

	uplink.Method: "agent", uplink.MethodUpdateManifest: "agent", uplink.MethodUpdateRead: "agent",

	"relay.push": "server", "verdict.observe": "server", "auth.sessions": "server", "verdict.states": "server", "probe.now": "server", "probe.try": "server",
	"query.http": "server", "query.slow": "server", "node.info": "server", "scrape.targets": "server", "rules.groups": "server", "rules.faults": "server", "alert.put": "server",
	"hosts.look": "server", "hosts.probe": "server", "hosts.live": "server", "hosts.action": "server",
	"replica.info": "server", "replica.events": "server", "replica.days": "server", "replica.suspect": "server", "replica.block": "server", "replica.recent": "server", "replica.digests": "server", "replica.raw": "server",
}

// TestDoors tries every door of a server with the certificate of an agent, with
// one that was removed, and with none.
func TestDoors(t *testing.T) {
	const key = "pnk_doors_0123456789abcdef0123456789abcdef"
	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.DataDir = "n1", "eu", t.TempDir()
	for _, addr := range []*string{&cfg.Listen, &cfg.PeerListen, &cfg.ClusterListen, &cfg.GossipListen, &cfg.ClientListen} {
		*addr = harness.FreeAddr(t, "127.0.0.1")
	}
	cfg.Storage.MinFree, cfg.Storage.ControlReserve = 16<<20, 1<<20
	cfg.Access.APIKey, cfg.Access.AdminPassword = key, "a long enough password"
	a, err := New(t.Context(), cfg, Options{Version: "test", CheckControl: func(context.Context, string) error { return nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	<-a.Started()
	once := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // only read
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	call := func(method, path, body string) (out string) {
		require.Eventually(t, func() bool {
			var code int
			code, out = once(method, path, body)
			return code < 300
		}, 20*time.Second, 50*time.Millisecond, "%s %s", method, path)
		return out
	}

	// The table is whole.
	registered := a.wireServer.Methods()
	require.ElementsMatch(t, slices.Collect(maps.Keys(calls)), slices.Collect(maps.Keys(registered)))
	for name, allow := range registered {
		switch calls[name] {
		case "anyone":
			require.Equal(t, wire.Anyone, allow, name)
		case "agent":
			require.Equal(t, []model.NodeRole{model.RoleAgent}, allow, name)
		case "server":
			require.Subset(t, []model.NodeRole{model.RoleServer, model.RoleWitness}, allow, name)
			require.NotEmpty(t, allow, name)
		}
	}

	join := func(name, region string) *pki.PKI {
		var tok struct{ Token string }
		require.NoError(t, json.Unmarshal([]byte(call("POST", "/v1/tokens", `{"role":"agent","uses":1}`)), &tok))
		p, _, err := pki.Join(t.Context(), pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), Name: name, Region: region, Role: model.RoleAgent},
			pki.JoinRequest{Addr: cfg.ClusterListen, Token: tok.Token, Version: "test"}, pki.Deps{})
		require.NoError(t, err)
		return p
	}
	agent, removed := join("web-1", "eu"), join("web-2", "eu")
	call("DELETE", "/v1/nodes/web-2?force=true", "")
	require.Eventually(t, func() bool { // the removal reaches what lets nodes in a moment after its record
		client := wire.NewClient(wire.ClientConfig{TLS: removed.ClientTLS}, wire.ClientDeps{})
		defer client.Close() //nolint:errcheck // nothing is lost
		_, err := client.Conn("", cfg.ClusterListen).Call(t.Context(), "wire.ping", []byte(`{}`))
		return errors.Is(err, model.ErrUnauthorized)
	}, 30*time.Second, 10*time.Millisecond)

	t.Run("calls", func(t *testing.T) {
		for who, c := range map[string]*tls.Config{
			"agent": agent.ClientTLS(""), "removed": removed.ClientTLS(""), "nobody": {InsecureSkipVerify: true}, //nolint:gosec // it is who they are that matters
		} {
			for name, whom := range calls {
				var err error
				require.Eventually(t, func() bool { // strangers are let in slowly
					client := wire.NewClient(wire.ClientConfig{TLS: func(string) *tls.Config { return c }}, wire.ClientDeps{})
					defer client.Close() //nolint:errcheck // nothing is lost
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					_, err = client.Conn("", cfg.ClusterListen).Call(ctx, name, []byte(`{}`))
					return !strings.Contains(errText(err), "too many calls")
				}, 20*time.Second, 200*time.Millisecond)
				switch {
				case who == "removed":
					require.ErrorIs(t, err, model.ErrUnauthorized, "%s: %s", who, name)
				case name == "pki.renew" && who == "nobody":
					require.ErrorIs(t, err, model.ErrUnauthorized, "%s: %s", who, name)
				case whom == "anyone" || whom == who:
					require.NotErrorIs(t, err, model.ErrUnauthorized, "%s: %s", who, name)
					require.NotErrorIs(t, err, model.ErrForbidden, "%s: %s", who, name)
				case who == "agent":
					require.ErrorIs(t, err, model.ErrForbidden, "%s: %s", who, name)
				default:
					require.ErrorIs(t, err, model.ErrUnauthorized, "%s: %s", who, name)
				}
			}
		}
	})

	// The ports of the configuration store believe the same authority, and take no
	// agents all the same.
	t.Run("configuration store", func(t *testing.T) {
		for _, addr := range []string{cfg.PeerListen, cfg.ClientListen} {
			for who, c := range map[string]*tls.Config{"agent": agent.ClientTLS(""), "removed": removed.ClientTLS(""), "nobody": {InsecureSkipVerify: true}} { //nolint:gosec // as above
				for _, proto := range []string{"h2", "http/1.1"} {
					c = c.Clone()
					c.NextProtos = []string{proto}
					require.Error(t, talk(addr, c), "%s at %s", who, addr)
				}
			}
			require.NoError(t, talk(addr, func() *tls.Config { c := a.pki.ClientTLS(""); c.NextProtos = []string{"h2"}; return c }()), "a server at %s", addr)
		}
	})

	// Gossip has a key of its own; what has none is not even answered.
	t.Run("gossip", func(t *testing.T) {
		c, err := net.Dial("tcp", cfg.GossipListen)
		require.NoError(t, err)
		defer c.Close() //nolint:errcheck // only a try
		_, err = c.Write(append([]byte{6}, bytes.Repeat([]byte{0}, 200)...))
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(3*time.Second))) // nothing comes
		b, _ := io.ReadAll(c)
		require.NotContains(t, string(b), "n1")
	})

	// An agent that offers to run checks, in a region that it has named itself, is
	// given none and makes no region until an administrator says so.
	t.Run("checks", func(t *testing.T) {
		call("POST", "/v1/checks", `{"name":"till","type":"tcp","target":"192.0.2.1:9","interval":"1m","timeout":"1s"}`)
		told, asked := offering(t, join("edge-1", "edge"), cfg.ClusterListen)
		none := func() {
			t.Helper()
			require.Eventually(t, func() bool { return len(a.agentWorkers()) == 0 && !slices.Contains(a.regionNames(), "edge") }, 30*time.Second, 10*time.Millisecond)
		}
		host := func() (h model.Host) {
			require.NoError(t, json.Unmarshal([]byte(call("GET", "/v1/hosts/edge-1", "")), &h))
			return h
		}
		require.Equal(t, uplink.Checks{Reset: true}, <-told)
		require.Eventually(t, func() bool { return host().ChecksOffered }, 30*time.Second, 50*time.Millisecond)
		require.False(t, host().Checks || host().ChecksAllowed)
		none()

		began := time.Now()
		call("PATCH", "/v1/nodes/edge-1", `{"checks":true}`)
		require.Equal(t, "till", (<-told).Put[0].Unwrap().Name)
		t.Logf("checks given %s after it was allowed", time.Since(began).Round(time.Millisecond))
		require.Eventually(t, func() bool { return slices.Contains(a.regionNames(), "edge") && len(a.agentWorkers()) == 1 }, 30*time.Second, 10*time.Millisecond)
		require.True(t, host().Checks && host().ChecksAllowed)

		// Nobody looks whether a host answers at an address that is its own: machines
		// have those of their bridges in common.
		look := func(addr string) (reached bool) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			a.tryElsewhere(ctx, model.Check{Name: "host", Type: "icmp", Target: addr, Interval: model.Duration(time.Minute), Timeout: model.Duration(time.Second)}, "another")
			for {
				select {
				case c := <-asked:
					reached = reached || c.Target == addr
				default:
					return reached
				}
			}
		}
		require.False(t, look("192.0.2.7"), "it said that it has this address")
		require.Eventually(t, func() bool { return look("192.0.2.8") }, 30*time.Second, 10*time.Millisecond)
		client := wire.NewClient(wire.ClientConfig{TLS: a.pki.ClientTLS}, wire.ClientDeps{})
		defer client.Close() //nolint:errcheck // nothing is lost
		own := model.Check{Name: "host", Type: "tcp", Target: cfg.Listen, Block: json.RawMessage(`{}`), Interval: model.Duration(time.Minute), Timeout: model.Duration(time.Second)}
		_, err := wire.Call[model.Result](t.Context(), client.Conn(a.pki.NodeID(), cfg.ClusterListen), methodTry, uplink.Of(own))
		require.ErrorIs(t, err, model.ErrForbidden)
		_, err = a.try(t.Context(), a.pki.NodeID(), own)
		require.ErrorIs(t, err, model.ErrForbidden)

		began = time.Now()
		call("PATCH", "/v1/hosts/edge-1", `{"checks":false}`)
		require.Len(t, (<-told).Remove, 1)
		t.Logf("checks taken %s after it was forbidden", time.Since(began).Round(time.Millisecond))
		none()
		require.True(t, host().ChecksOffered)

		for _, code := range []string{"node.checks_allowed", "node.checks_forbidden"} {
			require.Eventually(t, func() bool { return strings.Contains(call("GET", "/v1/events", ""), code) }, 30*time.Second, 50*time.Millisecond, code)
		}
		code, out := once("PATCH", "/v1/nodes/n1", `{"checks":true}`)
		require.Equal(t, http.StatusBadRequest, code)
		require.Contains(t, out, `"field":"checks"`)
	})

	// On the web port a certificate is worth nothing.
	t.Run("web", func(t *testing.T) {
		for _, path := range []string{"/v1/hosts", "/v1/checks", "/v1/events", "/api/v1/query?query=up", "/federate?match[]=up", "/v1/agent-install", "/v1/nodes", "/api/v2/alerts", "/debug/pprof/", "/v1/stream"} {
			resp, err := http.Get(a.URL() + path)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode, path)
		}
	})
}

// offering is the stream of an agent that says it runs checks; what it is told of
// them comes out, and what it is asked to look at.
func offering(t *testing.T, p *pki.PKI, addr string) (<-chan uplink.Checks, <-chan model.Check) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := wire.NewClient(wire.ClientConfig{TLS: p.ClientTLS}, wire.ClientDeps{})
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = client.Close() // nothing is lost
		wg.Wait()
	})
	stream, err := client.Conn("", addr).Open(ctx, uplink.Method)
	require.NoError(t, err)
	hello, err := uplink.Encode(uplink.KindHello, uplink.Hello{Run: "r", Time: time.Now(), Checks: true, Addresses: []string{"192.0.2.7"}})
	require.NoError(t, err)
	require.NoError(t, stream.Send(hello))
	told, asked := make(chan uplink.Checks, 100), make(chan model.Check, 100)
	wg.Go(func() {
		for {
			b, err := stream.Recv()
			if err != nil {
				return
			}
			kind, content, err := uplink.Split(b)
			if p, perr := uplink.Decode[uplink.ProbeRequest](content, 1<<20); err == nil && kind == uplink.KindProbe && perr == nil {
				asked <- p.Check.Unwrap()
			}
			if c, cerr := uplink.Decode[uplink.Checks](content, 1<<20); err == nil && kind == uplink.KindChecks && cerr == nil {
				told <- c
			}
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(uplink.BeatEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if stream.Send([]byte{byte(uplink.KindBeat)}) != nil {
				return
			}
		}
	})
	return told, asked
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// talk reports whether a port answers anything after the handshake.
func talk(addr string, c *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only a try
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	hello := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if len(c.NextProtos) > 0 && c.NextProtos[0] != "h2" {
		hello = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
	}
	if _, err := io.WriteString(conn, hello); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

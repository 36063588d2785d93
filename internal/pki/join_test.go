package pki_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
)

func TestJoin(t *testing.T) {
	w := newWorld(t)
	for _, role := range []model.NodeRole{model.RoleServer, model.RoleWitness, model.RoleAgent} {
		cfg := w.config("the "+string(role)+"/1", role)
		cfg.Hosts = []string{"10.0.0.7", "n2.example", "not a host", "0.0.0.0"}
		p, welcome, err := pki.Join(within(t, 10*time.Second), cfg, pki.JoinRequest{
			Addr: w.addr, Token: " " + w.token(role, "eu", time.Hour, 1) + "\n", Version: "1.4.2", Addresses: model.Addresses{Cluster: "10.0.0.7:9701"}, Labels: map[string]string{"rack": "1"},
		}, pki.Deps{})
		require.NoError(t, err)
		require.JSONEq(t, `"hello the `+string(role)+`/1"`, string(welcome))
		require.Equal(t, w.p.ClusterID(), p.ClusterID())
		got, err := whoami(t, p, w.p.NodeID(), w.addr)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%s/eu/the %s/1/%s", role, role, p.NodeID()), got)
		n := w.nodes[p.NodeID()]
		require.Equal(t, p.KeyHash(), n.KeyHash)
		require.Equal(t, "10.0.0.7:9701", n.Addresses.Cluster)
		require.Equal(t, "1", n.Labels["rack"])
		e := w.lastEvent()
		require.Equal(t, "node.joined", e.Code)
		require.Equal(t, model.EventNode, e.Kind)
		_, caErr := os.Stat(filepath.Join(cfg.Dir, "ca.key"))
		_, gossipErr := os.Stat(filepath.Join(cfg.Dir, "gossip.key"))
		require.Equal(t, role == model.RoleServer, caErr == nil, "the key of the authority is for servers")
		require.Equal(t, role != model.RoleAgent, gossipErr == nil)
		if role != model.RoleAgent {
			require.Equal(t, w.p.GossipKey(), p.GossipKey())
		}
		again, err := pki.Open(cfg, pki.Deps{})
		require.NoError(t, err)
		require.Equal(t, p.NodeID(), again.NodeID())
	}
	// A server that joined lets others join.
	p2, _ := w.mustJoin("n2", model.RoleServer)
	w.addr, _ = w.serve(p2, "1.4.0", nil)
	w.mustJoin("a1", model.RoleAgent)
	// With a token of a server a witness may join.
	_, err := w.join(w.config("w2", model.RoleWitness), w.token(model.RoleServer, "", time.Hour, 1))
	require.NoError(t, err)
}

func TestJoinRefusals(t *testing.T) {
	w := newWorld(t)
	refused := func(cfg pki.Config, token string, reason string, kind error, text string) {
		t.Helper()
		before := len(w.nodes)
		_, err := w.join(cfg, token)
		require.ErrorIs(t, err, kind)
		require.ErrorContains(t, err, text)
		require.Len(t, w.nodes, before)
		if reason != "" {
			e := w.lastEvent()
			require.Equal(t, "node.join_refused", e.Code)
			require.Equal(t, model.EventAudit, e.Kind)
			require.Equal(t, reason, e.Labels["reason"])
			require.Contains(t, e.Message, text)
			require.NotContains(t, fmt.Sprint(e), token[len(token)-20:], "secrets are no part of events")
		}
		_, err = pki.Open(cfg, pki.Deps{})
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	agent := func() pki.Config { return w.config("a1", model.RoleAgent) }
	good := w.token(model.RoleAgent, "", time.Hour, 1)

	other, err := pki.Create(w.config("x", model.RoleServer), pki.Deps{})
	require.NoError(t, err)
	foreign, _, err := other.NewToken(model.Token{Role: model.RoleAgent, Expires: time.Now().Add(time.Hour), Uses: 1}, time.Now())
	require.NoError(t, err)
	refused(agent(), foreign, "", model.ErrUnauthorized, "not of the cluster that made the token")
	require.Empty(t, w.events, "the secret was not sent")

	flip := func(s string, i int) string {
		b := []byte(s)
		if b[i] == 'a' {
			b[i] = 'b'
		} else {
			b[i] = 'a'
		}
		return string(b)
	}
	refused(agent(), flip(good, len(good)-5), "wrong_token", model.ErrUnauthorized, "copy all of it, or make a new one on a server with 'panoptes token create --role agent'")
	refused(agent(), flip(good, strings.LastIndex(good, ".")-2), "unknown_token", model.ErrUnauthorized, "it was revoked, or is too old; make a new one on a server with 'panoptes token create --role agent'")
	for _, bad := range []string{"", "pnp1", good + "x", good[:len(good)-1], strings.ToUpper(good), "pnp2" + good[4:]} {
		_, err := w.join(agent(), bad)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.ErrorContains(t, err, "panoptes token create")
	}

	revoked := w.token(model.RoleAgent, "", time.Hour, 1)
	delete(w.tokens, strings.Split(revoked, ".")[2])
	refused(agent(), revoked, "unknown_token", model.ErrUnauthorized, "it was revoked")

	used := w.token(model.RoleAgent, "", time.Hour, 1)
	_, err = w.join(w.config("a0", model.RoleAgent), used)
	require.NoError(t, err)
	refused(agent(), used, "used_token", model.ErrForbidden, "'panoptes token create --role agent', with --uses N for several nodes")

	refused(w.config("s1", model.RoleServer), good, "role", model.ErrForbidden, "make a new one on a server with 'panoptes token create --role server'")
	refused(agent(), w.token(model.RoleServer, "", time.Hour, 1), "role", model.ErrForbidden, "the token lets a node of the role server join")
	refused(w.config("s1", model.RoleServer), w.token(model.RoleWitness, "", time.Hour, 1), "role", model.ErrForbidden, "this one is a server")
	refused(agent(), w.token(model.RoleAgent, "us", time.Hour, 1), "region", model.ErrForbidden, "start it with --region us, or make a new token with 'panoptes token create --role agent --region eu'")

	n1 := w.config("n1", model.RoleAgent)
	w.nodes["N1"] = model.Node{ID: w.p.NodeID(), Name: "n1", Role: model.RoleServer}
	refused(n1, good, "name_taken", model.ErrConflict, "'panoptes node remove n1' and join again")
	delete(w.nodes, "N1")

	late := agent()
	late.Now = func() time.Time { return w.clock.now().Add(-7 * time.Minute) }
	refused(late, good, "clock", model.ErrForbidden, "is 7m0s behind the server's: set it (NTP) and join again")
	early := agent()
	early.Now = func() time.Time { return w.clock.now().Add(48 * time.Hour) }
	refused(early, good, "clock", model.ErrForbidden, "48h0m0s ahead of the server's")
	slightly := w.config("slightly", model.RoleAgent)
	slightly.Now = func() time.Time { return w.clock.now().Add(-4*time.Minute - 50*time.Second) }
	p, err := w.join(slightly, w.token(model.RoleAgent, "", time.Hour, 1))
	require.NoError(t, err)
	_, err = whoami(t, p, "", w.addr)
	require.NoError(t, err, "works at once with a clock that is late")

	w.addr, _ = w.serve(w.p, "1.6.0", nil)
	refused(agent(), good, "version", model.ErrForbidden, "install 1.6.0 and join again")
	w.addr, _ = w.serve(w.p, "2.4.2", nil)
	refused(agent(), good, "version", model.ErrForbidden, "version 1.4.2 cannot join servers of version 2.4.2")
	for _, v := range []string{"v1.3.9", "1.5.0-rc1", "1.4.2", "devel"} {
		w.addr, _ = w.serve(w.p, v, nil)
		_, err = w.join(w.config("with "+v, model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1))
		require.NoError(t, err, v)
	}

	w.clock.advance(61 * time.Minute)
	refused(agent(), good, "expired_token", model.ErrForbidden, "make a new one on a server with 'panoptes token create --role agent'")
}

func TestTokenHasItsUses(t *testing.T) {
	w := newWorld(t)
	tok := w.token(model.RoleAgent, "", time.Hour, 5)
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	cfgs := make([]pki.Config, 12)
	for i := range cfgs {
		cfgs[i] = w.config(fmt.Sprint("a", i), model.RoleAgent)
	}
	for _, cfg := range cfgs {
		wg.Go(func() {
			switch _, err := w.join(cfg, tok); {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, model.ErrForbidden):
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 5, ok.Load())
	require.EqualValues(t, 7, refused.Load())
	require.Len(t, w.nodes, 5)
}

// However often a token is used its record stays small, and a node that repeats
// its join costs no further use, whatever it joined with meanwhile.
func TestATokenOfManyUsesStaysSmall(t *testing.T) {
	w := newWorld(t)
	tok, other := w.token(model.RoleAgent, "", time.Hour, 12), w.token(model.RoleAgent, "", time.Hour, 1)
	name := strings.Split(tok, ".")[2]
	record := func() model.Token {
		w.records.mu.Lock()
		defer w.records.mu.Unlock()
		return w.tokens[name]
	}
	again := func(cfg pki.Config, tok string) {
		t.Helper()
		_, err := w.join(cfg, tok)
		require.NoError(t, err)
	}
	var cfgs []pki.Config
	for i := range 10 {
		cfg := w.config(fmt.Sprint("a", i), model.RoleAgent)
		_, err := w.join(cfg, tok)
		require.NoError(t, err)
		cfgs = append(cfgs, cfg)
		require.LessOrEqual(t, len(record().Used), 1, "the others are on record")
	}
	again(cfgs[0], tok)
	require.Equal(t, 2, record().Uses)
	again(cfgs[0], other)
	again(cfgs[0], tok)
	require.Equal(t, 2, record().Uses)

	// What the program kept before, and nodes that never came on record.
	w.records.mu.Lock()
	full := w.tokens[name]
	for i := range 9000 {
		full.Used = append(full.Used, fmt.Sprint("GONE", i))
	}
	w.tokens[name] = full
	w.records.mu.Unlock()
	_, err := w.join(w.config("last", model.RoleAgent), tok)
	require.NoError(t, err)
	require.Len(t, record().Used, 100)
	require.Equal(t, 1, record().Uses)
}

func TestReplacedMachine(t *testing.T) {
	w := newWorld(t)
	old, _ := w.mustJoin("a1", model.RoleAgent)
	w.mu.Lock()
	w.alive[old.NodeID()] = true
	w.mu.Unlock()
	_, err := w.join(w.config("a1", model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1))
	require.ErrorIs(t, err, model.ErrConflict)
	w.mu.Lock()
	w.alive[old.NodeID()] = false
	w.mu.Unlock()
	p, err := w.join(w.config("a1", model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1))
	require.NoError(t, err)
	require.NotEqual(t, old.NodeID(), p.NodeID())
	require.Equal(t, "a1", w.nodes[p.NodeID()].Name)
	require.True(t, w.nodes[old.NodeID()].Revoked)
	require.Contains(t, w.nodes[old.NodeID()].Name, "a1 (replaced ")
	require.NoError(t, model.CheckName(w.nodes[old.NodeID()].Name))
	require.True(t, slices.ContainsFunc(w.events, func(e model.Event) bool { return e.Code == "node.replaced" }))
}

// TestATokenOfAgentsMovesNobodyElse: it lets a host in, and nothing more.
func TestATokenOfAgentsMovesNobodyElse(t *testing.T) {
	w := newWorld(t)
	s2, _ := w.mustJoin("n2", model.RoleServer) // and is away
	_, err := w.join(w.config("n2", model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1))
	require.ErrorIs(t, err, model.ErrConflict)
	require.ErrorContains(t, err, "node remove n2")
	require.False(t, w.nodes[s2.NodeID()].Revoked)

	far, _ := w.mustJoin("a1", model.RoleAgent)
	there := w.config("a1", model.RoleAgent)
	there.Region = "us"
	_, err = w.join(there, w.token(model.RoleAgent, "us", time.Hour, 1))
	require.ErrorIs(t, err, model.ErrConflict)
	require.False(t, w.nodes[far.NodeID()].Revoked)

	// One that is on record and still has its token stays what it is.
	cfg, tok := w.config("a2", model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1)
	p, err := w.join(cfg, tok)
	require.NoError(t, err)
	w.records.mu.Lock()
	n := w.nodes[p.NodeID()]
	n.Labels = map[string]string{"team": "web"}
	w.nodes[n.ID] = n
	w.records.mu.Unlock()
	cfg.Name, cfg.Region = "a1", "us"
	_, _, err = pki.Join(within(t, 20*time.Second), cfg, pki.JoinRequest{Addr: w.addr, Token: tok, Version: "1.4.2", Labels: map[string]string{"team": "bank"}}, pki.Deps{})
	require.NoError(t, err)
	require.Equal(t, []string{"a2", "eu", "web"}, []string{w.nodes[n.ID].Name, w.nodes[n.ID].Region, w.nodes[n.ID].Labels["team"]})
	require.False(t, w.nodes[far.NodeID()].Revoked)
}

func TestJoinAgainAfterACrash(t *testing.T) {
	// The server fails at each of its steps, once; the node tries again with the
	// same directory and the same token of one use.
	f := func(step string, lost bool) {
		t.Run(fmt.Sprint(step, " lost ", lost), func(t *testing.T) {
			w := newWorld(t)
			// The name belonged to a machine that is gone, so that its record changes too.
			w.nodes["OLD"] = model.Node{ID: "OLD", Name: "a1", Role: model.RoleAgent}
			var failures atomic.Int64
			fail := func(op string) error {
				if op == step && failures.Add(1) == 1 {
					return fmt.Errorf("%w: no quorum", model.ErrUnavailable)
				}
				return nil
			}
			if lost {
				w.lost = fail
			} else {
				w.fail = fail
			}
			w.welcome = func(model.Node) (json.RawMessage, error) { return json.RawMessage(`{}`), fail("welcome") }
			cfg, tok := w.config("a1", model.RoleAgent), w.token(model.RoleAgent, "", time.Hour, 1)
			_, err := w.join(cfg, tok)
			require.ErrorIs(t, err, model.ErrUnavailable)
			require.ErrorContains(t, err, "no quorum")
			_, err = pki.Open(cfg, pki.Deps{})
			require.ErrorIs(t, err, fs.ErrNotExist)
			p, err := w.join(cfg, tok)
			require.NoError(t, err)
			require.Len(t, w.nodes, 2)
			require.True(t, w.nodes["OLD"].Revoked)
			require.Equal(t, "a1", w.nodes[p.NodeID()].Name)
			_, err = whoami(t, p, "", w.addr)
			require.NoError(t, err)
			_, err = w.join(w.config("a2", model.RoleAgent), tok)
			require.ErrorIs(t, err, model.ErrForbidden, "used once all the same")
		})
	}
	for _, step := range []string{"token.get", "node.get", "node.byname", "node.update", "token.update", "node.create", "welcome"} {
		f(step, false)
	}
	for _, step := range []string{"node.update", "token.update", "node.create"} {
		f(step, true)
	}
}

func TestJoinAgainWhenTheNodeCrashed(t *testing.T) {
	// Everything was answered, and any file may not have been written.
	for _, role := range []model.NodeRole{model.RoleServer, model.RoleAgent} {
		w := newWorld(t)
		cfg, tok := w.config("n2", role), w.token(role, "", time.Hour, 1)
		p, err := w.join(cfg, tok)
		require.NoError(t, err)
		id := p.NodeID()
		w.clock.advance(2 * time.Hour) // the token has ended too
		for _, lost := range []string{"roots.pem", "ca.crt", "ca.key", "node.crt", "gossip.key", ""} {
			// As it was before the last file was written: the node is of no cluster.
			node, err := os.ReadFile(filepath.Join(cfg.Dir, "node.json"))
			require.NoError(t, err)
			var m map[string]any
			require.NoError(t, json.Unmarshal(node, &m))
			delete(m, "cluster_id")
			node, err = json.Marshal(m)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "node.json"), node, 0o600))
			_ = os.Remove(filepath.Join(cfg.Dir, lost))
			_, err = pki.Open(cfg, pki.Deps{})
			require.ErrorIs(t, err, fs.ErrNotExist)
			p, err = w.join(cfg, tok)
			require.NoError(t, err, "without %s", lost)
			require.Equal(t, id, p.NodeID())
		}
		require.Len(t, w.nodes, 1)
		// A complete identity may ask again as well, e.g. for its welcome.
		_, err = w.join(cfg, tok)
		require.NoError(t, err)
		// But nobody else with the same token, nor with the node's id and another key.
		_, err = w.join(w.config("n3", role), tok)
		require.ErrorIs(t, err, model.ErrForbidden)
		require.NoError(t, os.Remove(filepath.Join(cfg.Dir, "node.key")))
		_, err = w.join(cfg, tok)
		require.Error(t, err)
		var m = map[string]any{"id": id, "name": "n2", "region": "eu", "role": role}
		b, err := json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "node.json"), b, 0o600))
		_, err = w.join(cfg, tok)
		require.ErrorIs(t, err, model.ErrConflict)
		require.ErrorContains(t, err, "another key")
	}
}

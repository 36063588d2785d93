package pki_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
)

// store is a configuration store of one process.
type store struct {
	mu    sync.Mutex
	rev   int64
	kvs   map[string]model.KV
	subs  map[chan struct{}]struct{}
	block bool // writes are refused
}

func newStore() *store {
	return &store{kvs: map[string]model.KV{}, subs: map[chan struct{}]struct{}{}}
}

func (s *store) Get(_ context.Context, key string) (model.KV, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kv, ok := s.kvs[key]
	if !ok {
		return kv, model.ErrNotFound
	}
	return kv, nil
}

func (s *store) Txn(_ context.Context, conds []model.KVCond, ops []model.KVOp) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.block {
		return 0, model.ErrUnavailable
	}
	for _, c := range conds {
		switch rev := s.kvs[c.Key].Revision; {
		case c.Revision == model.KVAbsent && rev != 0:
			return 0, &model.KVCondError{Key: c.Key, Found: rev, Err: model.ErrConflict}
		case c.Revision > 0 && rev != c.Revision:
			return 0, &model.KVCondError{Key: c.Key, Found: rev, Err: model.ErrRevision}
		}
	}
	s.rev++
	for _, op := range ops {
		s.kvs[op.Key] = model.KV{Key: op.Key, Value: op.Value, Revision: s.rev}
	}
	for c := range s.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return s.rev, nil
}

func (s *store) Watch(ctx context.Context, _ string, _ int64) <-chan model.KVBatch {
	out, wake := make(chan model.KVBatch), make(chan struct{}, 1)
	s.mu.Lock()
	s.subs[wake] = struct{}{}
	s.mu.Unlock()
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
				select {
				case out <- model.KVBatch{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

func seal(b []byte) ([]byte, error) {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, nil
}

func (w *world) rollover(p *pki.PKI, s *store, ids *[]string, adopt func(context.Context) error) *pki.Rollover {
	w.t.Helper()
	r, err := pki.NewRollover(p, pki.RolloverDeps{KV: s, Seal: seal, Unseal: seal, Name: func(id string) string { return "named " + id }, Servers: func() []string { return *ids }, Adopt: adopt})
	require.NoError(w.t, err)
	return r
}

func rootsOf(t *testing.T, p *pki.PKI) string {
	t.Helper()
	_, _, ca := p.Files()
	b, err := os.ReadFile(ca)
	require.NoError(t, err)
	return string(b)
}

func count(t *testing.T, p *pki.PKI) int {
	return strings.Count(rootsOf(t, p), "BEGIN CERTIFICATE")
}

func TestRollover(t *testing.T) {
	w := newWorld(t)
	kv := newStore()
	n2, cfg2 := w.mustJoin("n2", model.RoleServer)
	wit, _ := w.mustJoin("w1", model.RoleWitness)
	agent, _ := w.mustJoin("a1", model.RoleAgent)
	sleeper, sleeperCfg := w.mustJoin("a2", model.RoleAgent) // is away all the time
	addr2, _ := w.serve(n2, "1.4.0", nil)
	witWire, _ := w.serveWitness(wit)
	ids := []string{w.p.NodeID(), n2.NodeID(), wit.NodeID()}
	var changed atomic.Int64
	n2.Changed(func() { changed.Add(1) })

	// A live connection of before, which nobody may notice anything of.
	live, err := client(t, agent).Conn("", w.addr).Open(within(t, 60*time.Second), "test.echo")
	require.NoError(t, err)
	echo := func() {
		t.Helper()
		require.NoError(t, live.Send([]byte("x")))
		_, err := live.Recv()
		require.NoError(t, err)
	}
	everybodyTalks := func() {
		t.Helper()
		echo()
		for _, p := range []*pki.PKI{w.p, n2, wit, agent} {
			for _, addr := range []string{w.addr, addr2, witWire} {
				_, err := whoami(t, p, "", addr)
				require.NoError(t, err)
			}
		}
	}
	oldToken := w.token(model.RoleAgent, "", 1000*time.Hour, 10)
	everybodyTalks()

	r1 := w.rollover(w.p, kv, &ids, nil)
	var adopted atomic.Bool
	r2 := w.rollover(n2, kv, &ids, func(context.Context) error {
		if !adopted.Load() {
			return errors.New("not yet")
		}
		return nil
	})
	rw := w.rollover(wit, kv, &ids, nil)
	st, err := r1.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, pki.PhaseStable, st.Phase)
	require.Len(t, st.Roots, 1)
	require.ErrorIs(t, r1.Finish(t.Context(), true), model.ErrConflict)
	require.ErrorIs(t, rw.Begin(t.Context()), model.ErrConflict)
	for _, r := range []*pki.Rollover{r1, r2, rw} {
		run(t, r.Run)
	}
	oldRoots := rootsOf(t, w.p)
	require.NoError(t, r1.Begin(t.Context()))
	require.ErrorIs(t, r2.Begin(t.Context()), model.ErrConflict)
	status := func() pki.RolloverStatus {
		st, err := r1.Status(t.Context())
		require.NoError(t, err)
		return st
	}

	// n2 has not brought the new root into use: nobody signs with it yet.
	require.Eventually(t, func() bool { st := status(); return len(st.Waiting) == 1 && st.Waiting[0] == "named "+n2.NodeID() }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, pki.PhaseTrust, status().Phase)
	require.ErrorContains(t, r1.Finish(t.Context(), true), ": named "+n2.NodeID()+"; start them")
	everybodyTalks()
	kv.mu.Lock()
	for _, v := range kv.kvs {
		require.NotContains(t, string(v.Value), "PRIVATE KEY")
	}
	kv.mu.Unlock()
	adopted.Store(true)
	require.Eventually(t, func() bool { st := status(); return st.Phase == pki.PhaseIssue && len(st.Waiting) == 0 }, 30*time.Second, 10*time.Millisecond)
	for _, p := range []*pki.PKI{w.p, n2, wit} {
		require.Equal(t, 2, count(t, p))
	}
	require.Positive(t, changed.Load())

	// The servers have certificates of the new root; the agent, who knows the old
	// one only, goes on.
	require.Equal(t, 1, count(t, agent))
	everybodyTalks()
	// Both kinds of token are good, and who joins now knows both roots.
	for i, tok := range []string{oldToken, w.token(model.RoleAgent, "", time.Hour, 1), w.token(model.RoleServer, "", time.Hour, 1)} {
		role := model.RoleAgent
		if i == 2 {
			role = model.RoleServer
		}
		p, err := w.join(w.config(fmt.Sprint("late", i), role), tok)
		require.NoError(t, err)
		require.Equal(t, 2, count(t, p))
		_, err = whoami(t, p, "", addr2)
		require.NoError(t, err)
	}
	// A server that starts again in the middle is where it was.
	again, err := pki.Open(cfg2, pki.Deps{})
	require.NoError(t, err)
	require.Equal(t, 2, count(t, again))

	require.ErrorContains(t, r1.Finish(t.Context(), false), "wait until")
	require.False(t, status().Ready)
	w.clock.advance(23 * time.Hour)
	for _, p := range []*pki.PKI{w.p, n2, wit, agent} {
		require.NoError(t, p.Renew(t.Context()))
	}
	require.Equal(t, 2, count(t, agent))
	everybodyTalks()
	w.clock.advance(2 * time.Hour)
	require.True(t, status().Ready)
	require.NoError(t, r2.Finish(t.Context(), false))
	require.Eventually(t, func() bool {
		st := status()
		return st.Phase == pki.PhaseStable && len(st.Waiting) == 0 && count(t, w.p) == 1 && count(t, n2) == 1 && count(t, wit) == 1
	}, 30*time.Second, 10*time.Millisecond)
	require.NotEqual(t, oldRoots, rootsOf(t, w.p))
	everybodyTalks()
	require.NoError(t, agent.Renew(t.Context()))
	require.Equal(t, 1, count(t, agent))
	everybodyTalks()
	for _, name := range []string{"ca.crt", "ca.key"} {
		b, err := os.ReadFile(filepath.Join(cfg2.Dir, name))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(b), "BEGIN"), name)
	}
	// What belongs to the old authority is worth nothing.
	_, err = w.join(w.config("old", model.RoleAgent), oldToken)
	require.ErrorContains(t, err, "make a new token there")
	require.Error(t, sleeper.Renew(t.Context()))
	require.NoError(t, os.RemoveAll(sleeperCfg.Dir))
	_, err = w.join(sleeperCfg, w.token(model.RoleAgent, "", time.Hour, 1))
	require.NoError(t, err)
	// And once more.
	require.NoError(t, r1.Begin(t.Context()))
	require.Eventually(t, func() bool { st := status(); return st.Phase == pki.PhaseIssue && len(st.Waiting) == 0 }, 30*time.Second, 10*time.Millisecond)
	everybodyTalks()
}

// serveWitness answers as a witness does: it is no authority.
func (w *world) serveWitness(p *pki.PKI) (string, *wire.Server) {
	w.t.Helper()
	_, err := pki.NewAuthority(p, pki.AuthorityDeps{Nodes: nodeStore{w.records}, Tokens: tokenStore{w.records}})
	require.ErrorContains(w.t, err, "no key to sign with")
	_, _, err = p.NewToken(model.Token{Role: model.RoleAgent, Expires: w.clock.now().Add(time.Hour), Uses: 1}, w.clock.now())
	require.ErrorContains(w.t, err, "ask a server")
	l := listen(w.t)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: p.ServerTLS()}, wire.ServerDeps{Identify: p.Identify})
	require.NoError(w.t, err)
	s.Handle("test.whoami", nil, func(context.Context, model.Peer, []byte) ([]byte, error) { return nil, nil })
	run(w.t, s.Run)
	return l.Addr().String(), s
}

func TestRolloverIsNotFollowedBlindly(t *testing.T) {
	w := newWorld(t)
	kv := newStore()
	ids := []string{w.p.NodeID()}
	r := w.rollover(w.p, kv, &ids, nil)
	other := newWorld(t)
	okv := newStore()
	oids := []string{other.p.NodeID()}
	ro := other.rollover(other.p, okv, &oids, nil)
	require.NoError(t, ro.Begin(t.Context()))
	run(t, r.Run)
	before := rootsOf(t, w.p)
	for _, value := range []string{
		string(okv.kvs["pki/rollover"].Value), "", "{}", "null", `{"roots":[{}]}`, `{"roots":[{"cert":"Z2FyYmFnZQ=="}],"using":"x"}`,
	} {
		_, err := kv.Txn(t.Context(), nil, []model.KVOp{{Key: "pki/rollover", Value: []byte(value)}})
		require.NoError(t, err)
		never(t, 150*time.Millisecond, func() bool { return rootsOf(t, w.p) != before }, value)
	}
	_, err := whoami(t, w.p, "", w.addr)
	require.NoError(t, err)
}

func TestRolloverWaitsForAMajority(t *testing.T) {
	w := newWorld(t)
	kv := newStore()
	ids := []string{w.p.NodeID()}
	r := w.rollover(w.p, kv, &ids, nil)
	kv.block = true
	require.ErrorIs(t, r.Begin(t.Context()), model.ErrUnavailable)
	require.Equal(t, 1, count(t, w.p))
	kv.block = false
	require.NoError(t, r.Begin(t.Context()))
	kv.block = true
	run(t, r.Run)
	require.Eventually(t, func() bool { return count(t, w.p) == 2 }, 30*time.Second, 10*time.Millisecond)
	st, err := r.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, pki.PhaseTrust, st.Phase)
	kv.mu.Lock()
	kv.block = false
	kv.mu.Unlock()
	require.Eventually(t, func() bool {
		st, err := r.Status(t.Context())
		return err == nil && st.Phase == pki.PhaseIssue && len(st.Waiting) == 0
	}, 30*time.Second, 10*time.Millisecond)
	b, err := json.Marshal(st)
	require.NoError(t, err)
	require.NotContains(t, string(b), "sealed")
}

// A power cut leaves any beginning of the files of a step written, the rest as
// they were. Each such mixture opens, is believed and can go on.
func TestRolloverSurvivesACrashBetweenFiles(t *testing.T) {
	w := newWorld(t)
	n2, cfg := w.mustJoin("n2", model.RoleServer)
	kv := newStore()
	ids := []string{w.p.NodeID(), n2.NodeID()}
	r1, r2 := w.rollover(w.p, kv, &ids, nil), w.rollover(n2, kv, &ids, nil)
	snapshot := func() map[string][]byte {
		out := map[string][]byte{}
		files, err := os.ReadDir(cfg.Dir)
		require.NoError(t, err)
		for _, f := range files {
			out[f.Name()], err = os.ReadFile(filepath.Join(cfg.Dir, f.Name()))
			require.NoError(t, err)
		}
		return out
	}
	run(t, r1.Run)
	steps := []map[string][]byte{snapshot()}
	require.NoError(t, r1.Begin(t.Context()))
	run(t, r2.Run)
	reach := func(phase pki.Phase) {
		require.Eventually(t, func() bool {
			st, err := r1.Status(t.Context())
			return err == nil && st.Phase == phase && len(st.Waiting) == 0
		}, 30*time.Second, 10*time.Millisecond)
		steps = append(steps, snapshot())
	}
	reach(pki.PhaseIssue)
	require.NoError(t, r1.Finish(t.Context(), true))
	reach(pki.PhaseStable)
	order := []string{"roots.pem", "ca.key", "ca.crt", "node.crt"}
	for i := 1; i < len(steps); i++ {
		for n := range len(order) + 1 {
			mixed := cfg
			mixed.Dir = t.TempDir()
			for name, b := range steps[i-1] {
				require.NoError(t, os.WriteFile(filepath.Join(mixed.Dir, name), b, 0o600))
			}
			for _, name := range order[:n] {
				require.NoError(t, os.WriteFile(filepath.Join(mixed.Dir, name), steps[i][name], 0o600))
			}
			p, err := pki.Open(mixed, pki.Deps{})
			require.NoError(t, err, "step %d, %d files", i, n)
			// It believes itself, and so would a server that is as far.
			_, err = p.Identify(stateOf(t, p))
			require.NoError(t, err, "step %d, %d files", i, n)
			_, _, err = p.NewToken(model.Token{Role: model.RoleAgent, Expires: w.clock.now().Add(time.Hour), Uses: 1}, w.clock.now())
			require.NoError(t, err)
			if i < len(steps)-1 {
				continue
			}
			// w.p is where the last step ends: there it comes to by itself.
			_, err = w.p.Identify(stateOf(t, p))
			require.NoError(t, err, "step %d, %d files", i, n)
			r := w.rollover(p, kv, &ids, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			require.Eventually(t, func() bool { return rootsOf(t, p) == rootsOf(t, w.p) }, 30*time.Second, 10*time.Millisecond)
			cancel()
			require.NoError(t, <-done)
		}
	}
}

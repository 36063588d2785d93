package pki_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// records are the catalog of a test: nodes and tokens with compare-and-swap.
type records struct {
	mu     sync.Mutex
	rev    int64
	nodes  map[string]model.Node
	tokens map[string]model.Token
	revs   map[string]int64
	fail   func(op string) error // called before each operation; may be nil
	lost   func(op string) error // called after each write, instead of an answer; may be nil
}

func newRecords() *records {
	return &records{nodes: map[string]model.Node{}, tokens: map[string]model.Token{}, revs: map[string]int64{}}
}

func (r *records) do(op string) error {
	if r.fail != nil {
		return r.fail(op)
	}
	return nil
}

func (r *records) done(op string) error {
	if r.lost != nil {
		return r.lost(op)
	}
	return nil
}

type nodeStore struct{ *records }

func (s nodeStore) Get(_ context.Context, id string) (model.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("node.get"); err != nil {
		return model.Node{}, err
	}
	n, ok := s.nodes[id]
	if !ok {
		return n, fmt.Errorf("node %s: %w", id, model.ErrNotFound)
	}
	return n, nil
}

func (s nodeStore) ByName(_ context.Context, name string) (model.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("node.byname"); err != nil {
		return model.Node{}, err
	}
	for _, n := range s.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return model.Node{}, fmt.Errorf("node %s: %w", name, model.ErrNotFound)
}

func (s nodeStore) Create(_ context.Context, n model.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("node.create"); err != nil {
		return err
	}
	for _, o := range s.nodes {
		if o.ID == n.ID || o.Name == n.Name {
			return model.ErrConflict
		}
	}
	s.rev++
	n.Revision = s.rev
	s.nodes[n.ID] = n
	return s.done("node.create")
}

func (s nodeStore) Update(_ context.Context, n model.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("node.update"); err != nil {
		return err
	}
	if s.nodes[n.ID].Revision != n.Revision {
		return model.ErrRevision
	}
	s.rev++
	n.Revision = s.rev
	s.nodes[n.ID] = n
	return s.done("node.update")
}

type tokenStore struct{ *records }

func (s tokenStore) Get(_ context.Context, name string) (model.Token, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("token.get"); err != nil {
		return model.Token{}, 0, err
	}
	t, ok := s.tokens[name]
	if !ok {
		return t, 0, model.ErrNotFound
	}
	return t, s.revs[name], nil
}

func (s tokenStore) Update(_ context.Context, t model.Token, rev int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.do("token.update"); err != nil {
		return err
	}
	if s.revs[t.Name] != rev {
		return model.ErrRevision
	}
	s.rev++
	s.tokens[t.Name], s.revs[t.Name] = t, s.rev
	return s.done("token.update")
}

// world is a first server that answers.
type world struct {
	*records
	t     *testing.T
	clock *clock
	p     *pki.PKI
	wire  *wire.Server
	addr  string

	mu      sync.Mutex
	events  []model.Event
	alive   map[string]bool
	welcome func(n model.Node) (json.RawMessage, error)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{records: newRecords(), t: t, clock: &clock{}, alive: map[string]bool{}}
	w.welcome = func(n model.Node) (json.RawMessage, error) { return json.Marshal("hello " + n.Name) }
	p, err := pki.Create(w.config("n1", model.RoleServer), pki.Deps{})
	require.NoError(t, err)
	w.p = p
	w.addr, w.wire = w.serve(p, "1.4.0", nil)
	return w
}

func (w *world) config(name string, role model.NodeRole) pki.Config {
	return pki.Config{Dir: filepath.Join(w.t.TempDir(), "pki"), Name: name, Region: "eu", Role: role, Now: w.clock.now, CheckEvery: 20 * time.Millisecond}
}

// serve answers as p does until the test ends.
func (w *world) serve(p *pki.PKI, version string, more func(*wire.Server)) (string, *wire.Server) {
	w.t.Helper()
	l := listen(w.t)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: p.ServerTLS(), AnonymousRate: 1000, AnonymousConns: 1000}, wire.ServerDeps{Identify: p.Identify})
	require.NoError(w.t, err)
	a, err := pki.NewAuthority(p, pki.AuthorityDeps{
		Nodes: nodeStore{w.records}, Tokens: tokenStore{w.records}, Version: version,
		Welcome: func(_ context.Context, n model.Node) (json.RawMessage, error) { return w.welcome(n) },
		Audit: func(_ context.Context, e model.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Alive: func(id string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.alive[id]
		},
	})
	require.NoError(w.t, err)
	a.Register(s)
	s.Handle("test.whoami", nil, func(_ context.Context, from model.Peer, _ []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s/%s/%s/%s", from.Role, from.Region, from.Name, from.NodeID), nil
	})
	s.HandleStream("test.echo", nil, func(_ model.Peer, st wire.Stream) error {
		for {
			b, err := st.Recv()
			if err != nil {
				return err
			}
			if err := st.Send(b); err != nil {
				return err
			}
		}
	})
	if more != nil {
		more(s)
	}
	run(w.t, s.Run)
	return l.Addr().String(), s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func (w *world) token(role model.NodeRole, region string, ttl time.Duration, uses int) string {
	w.t.Helper()
	return w.tokenOf(model.Token{Role: role, Region: region, Expires: w.clock.now().Add(ttl), Uses: uses})
}

func (w *world) tokenOf(want model.Token) string {
	w.t.Helper()
	plain, rec, err := w.p.NewToken(want, w.clock.now())
	require.NoError(w.t, err)
	w.records.mu.Lock()
	defer w.records.mu.Unlock()
	w.rev++
	w.tokens[rec.Name], w.revs[rec.Name] = rec, w.rev
	return plain
}

func (w *world) join(cfg pki.Config, token string) (*pki.PKI, error) {
	w.t.Helper()
	p, _, err := pki.Join(within(w.t, 20*time.Second), cfg, pki.JoinRequest{Addr: w.addr, Token: token, Version: "1.4.2"}, pki.Deps{Servers: func() []string { return []string{w.addr} }})
	return p, err
}

func (w *world) mustJoin(name string, role model.NodeRole) (*pki.PKI, pki.Config) {
	w.t.Helper()
	cfg := w.config(name, role)
	p, err := w.join(cfg, w.token(role, "", time.Hour, 1))
	require.NoError(w.t, err)
	return p, cfg
}

func (w *world) lastEvent() model.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NotEmpty(w.t, w.events)
	return w.events[len(w.events)-1]
}

func (w *world) edit(id string, f func(*model.Node)) {
	w.records.mu.Lock()
	defer w.records.mu.Unlock()
	n := w.nodes[id]
	f(&n)
	w.rev++
	n.Revision = w.rev
	w.nodes[id] = n
}

// client connects as p.
func client(t *testing.T, p *pki.PKI) *wire.Client {
	t.Helper()
	c := wire.NewClient(wire.ClientConfig{TLS: p.ClientTLS}, wire.ClientDeps{})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func whoami(t *testing.T, p *pki.PKI, nodeID, addr string) (string, error) {
	t.Helper()
	c := client(t, p)
	b, err := c.Conn(nodeID, addr).Call(within(t, 5*time.Second), "test.whoami", nil)
	require.NoError(t, c.Close()) // a node has few connections
	return string(b), err
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"maps"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
	"panoptes/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store of samples that all servers of a test share, as the relay
// makes them do. What comes twice is there once.
type memory struct {
	mu      sync.Mutex
	samples map[string]map[int64]float64
	twice   int
	differ  int
	fail    atomic.Pointer[error]
	delay   atomic.Int64
}

func newMemory() *memory { return &memory{samples: map[string]map[int64]float64{}} }

func (m *memory) Appender(context.Context) storage.Appender { return &appender{m: m} }

func (m *memory) series(match map[string]string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for s := range m.samples {
		var l map[string]string
		_ = json.Unmarshal([]byte(s), &l)
		ok := true
		for k, v := range match {
			ok = ok && l[k] == v
		}
		if ok {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// times are those of all samples of a metric of a host.
func (m *memory) times(name, host string) []int64 {
	var out []int64
	for _, s := range m.series(map[string]string{"__name__": name, "host": host}) {
		m.mu.Lock()
		out = slices.AppendSeq(out, maps.Keys(m.samples[s]))
		m.mu.Unlock()
	}
	slices.Sort(out)
	return out
}

type appender struct {
	m       *memory
	pending []model.Sample
}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if err := a.m.fail.Load(); err != nil {
		return 0, *err
	}
	a.pending = append(a.pending, model.Sample{Labels: l, T: t, V: v})
	return max(ref, 1), nil
}

func (a *appender) Commit() error {
	if err := a.m.fail.Load(); err != nil {
		return *err
	}
	if d := time.Duration(a.m.delay.Load()); d > 0 {
		<-time.After(d)
	}
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	for _, s := range a.pending {
		b, _ := json.Marshal(s.Labels)
		k := string(b)
		if a.m.samples[k] == nil {
			a.m.samples[k] = map[int64]float64{}
		}
		if old, ok := a.m.samples[k][s.T]; ok {
			a.m.twice++
			if math.Float64bits(old) != math.Float64bits(s.V) {
				a.m.differ++
			}
		}
		a.m.samples[k][s.T] = s.V
	}
	return nil
}
func (a *appender) Rollback() error                   { return nil }
func (a *appender) SetOptions(*storage.AppendOptions) {}
func (a *appender) AppendHistogram(r storage.SeriesRef, _ labels.Labels, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r, nil
}
func (a *appender) AppendExemplar(r storage.SeriesRef, _ labels.Labels, _ exemplar.Exemplar) (storage.SeriesRef, error) {
	return r, nil
}
func (a *appender) AppendSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return r, nil
}
func (a *appender) AppendHistogramSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r, nil
}
func (a *appender) UpdateMetadata(r storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return r, nil
}

// world is a cluster of a test: servers that share records, a store and their
// news of hosts.
type world struct {
	t      *testing.T
	store  *memory
	first  *pki.PKI
	mu     sync.Mutex // guards what follows
	nodes  map[string]model.Node
	tokens map[string]model.Token
	rev    int64
	events []model.Event
	found  []model.Result
	groups []model.HostGroup
	checks map[string][]model.Check // by agent
	may    []model.Check            // that each may run
	probe  func(c model.Check) []model.Result
	server []*server
	states []model.Host
	key    ed25519.PrivateKey
	jobs   []byte // that agents scrape
}

type server struct {
	w     *world
	id    string
	addr  string
	pki   *pki.PKI
	hosts *hosts.Hosts
	wire  *wire.Server
	out   *wire.Client
	stop  func()
	alive atomic.Bool
	cut   atomic.Bool // its packets go nowhere
}

func newWorld(t *testing.T) *world {
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return &world{t: t, key: key, store: newMemory(), nodes: map[string]model.Node{}, tokens: map[string]model.Token{}, checks: map[string][]model.Check{}}
}

type nodeStore struct{ w *world }

func (s nodeStore) Get(_ context.Context, id string) (model.Node, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	n, ok := s.w.nodes[id]
	if !ok {
		return n, model.ErrNotFound
	}
	return n, nil
}
func (s nodeStore) ByName(_ context.Context, name string) (model.Node, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, n := range s.w.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return model.Node{}, model.ErrNotFound
}
func (s nodeStore) Create(_ context.Context, n model.Node) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.rev++
	n.Revision = s.w.rev
	s.w.nodes[n.ID] = n
	return nil
}
func (s nodeStore) Update(ctx context.Context, n model.Node) error { return s.Create(ctx, n) }

type tokenStore struct{ w *world }

func (s tokenStore) Get(_ context.Context, name string) (model.Token, int64, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	t, ok := s.w.tokens[name]
	if !ok {
		return t, 0, model.ErrNotFound
	}
	return t, 1, nil
}
func (s tokenStore) Update(_ context.Context, t model.Token, _ int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.tokens[t.Name] = t
	return nil
}

func (w *world) token(role model.NodeRole) string {
	plain, rec, err := w.first.NewToken(model.Token{Role: role, Region: "eu", Checks: role == model.RoleAgent, Expires: time.Now().Add(time.Hour), Uses: 10}, time.Now())
	require.NoError(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[rec.Name] = rec
	return plain
}

// add starts a server.
func (w *world) add(name string, cfg hosts.Config) *server {
	w.t.Helper()
	pc := pki.Config{Dir: filepath.Join(w.t.TempDir(), name), Name: name, Region: "eu", Role: model.RoleServer}
	var p *pki.PKI
	var err error
	if w.first == nil {
		p, err = pki.Create(pc, pki.Deps{})
		w.first = p
	} else {
		p, _, err = pki.Join(w.t.Context(), pc, pki.JoinRequest{Addr: w.server[0].addr, Token: w.token(model.RoleServer), Version: "1.0.0"}, pki.Deps{})
	}
	require.NoError(w.t, err)
	s := &server{w: w, id: p.NodeID(), pki: p}
	s.out = wire.NewClient(wire.ClientConfig{TLS: p.ClientTLS}, wire.ClientDeps{})
	w.t.Cleanup(func() { require.NoError(w.t, s.out.Close()) })
	s.addr = harness.FreeAddr(w.t, "127.0.0.1") // also of one that was stopped nobody answers
	l, err := net.Listen("tcp", s.addr)
	require.NoError(w.t, err)
	cfg.NodeID = s.id
	if cfg.Settle == 0 {
		cfg.Settle = time.Millisecond
	}
	s.hosts, err = hosts.New(cfg, hosts.Deps{
		Store: w.store,
		AppendEvents: func(_ context.Context, events ...model.Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range events {
				if !slices.ContainsFunc(w.events, func(o model.Event) bool { return o.ID == e.ID }) {
					w.events = append(w.events, e)
				}
			}
			return nil
		},
		Result: func(r model.Result) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.found = append(w.found, r)
		},
		Node: func(id string) (model.Node, bool) {
			n, err := nodeStore{w}.Get(context.Background(), id)
			return n, err == nil
		},
		Nodes: func() (out []model.Node) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, n := range w.nodes {
				if n.Role == model.RoleAgent && !n.Revoked {
					out = append(out, n)
				}
			}
			return out
		},
		Groups: func() []model.HostGroup {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.groups)
		},
		Checks: func(node string) []model.Check {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.checks[node])
		},
		Check: func(node, id string) (model.Check, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, c := range slices.Concat(w.checks[node], w.may) {
				if c.ID == id {
					return c, true
				}
			}
			return model.Check{}, false
		},
		Given: func(node, id string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.ContainsFunc(w.checks[node], func(c model.Check) bool { return c.ID == id })
		},
		Servers: w.servers, ActionKey: func() (ed25519.PrivateKey, error) { return w.key, nil },
		Scrapes: func(string) []byte {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.jobs
		},
		Dial: func(id string) (wire.Conn, error) {
			for _, o := range w.all() {
				if o.id == id {
					return s.out.Conn(id, o.addr), nil
				}
			}
			return nil, model.ErrUnavailable
		},
		Alive: func() (out []string) {
			for _, o := range w.all() {
				if o.alive.Load() {
					out = append(out, o.id)
				}
			}
			return out
		},
		Owns: func(string) bool { // the first that lives
			for _, o := range w.all() {
				if o.alive.Load() {
					return o == s
				}
			}
			return false
		},
		Probe: func(_ context.Context, c model.Check, _ string) []model.Result {
			w.mu.Lock()
			f := w.probe
			w.mu.Unlock()
			if f == nil {
				return nil
			}
			return f(c)
		},
		Broadcast: func(b []byte) {
			for _, o := range w.all() {
				if o != s && o.alive.Load() {
					go func() { _ = o.hosts.Merge(b) }()
				}
			}
		},
		HostChanged: func(h model.Host) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.states = append(w.states, h)
		},
	})
	require.NoError(w.t, err)
	s.wire, err = wire.NewServer(wire.ServerConfig{Listener: &cutListener{l, s}, TLS: p.ServerTLS(), AnonymousRate: 1000}, wire.ServerDeps{Identify: p.Identify})
	require.NoError(w.t, err)
	a, err := pki.NewAuthority(p, pki.AuthorityDeps{Nodes: nodeStore{w}, Tokens: tokenStore{w}, Version: "1.0.0"})
	require.NoError(w.t, err)
	a.Register(s.wire)
	s.hosts.Register(s.wire)
	w.mu.Lock()
	w.server = append(w.server, s)
	w.mu.Unlock()
	s.alive.Store(true)
	s.stop = background(w.t, func(ctx context.Context) error {
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.hosts.Run(ctx) })
		err := s.wire.Run(ctx)
		s.alive.Store(false)
		wg.Wait()
		return err
	})
	return s
}

func (w *world) all() []*server {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.server)
}

func (w *world) servers() (out []uplink.Server) {
	for _, s := range w.all() {
		out = append(out, uplink.Server{ID: s.id, Addr: s.addr})
	}
	return out
}

// cutListener makes connections that can be cut without a word.
type cutListener struct {
	net.Listener
	s *server
}

func (l *cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &cutConn{c, l.s}, nil
}

type cutConn struct {
	net.Conn
	s *server
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for err == nil && c.s.cut.Load() { // swallowed
		n, err = c.Conn.Read(b)
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.s.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// background runs f until the test or stop ends it.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(20 * time.Second):
				buf := make([]byte, 1<<20)
				t.Errorf("did not end:\n%s", buf[:runtime.Stack(buf, true)])
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

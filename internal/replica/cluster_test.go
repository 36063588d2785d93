package replica_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/replica"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
	"panoptes/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is some servers on loopback, each with a real store and history, that
// reach each other over the real transport.
type cluster struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate
	pool *x509.CertPool

	mu    sync.Mutex
	addrs map[string]string // of those that run

	// onMessage sees, and may change, what a client receives; an error ends the
	// stream. Calls of all streams are one at a time.
	onMessage func(receiver, method string, message []byte) ([]byte, error)
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	c := &cluster{t: t, key: key, pool: x509.NewCertPool(), addrs: make(map[string]string)}
	c.ca, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	c.pool.AddCert(c.ca)
	return c
}

func (c *cluster) issue(id string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(c.t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.ca, &key.PublicKey, c.key)
	require.NoError(c.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *cluster) alive() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for id := range c.addrs {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// server is one of them.
type server struct {
	c       *cluster
	id      string
	dir     string
	cfg     replica.Config
	deps    replica.Deps
	storage store.Config
	free    func(string) (uint64, error)

	store   *store.Store
	history *history.History
	replica *replica.Replica
	events  chan model.Event // emitted
	stop    func()           // everything, in order; twice is harmless
}

// add makes a server; start runs it.
func (c *cluster) add(id string) *server {
	s := &server{c: c, id: id, dir: c.t.TempDir(), events: make(chan model.Event, 100)}
	s.cfg = replica.Config{NodeID: id, Confirm: 50 * time.Millisecond, Retry: 50 * time.Millisecond, SettleNow: time.Millisecond, Settle: time.Millisecond, CheckEvery: time.Hour, Shards: 16}
	return s
}

func (s *server) start() *server {
	t := s.c.t
	t.Helper()
	s.storage.Dir = filepath.Join(s.dir, "tsdb")
	var stopStore func()
	s.store, stopStore = storetest.Start(t, s.storage, store.Deps{Free: s.free})
	var err error
	s.history, err = history.New(history.Config{Path: filepath.Join(s.dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)

	cert := s.c.issue(s.id)
	client := wire.NewClient(wire.ClientConfig{TLS: func(string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: s.c.pool, ServerName: "127.0.0.1"}
	}}, wire.ClientDeps{})
	s.deps.Store, s.deps.History, s.deps.Alive = s.store, s.history, s.c.alive
	s.deps.Dial = func(id string) (wire.Conn, error) {
		s.c.mu.Lock()
		addr, ok := s.c.addrs[id]
		s.c.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("dial %s: %w", id, model.ErrUnavailable)
		}
		return &conn{Conn: client.Conn(id, addr), s: s}, nil
	}
	s.deps.Emit = func(_ context.Context, events ...model.Event) error {
		for _, e := range events {
			select {
			case s.events <- e:
			default:
			}
		}
		return nil
	}
	s.cfg.Dir = filepath.Join(s.dir, "replica")
	s.replica, err = replica.New(s.cfg, s.deps)
	require.NoError(t, err)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ws, err := wire.NewServer(wire.ServerConfig{
		Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.c.pool},
	}, wire.ServerDeps{Identify: func(st tls.ConnectionState) (model.Peer, error) {
		return model.Peer{NodeID: st.PeerCertificates[0].Subject.CommonName, Role: model.RoleServer}, nil
	}})
	require.NoError(t, err)
	s.replica.Register(ws)
	stops := []func(){run(t, client.Run), run(t, ws.Run), run(t, s.replica.Run)}
	s.c.mu.Lock()
	s.c.addrs[s.id] = l.Addr().String()
	s.c.mu.Unlock()
	s.stop = sync.OnceFunc(func() {
		s.c.mu.Lock()
		delete(s.c.addrs, s.id)
		s.c.mu.Unlock()
		for _, f := range slices.Backward(stops) {
			f()
		}
		s.history.Close()
		stopStore()
	})
	t.Cleanup(s.stop)
	return s
}

// run runs something until the returned function is called.
func run(t testing.TB, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("run does not end")
		}
	}
}

// conn lets the test see what is received.
type conn struct {
	wire.Conn
	s *server
}

func (c *conn) Open(ctx context.Context, method string) (wire.ClientStream, error) {
	s, err := c.Conn.Open(ctx, method)
	if err != nil {
		return nil, err
	}
	return &stream{s, c.s, method}, nil
}

type stream struct {
	wire.ClientStream
	s      *server
	method string
}

func (s *stream) Recv() ([]byte, error) {
	b, err := s.ClientStream.Recv()
	if err != nil {
		return b, err
	}
	s.s.c.mu.Lock()
	f := s.s.c.onMessage
	s.s.c.mu.Unlock()
	if f == nil {
		return b, nil
	}
	return f(s.s.id, s.method, b)
}

// watch sets what sees the messages.
func (c *cluster) watch(f func(receiver, method string, message []byte) ([]byte, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onMessage = f
}

func series(name string, i int) labels.Labels {
	return labels.FromStrings("__name__", name, "i", fmt.Sprint(i))
}

// hoursAgo is the full minute that many hours ago, in milliseconds.
func hoursAgo(h float64) int64 {
	return time.Now().Add(-time.Duration(h * float64(time.Hour))).Truncate(time.Minute).UnixMilli()
}

// put appends one sample.
func (s *server) put(l labels.Labels, at int64, v float64) {
	s.c.t.Helper()
	require.NoError(s.c.t, s.store.Append(context.Background(), model.Batch{{Labels: l, T: at, V: v}}))
}

// fill appends a sample a minute to n series.
func (s *server) fill(n int, from, to int64) {
	s.c.t.Helper()
	for at := from; at < to; at += 60_000 {
		var b model.Batch
		for i := range n {
			b = append(b, model.Sample{Labels: series("m", i), T: at, V: float64(at % 999_983 * int64(i+1))})
		}
		require.NoError(s.c.t, s.store.Append(context.Background(), b))
	}
}

func (s *server) compact() *server {
	s.c.t.Helper()
	require.NoError(s.c.t, s.store.Compact(context.Background()))
	return s
}

// happen stores n events, one a minute since from.
func (s *server) happen(n int, from int64) {
	s.c.t.Helper()
	var events []model.Event
	for i := range n {
		at := time.UnixMilli(from + int64(i)*60_000).UTC()
		events = append(events, model.Event{ID: model.NewID(at), Time: at, Kind: model.EventAudit, Subject: "check/1", Message: fmt.Sprint(i)})
	}
	require.NoError(s.c.t, s.history.Append(context.Background(), events...))
}

// contents is what a server has, for comparison.
type contents struct {
	Samples []model.Digest
	Events  []model.EventDigest
}

func (s *server) contents(from, to int64) (c contents) {
	s.c.t.Helper()
	var err error
	c.Samples, err = s.store.Digest(context.Background(), model.SampleRange{From: from, To: to, Shards: 8})
	require.NoError(s.c.t, err)
	c.Events, err = s.history.Digests(context.Background(), time.UnixMilli(from), time.UnixMilli(to))
	require.NoError(s.c.t, err)
	return c
}

// complete waits until nothing is missing.
func (s *server) complete() {
	s.c.t.Helper()
	require.Eventually(s.c.t, func() bool { return s.replica.Status().Complete }, 30*time.Second, 10*time.Millisecond, "not complete: %+v", s.replica.Status())
}

// event waits for an event with a code.
func (s *server) event(code string) model.Event {
	s.c.t.Helper()
	end := time.After(20 * time.Second)
	for {
		select {
		case e := <-s.events:
			if e.Code == code {
				return e
			}
		case <-end:
			require.Fail(s.c.t, "no event "+code)
		}
	}
}

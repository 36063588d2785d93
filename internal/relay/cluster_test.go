package relay_test

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
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/relay"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
	"panoptes/internal/wire"
)

const patience = 20 * time.Second

// cluster is a set of servers in this process that talk over real connections.
type cluster struct {
	t     testing.TB
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	pool  *x509.CertPool
	nodes map[string]*node

	mu    sync.Mutex // guards the fields below
	cut   map[[2]string]bool
	conns map[[2]string][]net.Conn
	addrs map[string]string
}

func newCluster(t testing.TB, ids ...string) *cluster {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	ca, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	c := &cluster{t: t, ca: ca, key: key, pool: x509.NewCertPool(), nodes: map[string]*node{}, cut: map[[2]string]bool{}, conns: map[[2]string][]net.Conn{}, addrs: map[string]string{}}
	c.pool.AddCert(ca)
	for _, id := range ids {
		c.nodes[id] = newNode(c, id)
	}
	return c
}

func (c *cluster) certificate(id string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(c.t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.ca, &key.PublicKey, c.key)
	require.NoError(c.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dial connects from one node to another unless they are cut off.
func (c *cluster) dial(ctx context.Context, from, to string) (net.Conn, error) {
	pair := [2]string{from, to}
	c.mu.Lock()
	defer c.mu.Unlock()
	addr := c.addrs[to]
	if c.cut[pair] || addr == "" {
		return nil, errors.New("network is unreachable")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil {
		c.conns[pair] = append(c.conns[pair], conn)
	}
	return conn, err
}

// link cuts or heals the way from one node to another.
func (c *cluster) link(from, to string, works bool) {
	pair := [2]string{from, to}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[pair] = !works
	if !works {
		c.disconnect(pair)
	}
}

func (c *cluster) disconnect(pair [2]string) {
	for _, conn := range c.conns[pair] {
		conn.Close()
	}
	c.conns[pair] = nil
}

func (c *cluster) setAlive(ids ...string) {
	for _, n := range c.nodes {
		if n.relay != nil {
			n.relay.SetAlive(ids)
		}
	}
}

func (c *cluster) ids() (ids []string) {
	for id := range c.nodes {
		ids = append(ids, id)
	}
	return ids
}

// node is one server: store, history, relay and their transport.
type node struct {
	c    *cluster
	id   string
	dir  string
	cfg  relay.Config
	deps relay.Deps
	cert tls.Certificate

	storage store.Config

	store  *store.Store
	events *history.History
	relay  *relay.Relay

	registry  *prometheus.Registry
	storeStop func()
	relayStop func()
}

func newNode(c *cluster, id string) *node {
	return &node{c: c, id: id, dir: c.t.TempDir(), cert: c.certificate(id), cfg: relay.Config{NodeID: id, MinFreeBytes: -1}}
}

// openStores opens store and history unless they are open.
func (n *node) openStores() {
	if n.store != nil {
		return
	}
	t := n.c.t
	t.Helper()
	n.registry = prometheus.NewRegistry()
	n.storage.Dir = filepath.Join(n.dir, "tsdb")
	n.store, n.storeStop = storetest.Start(t, n.storage, store.Deps{Registerer: n.registry})
	var err error
	n.events, err = history.New(history.Config{Path: filepath.Join(n.dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	t.Cleanup(n.stop)
}

// outOfOrder counts the samples that came late to the node's store.
func (n *node) outOfOrder() float64 {
	families, err := n.registry.Gather()
	require.NoError(n.c.t, err)
	total := 0.0
	for _, f := range families {
		if f.GetName() == "prometheus_tsdb_head_out_of_order_samples_appended_total" {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

// segments lists the files of the node's log.
func (n *node) segments() []string {
	files, err := filepath.Glob(filepath.Join(n.dir, "relay", "*.seg"))
	require.NoError(n.c.t, err)
	return files
}

// start opens everything and runs until stop.
func (n *node) start() *node {
	t := n.c.t
	t.Helper()
	n.openStores()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	identify := func(s tls.ConnectionState) (model.Peer, error) {
		return model.Peer{NodeID: s.PeerCertificates[0].Subject.CommonName, Role: model.RoleServer}, nil
	}
	srv, err := wire.NewServer(wire.ServerConfig{Listener: listener, TLS: &tls.Config{Certificates: []tls.Certificate{n.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: n.c.pool}}, wire.ServerDeps{Identify: identify})
	require.NoError(t, err)
	clients := map[string]*wire.Client{}
	var mu sync.Mutex
	cfg, deps := n.cfg, n.deps
	cfg.Dir = filepath.Join(n.dir, "relay")
	if deps.Store == nil {
		deps.Store = n.store
	}
	if deps.Events == nil {
		deps.Events = n.events
	}
	deps.Dial = func(to string) (wire.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if clients[to] == nil {
			tlsCfg := &tls.Config{RootCAs: n.c.pool, Certificates: []tls.Certificate{n.cert}, ServerName: "127.0.0.1"}
			clients[to] = wire.NewClient(wire.ClientConfig{TLS: func(string) *tls.Config { return tlsCfg },
				Dial: func(ctx context.Context, _ string) (net.Conn, error) { return n.c.dial(ctx, n.id, to) }}, wire.ClientDeps{})
		}
		return clients[to].Conn(to, "127.0.0.1:1"), nil
	}
	n.relay, err = relay.New(cfg, deps)
	require.NoError(t, err)
	n.relay.Register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- n.relay.Run(ctx) }()
	go func() { done <- srv.Run(ctx) }()
	require.Eventually(t, func() bool { return !errors.Is(n.relay.Accepting(), model.ErrUnavailable) }, 30*time.Second, time.Millisecond)
	n.c.mu.Lock()
	n.c.addrs[n.id] = listener.Addr().String()
	n.c.mu.Unlock()
	stopped := false
	n.relayStop = func() {
		if stopped {
			return
		}
		stopped = true
		n.c.mu.Lock()
		n.c.addrs[n.id] = ""
		n.c.mu.Unlock()
		cancel()
		for range 2 {
			require.NoError(t, <-done)
		}
		for _, c := range clients {
			require.NoError(t, c.Close())
		}
	}
	return n
}

// stop ends the server and keeps its directory.
func (n *node) stop() {
	if n.store == nil {
		return
	}
	if n.relay != nil {
		n.relayStop()
	}
	n.events.Close()
	n.storeStop()
	n.store, n.relay, n.deps.Store = nil, nil, nil
}

// startAll starts the nodes and makes all known and alive to all.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.start()
	}
	for _, n := range c.nodes {
		n.relay.SetDestinations(c.ids())
		n.relay.SetAlive(c.ids())
	}
}

func series(name string, i int) labels.Labels {
	return labels.FromStrings("__name__", name, "instance", "host-1:9100", "job", "node", "n", fmt.Sprint(i))
}

// count returns how many samples of a metric the node's store has.
func (n *node) count(name string) int {
	total := 0
	for _, points := range n.read(name) {
		total += len(points)
	}
	return total
}

type point struct {
	t int64
	v float64
}

// read returns all samples of a metric by the labels of their series.
func (n *node) read(name string) map[string][]point {
	t := n.c.t
	t.Helper()
	q, err := n.store.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	defer q.Close()
	got := map[string][]point{}
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		for it.Next() != 0 {
			ts := it.AtT()
			var v float64
			if h := it; h != nil {
				_, v = h.At()
			}
			got[s.Labels().String()] = append(got[s.Labels().String()], point{ts, v})
		}
	}
	require.NoError(t, set.Err())
	return got
}

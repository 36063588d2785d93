// Package pki says who a node is and proves it to others: the cluster's
// authority, certificates that live a day, tokens to join with, revocation, and
// the change of the authority's key without a pause.
//
// What is in the directory, each file written whole and fsynced, mode 0600:
//
//	node.json   who this node is; names a cluster once the node has joined
//	node.key    its key, which it keeps for life
//	node.crt    its certificate; with one between it and the root while roots change
//	roots.pem   the authorities it trusts: one, two while they change
//	ca.crt      the authorities that this server can sign as, the one in use first
//	ca.key      their keys (servers only)
//	gossip.key  32 bytes (servers and witnesses)
package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// The times of certificates.
const (
	leafLife  = 24 * time.Hour
	rootLife  = 10 * 365 * 24 * time.Hour
	backdate  = 5 * time.Minute // certificates begin before they were made, since clocks differ
	maxSkew   = 5 * time.Minute // between a node that joins and the server
	renewLate = 30 * 24 * time.Hour
	// A certificate that is to begin soon is believed: it harms nobody, and a server
	// whose clock is ahead is not cut off for it.
	early = time.Hour
)

// Config says who this node is and where it keeps its identity.
type Config struct {
	Dir    string
	Name   string
	Region string
	Role   model.NodeRole
	// Hosts are the names and addresses under which the node is reached; what is
	// neither is left out.
	Hosts []string
	// Now is the clock that certificates are compared with; nil means time.Now.
	Now func() time.Time
	// CheckEvery is how often Run looks whether the certificate is to be renewed; default 30 s.
	CheckEvery time.Duration
}

// Deps are the collaborators of a PKI; all may be nil.
type Deps struct {
	// Servers are the cluster addresses where a node that has no authority of its
	// own asks for a new certificate.
	Servers func() []string
	// Dial replaces the plain TCP dialer for joining and renewing.
	Dial       func(ctx context.Context, addr string) (net.Conn, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// PKI is the identity of this node and what it knows about those of others. It
// may be used by several goroutines.
type PKI struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	node    nodeFile
	key     *ecdsa.PrivateKey
	gossip  []byte
	wake    chan struct{} // look at once whether to renew

	renewing sync.Mutex // one renewal or change of authorities at a time

	mu      sync.RWMutex // guards what follows
	leaf    *leaf
	trust   *trust
	revoked map[string]struct{}
	changed []func()
}

// leaf is this node's certificate, ready for use.
type leaf struct {
	cert  *x509.Certificate
	chain tls.Certificate
}

// trust is a set of authorities. It is never changed, only replaced.
type trust struct {
	roots []*x509.Certificate
	pool  *x509.CertPool
	cas   []*authority        // those with a key, the one in use first; none on agents and witnesses
	cross []*x509.Certificate // the authority in use, signed by the one before it
}

// Open reads an identity. The error is fs.ErrNotExist when the node has none
// yet, or has not finished joining.
func Open(cfg Config, deps Deps) (*PKI, error) {
	p, err := prepare(cfg, deps)
	if err != nil {
		return nil, err
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	if err := p.refresh(); err != nil {
		return nil, err
	}
	p.metrics.expiry.Set(float64(p.current().cert.NotAfter.Unix()))
	return p, nil
}

// Create makes a new cluster: its id, its authority, its gossip key, and the
// identity of its first server.
func Create(cfg Config, deps Deps) (*PKI, error) {
	p, err := prepare(cfg, deps)
	if err != nil {
		return nil, err
	}
	if p.cfg.Role != model.RoleServer {
		return nil, fmt.Errorf("make a cluster: a %s cannot be the first node; start a server first and join it", p.cfg.Role)
	}
	if node, err := readNode(p.path(fileNode)); err == nil && node.ClusterID != "" {
		return nil, fmt.Errorf("make a cluster in %s: %w: the directory has an identity already", p.cfg.Dir, fs.ErrExist)
	}
	if err := p.begin(); err != nil {
		return nil, err
	}
	now := p.now()
	p.node.ClusterID = model.NewID(now)
	ca, err := newAuthority(p.node.ClusterID, now)
	if err != nil {
		return nil, err
	}
	p.gossip = make([]byte, 32)
	rand.Read(p.gossip) //nolint:errcheck // ends the process rather than fail
	p.trust = newTrust([]*x509.Certificate{ca.cert}, []*authority{ca}, nil)
	if err := p.sign(); err != nil {
		return nil, err
	}
	// The file of the node comes last, and only then: it says that the rest is there.
	err = p.writeTrust(p.trust)
	if err == nil {
		err = writeFile(p.path(fileGossip), p.gossip)
	}
	if err == nil {
		err = writeNode(p.path(fileNode), p.node)
	}
	if err != nil {
		return nil, fmt.Errorf("make a cluster: %w", err)
	}
	p.log.Info("cluster made", "cluster", p.node.ClusterID, "node", p.node.ID, "ca", ca.hash())
	return p, nil
}

// prepare checks the configuration; nothing is read or written.
func prepare(cfg Config, deps Deps) (*PKI, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CheckEvery <= 0 {
		cfg.CheckEvery = 30 * time.Second
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Servers == nil {
		deps.Servers = func() []string { return nil }
	}
	var inv model.Invalid
	if cfg.Dir == "" {
		inv.Add("data_dir", "must name a directory")
	}
	inv.AddErr("", checkNode(cfg.Name, cfg.Region, cfg.Role))
	if err := inv.Err(); err != nil {
		return nil, err
	}
	cfg.Hosts = cleanHosts(cfg.Hosts)
	return &PKI{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Registerer), wake: make(chan struct{}, 1),
		node: nodeFile{Name: cfg.Name, Region: cfg.Region, Role: cfg.Role}, revoked: map[string]struct{}{},
	}, nil
}

func checkNode(name, region string, role model.NodeRole) error {
	var inv model.Invalid
	if model.CheckName(name) != nil {
		inv.Add("node", "must be a name of 1 to 128 letters, digits, spaces or any of . _ @ : / + - ( ), and begin with a letter or digit")
	}
	if model.CheckName(region) != nil {
		inv.Add("region", "must be a name of 1 to 128 letters, digits, spaces or any of . _ @ : / + - ( ), and begin with a letter or digit")
	}
	switch role {
	case model.RoleServer, model.RoleWitness, model.RoleAgent:
	default:
		inv.Add("role", "must be server, witness or agent")
	}
	return inv.Err()
}

// begin reads the id and key of a node that has not joined yet, or makes them.
// They are on disk before anybody hears of them, so that a second attempt is
// the same node.
func (p *PKI) begin() error {
	if err := makeDir(p.cfg.Dir); err != nil {
		return err
	}
	node, err := readNode(p.path(fileNode))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.node.ID = model.NewID(p.now())
	case err != nil:
		return err
	default:
		p.node.ID, p.node.ClusterID = node.ID, node.ClusterID
	}
	p.key, err = readKey(p.path(fileKey))
	if errors.Is(err, fs.ErrNotExist) && p.node.ClusterID == "" {
		if p.key, err = newKey(); err == nil {
			err = writeKeys(p.path(fileKey), p.key)
		}
	}
	if err != nil {
		return fmt.Errorf("key of this node: %w", err)
	}
	if p.node.ClusterID != "" {
		return nil
	}
	return writeNode(p.path(fileNode), p.node)
}

// refresh brings a server's certificate up to date before it is used: it may
// have ended while the process was away, or lack an address.
func (p *PKI) refresh() error {
	if !p.signs() {
		return nil
	}
	if p.due() {
		return p.sign()
	}
	return nil
}

// ClusterID returns the id of the cluster.
func (p *PKI) ClusterID() string { return p.node.ClusterID }

// NodeID returns the id of this node, which it keeps for life.
func (p *PKI) NodeID() string { return p.node.ID }

// Joined reports whether this node joined a cluster that others had made. It is
// not known, and false, of those that joined with an older version.
func (p *PKI) Joined() bool { return p.node.Joined }

// KeyHash is the SHA-256 of this node's public key, hex, as in model.Node.
func (p *PKI) KeyHash() string {
	h, err := keyHash(p.key.Public())
	if err != nil {
		return "" // a key that could be read can be encoded
	}
	return h
}

// GossipKey returns the 32 bytes that servers and witnesses gossip with; agents
// have none.
func (p *PKI) GossipKey() []byte { return slices.Clone(p.gossip) }

// Files are what others that speak TLS in this process read: the certificate
// (with what lies between it and the root), its key, and the roots. They are
// replaced whole; see Changed.
func (p *PKI) Files() (cert, key, ca string) {
	return p.path(fileCert), p.path(fileKey), p.path(fileRoots)
}

// Changed calls fn after the roots in Files have changed: whoever has read them
// reads them again. It must neither block for long nor call this PKI.
func (p *PKI) Changed(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = append(p.changed, fn)
}

// SetRevoked says whose certificates are worth nothing any more.
func (p *PKI) SetRevoked(ids []string) {
	set := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		set[id] = struct{}{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked = set
}

func (p *PKI) isRevoked(id string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.revoked[id]
	return ok
}

// signs says whether this node is an authority.
func (p *PKI) signs() bool { return p.node.Role == model.RoleServer }

func (p *PKI) now() time.Time          { return p.cfg.Now() }
func (p *PKI) path(name string) string { return filepath.Join(p.cfg.Dir, name) }

func (p *PKI) trusted() *trust {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.trust
}

func (p *PKI) current() *leaf {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.leaf
}

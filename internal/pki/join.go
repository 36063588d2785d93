package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// JoinRequest is what a node that joins has been told, and tells of itself.
type JoinRequest struct {
	Addr      string // of a server, host:9701
	Token     string
	Version   string
	Addresses model.Addresses
	Labels    map[string]string
}

// joinTimeout bounds one attempt; the server may wait for its configuration store.
const joinTimeout = 90 * time.Second

// Join makes this node one of the cluster that the server at Addr belongs to:
// it fetches the authorities, checks them against the token before it shows the
// token's secret, proves that it has its key, and keeps what it gets. It may be
// called again after a crash at any point, also when the token has been used up
// by this very node. welcome is what the other side's app gave along.
//
// Refusals are model.ErrUnauthorized, ErrForbidden or ErrConflict with what to
// do; a server that cannot be reached, or cannot write, is model.ErrUnavailable.
func Join(ctx context.Context, cfg Config, req JoinRequest, deps Deps) (p *PKI, welcome json.RawMessage, err error) {
	tok, err := parseToken(req.Token)
	if err != nil {
		return nil, nil, err
	}
	if p, err = prepare(cfg, deps); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := p.begin(); err != nil {
		return nil, nil, err
	}
	ca, roots, err := p.fetchRoots(ctx, req.Addr, tok)
	if err != nil {
		return nil, nil, err
	}
	if p.node.ClusterID != "" && p.node.ClusterID != ca.ClusterID {
		return nil, nil, fmt.Errorf("%w: %s belongs to a node of cluster %s, the server at %s is of cluster %s: empty the data directory to join another cluster", model.ErrConflict, p.cfg.Dir, p.node.ClusterID, req.Addr, ca.ClusterID)
	}
	answer, err := p.ask(ctx, req, tok, ca, roots)
	if err != nil {
		return nil, nil, err
	}
	if err := p.keep(ca.ClusterID, answer); err != nil {
		return nil, nil, fmt.Errorf("keep the identity: %w", err)
	}
	p.log.Info("joined", "cluster", p.node.ClusterID, "node", p.node.ID, "server", req.Addr)
	return p, answer.Welcome, nil
}

// fetchRoots asks an unknown server for the authorities and believes them when
// the one that the token names has signed for them all.
func (p *PKI) fetchRoots(ctx context.Context, addr string, tok token) (*caAnswer, *trust, error) {
	client := wire.NewClient(wire.ClientConfig{
		Dial: p.deps.Dial,
		TLS: func(string) *tls.Config {
			return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} //nolint:gosec // what comes is proven by its signature
		},
	}, wire.ClientDeps{})
	defer client.Close() //nolint:errcheck // nothing is lost
	nonce := make([]byte, 32)
	rand.Read(nonce) //nolint:errcheck // ends the process rather than fail
	ca, err := wire.Call[caAnswer](ctx, client.Conn("", addr), methodCA, caRequest{Nonce: nonce})
	if err != nil {
		return nil, nil, fmt.Errorf("ask for the authority of the cluster: %w", err)
	}
	roots, err := decodeCerts(ca.Roots)
	if err != nil {
		return nil, nil, fmt.Errorf("read the authority of the cluster at %s: %w", addr, err)
	}
	for _, r := range roots {
		if keyName(r) != tok.ca {
			continue
		}
		if !ca.signedBy(r, nonce) {
			return nil, nil, fmt.Errorf("%w: the server at %s shows the authority of the token but has not its key: somebody may stand between; the token's secret was not sent", model.ErrUnauthorized, addr)
		}
		return &ca, newTrust(roots, nil, nil), nil
	}
	return nil, nil, fmt.Errorf("%w: the server at %s is not of the cluster that made the token (other authority), or somebody stands between; the token's secret was not sent: check the address, or make a new token there with 'panoptes token create'", model.ErrUnauthorized, addr)
}

// ask shows the token to a server that has proven to be one.
func (p *PKI) ask(ctx context.Context, req JoinRequest, tok token, ca *caAnswer, roots *trust) (*joinAnswer, error) {
	csr, err := p.request()
	if err != nil {
		return nil, err
	}
	client := wire.NewClient(wire.ClientConfig{
		Dial: p.deps.Dial,
		TLS: func(string) *tls.Config {
			return &tls.Config{
				MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
				VerifyConnection: func(s tls.ConnectionState) error {
					// By the server's clock, which it signed for: when clocks differ the server
					// says so, in words.
					if err := roots.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth, ca.Time); err != nil {
						return fmt.Errorf("the server at %s: %w", req.Addr, err)
					}
					peer, cluster, err := identity(s.PeerCertificates[0])
					if err == nil && (cluster != ca.ClusterID || peer.Role == model.RoleAgent) {
						err = fmt.Errorf("is %s %s of cluster %s", peer.Role, peer.Name, cluster)
					}
					return err
				},
			}
		},
	}, wire.ClientDeps{})
	defer client.Close() //nolint:errcheck // nothing is lost
	answer, err := wire.Call[joinAnswer](ctx, client.Conn("", req.Addr), methodJoin, joinRequest{
		TokenID: tok.id, Secret: tok.secret, ID: p.node.ID, Name: p.cfg.Name, Region: p.cfg.Region, Role: p.cfg.Role, Version: req.Version,
		Time: p.now(), Hosts: p.cfg.Hosts, Addresses: req.Addresses, Labels: req.Labels, Request: csr,
	})
	if err != nil {
		return nil, err
	}
	return &answer, nil
}

// keep puts what the cluster gave on disk. The file of the node, which says that
// the rest is there, comes last.
func (p *PKI) keep(clusterID string, a *joinAnswer) error {
	if a.ClusterID != clusterID {
		return errors.New("the answer is of another cluster")
	}
	p.node.ClusterID = clusterID
	roots, err := decodeCerts(a.Roots)
	if err != nil || len(roots) == 0 {
		return fmt.Errorf("read the authorities: %w", errors.Join(err, errorIf(len(roots) == 0, "there are none")))
	}
	t := newTrust(roots, nil, nil)
	if p.signs() {
		keys, err := decodeKeys(a.CAKeys)
		if err != nil {
			return fmt.Errorf("read the key of the authority: %w", err)
		}
		certs, err := decodeCerts(a.CAs)
		if err != nil {
			return fmt.Errorf("read the authority: %w", err)
		}
		cas, cross := match(certs, keys)
		if len(cas) == 0 {
			return errors.New("the key of the authority is missing")
		}
		t = newTrust(roots, cas, cross)
	}
	if p.cfg.Role != model.RoleAgent {
		if len(a.GossipKey) != 32 {
			return errors.New("the key of the gossip is missing")
		}
		p.gossip = a.GossipKey
		if err := writeFile(p.path(fileGossip), p.gossip); err != nil {
			return err
		}
	}
	if err := p.writeTrust(t); err != nil {
		return err
	}
	p.mu.Lock()
	p.trust = t
	p.mu.Unlock()
	chain, err := decodeCerts(a.Chain)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	if err := p.setLeaf(chain); err != nil {
		return err
	}
	p.node.Joined = true
	return writeNode(p.path(fileNode), p.node)
}

func errorIf(bad bool, text string) error {
	if bad {
		return errors.New(text)
	}
	return nil
}

// request makes a certificate request, which proves that this node has its key.
func (p *PKI) request() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return der, nil
}

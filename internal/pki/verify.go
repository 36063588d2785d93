package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"panoptes/internal/model"
)

// Identify says who is at the other end. Without a certificate it is the zero
// Peer. A certificate that ended at most 30 days ago gives a Peer that is
// Expired. Errors: model.ErrUnauthorized, with the reason, for all others.
func (p *PKI) Identify(s tls.ConnectionState) (model.Peer, error) {
	if len(s.PeerCertificates) == 0 {
		return model.Peer{}, nil
	}
	return p.verify(s.PeerCertificates, x509.ExtKeyUsageClientAuth, renewLate)
}

// verify looks at a chain with the roots and the clock of now. A certificate
// that ended less than late ago is looked at as it was before.
func (p *PKI) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, late time.Duration) (model.Peer, error) {
	fail := func(reason string, format string, args ...any) (model.Peer, error) {
		p.metrics.refused.WithLabelValues(reason).Inc()
		return model.Peer{}, fmt.Errorf("%w: %s", model.ErrUnauthorized, fmt.Sprintf(format, args...))
	}
	c := chain[0]
	now := p.now()
	at := now
	switch {
	case now.After(c.NotAfter):
		at = c.NotAfter
	case now.Add(early).Before(c.NotBefore):
		return fail("not_yet", "the certificate begins at %s, here it is %s: set the clocks of both machines", c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		at = c.NotBefore
	}
	if err := p.trusted().verify(chain, usage, at); err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return fail("unknown_authority", "the certificate is not from an authority of this cluster: remove the node and join it again")
		}
		return fail("certificate", "%s", err)
	}
	peer, cluster, err := identity(c)
	switch {
	case err != nil:
		return fail("certificate", "%s", err)
	case cluster != p.node.ClusterID:
		return fail("other_cluster", "the certificate is of cluster %s, this is cluster %s", cluster, p.node.ClusterID)
	case p.isRevoked(peer.NodeID):
		return fail("revoked", "node %s (%s) was removed from the cluster: empty its data directory and join it again with a new token", peer.Name, peer.NodeID)
	case now.Sub(c.NotAfter) > late:
		if late == 0 {
			return fail("expired", "the certificate of %s ended at %s: is its clock right, and does it run?", peer.Name, c.NotAfter.UTC().Format(time.RFC3339))
		}
		return fail("expired", "the certificate of %s ended at %s, more than %d days ago: remove the node, empty its data directory and join it again with a new token",
			peer.Name, c.NotAfter.UTC().Format(time.RFC3339), int(late.Hours()/24))
	}
	peer.Expired = now.After(c.NotAfter)
	return peer, nil
}

// ServerTLS asks for a client certificate and lets everybody in: who it is, and
// whether that is any good, says Identify, which must be asked before anything is
// read. That way a node that was removed can be told so.
func (p *PKI) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.own() },
		SessionTicketsDisabled: true, // who comes back is looked at again
	}
}

// ClientTLS connects to the server or witness nodeID, or to any with "". Names
// and addresses do not matter: the certificate says which node it is.
func (p *PKI) ClientTLS(nodeID string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection does it, with the roots of now
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.own() },
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return fmt.Errorf("%w: the other side has no certificate", model.ErrUnauthorized)
			}
			peer, err := p.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth, 0)
			switch {
			case err != nil:
				return err
			case peer.Role == model.RoleAgent:
				return fmt.Errorf("%w: an agent (%s) answers where a server should", model.ErrUnauthorized, peer.Name)
			case nodeID != "" && peer.NodeID != nodeID:
				return fmt.Errorf("%w: node %s (%s) answers where %s should", model.ErrUnauthorized, peer.NodeID, peer.Name, nodeID)
			}
			return nil
		},
	}
}

func (p *PKI) own() (*tls.Certificate, error) {
	l := p.current()
	if l == nil {
		return nil, errors.New("this node has no certificate yet")
	}
	return &l.chain, nil
}

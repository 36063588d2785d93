package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// identity makes TLS configurations of files. Everything is read again at each
// handshake, so that renewed certificates and new roots count at once.
type identity struct {
	files  TLSFiles
	cn     string
	verify func(tls.ConnectionState) error // may be nil
}

func (id identity) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(id.files.Cert, id.files.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &cert, nil
}

func (id identity) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(id.files.CA)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load CA: no certificate in %s", id.files.CA)
	}
	return pool, nil
}

// check verifies the chain and the common name of the other side. The name of
// the host is not looked at: every server has the same rights, whatever its address.
func (id identity) check(cs tls.ConnectionState, usage x509.ExtKeyUsage) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	roots, err := id.roots()
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return err
	}
	if id.cn != "" && leaf.Subject.CommonName != id.cn {
		return fmt.Errorf("the certificate is of a %q, not of a %q", leaf.Subject.CommonName, id.cn)
	}
	if id.verify != nil {
		return id.verify(cs)
	}
	return nil
}

func (id identity) server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2"},
		ClientAuth:     tls.RequireAnyClientCert, // and VerifyConnection looks at it, with the roots of now
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			return id.check(cs, x509.ExtKeyUsageClientAuth)
		},
		SessionTicketsDisabled: true, // a resumed session would skip the files
	}
}

func (id identity) client(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS12,
		NextProtos:           slices.Clone(protos),
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection does it, with the roots of now
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.certificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			return id.check(cs, x509.ExtKeyUsageServerAuth)
		},
	}
}

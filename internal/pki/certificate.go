package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The subjects of certificates. They are constant, so that the configuration
// store can tell servers from agents.
const (
	commonServer = "panoptes-server" // servers and witnesses
	commonAgent  = "panoptes-agent"
)

// authority is a root with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return k, nil
}

func newAuthority(clusterID string, now time.Time) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := rootTemplate(clusterID, serial, now)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

func rootTemplate(clusterID string, serial *big.Int, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "panoptes " + clusterID + " " + now.UTC().Format("2006-01-02 15:04:05")},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: false, MaxPathLen: 1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

// endorse signs another authority, so that whoever knows only this one believes
// the other.
func (a *authority) endorse(other *authority, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: other.cert.Subject, NotBefore: now.Add(-backdate), NotAfter: a.cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 0, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &other.key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the new authority: %w", err)
	}
	return x509.ParseCertificate(der)
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n, nil
}

// hash names an authority's key in tokens.
func (a *authority) hash() string { return keyName(a.cert) }

var lower32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// keyName is the first 160 bits of the SHA-256 of a certificate's public key.
func keyName(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return strings.ToLower(lower32.EncodeToString(sum[:20]))
}

// keyHash is the SHA-256 of a public key (PKIX) in hex, as in model.Node.
func keyHash(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

func newTrust(roots []*x509.Certificate, cas []*authority, cross []*x509.Certificate) *trust {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	return &trust{roots: roots, pool: pool, cas: cas, cross: cross}
}

func (t *trust) equal(o *trust) bool {
	return bytes.Equal(encodeCerts(t.roots...), encodeCerts(o.roots...)) && bytes.Equal(encodeCerts(t.cross...), encodeCerts(o.cross...)) &&
		slices.EqualFunc(t.cas, o.cas, func(a, b *authority) bool { return a.cert.Equal(b.cert) })
}

// issue signs a certificate for a node.
func (t *trust) issue(clusterID string, n model.Node, pub crypto.PublicKey, hosts []string, now time.Time) ([]*x509.Certificate, error) {
	if len(t.cas) == 0 {
		return nil, errors.New("sign a certificate: this node is no authority")
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	uri, err := url.Parse("panoptes://" + clusterID + "/" + string(n.Role) + "/" + url.PathEscape(n.Region) + "/" + url.PathEscape(n.Name) + "/" + n.ID)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", n.Name, err)
	}
	cn := commonServer
	if n.Role == model.RoleAgent {
		cn = commonAgent
	}
	ca := t.cas[0]
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if n.Role != model.RoleAgent {
		// Agents have no port; nobody connects to one.
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	} else {
		hosts = nil
	}
	for _, h := range cleanHosts(append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)) {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", n.Name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", n.Name, err)
	}
	return append([]*x509.Certificate{cert}, t.cross...), nil
}

// verify looks whether one of the roots vouches for a chain at a time.
func (t *trust) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, at time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:min(len(chain), 8)] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: t.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: at})
	return err
}

// identity reads who a certificate speaks of. It says nothing about whether it
// is genuine.
func identity(c *x509.Certificate) (p model.Peer, clusterID string, err error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "panoptes" {
		return p, "", errors.New("the certificate names no node of Panoptes")
	}
	u := c.URIs[0]
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(parts) != 4 {
		return p, "", fmt.Errorf("the certificate names no node: %s", u.Redacted())
	}
	for i, s := range parts {
		if parts[i], err = url.PathUnescape(s); err != nil {
			return p, "", fmt.Errorf("the certificate names no node: %w", err)
		}
	}
	p = model.Peer{Role: model.NodeRole(parts[0]), Region: parts[1], Name: parts[2], NodeID: parts[3]}
	if err := checkNode(p.Name, p.Region, p.Role); err != nil || p.NodeID == "" {
		return model.Peer{}, "", fmt.Errorf("the certificate names no node: %s", u.Redacted())
	}
	want := commonServer
	if p.Role == model.RoleAgent {
		want = commonAgent
	}
	if c.Subject.CommonName != want {
		return model.Peer{}, "", fmt.Errorf("the certificate of a %s is made out to %q", p.Role, c.Subject.CommonName)
	}
	return p, u.Host, nil
}

var hostRE = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

const maxHosts = 32

// cleanHosts drops what is neither an address nor a host name, and what comes twice.
func cleanHosts(hosts []string) (out []string) {
	for _, h := range hosts {
		h = strings.TrimSuffix(strings.ToLower(h), ".")
		if ip := net.ParseIP(h); ip != nil {
			if ip.IsUnspecified() {
				continue
			}
			h = ip.String()
		} else if len(h) > 253 || !hostRE.MatchString(h) {
			continue
		}
		if !slices.Contains(out, h) && len(out) < maxHosts {
			out = append(out, h)
		}
	}
	return out
}

// covers says whether a certificate holds all hosts.
func covers(c *x509.Certificate, hosts []string) bool {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
				return false
			}
		} else if !slices.Contains(c.DNSNames, h) {
			return false
		}
	}
	return true
}

// makeLeaf checks that a chain is this node's and readies it for use.
func (p *PKI) makeLeaf(chain []*x509.Certificate) (*leaf, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	c := chain[0]
	if !p.key.PublicKey.Equal(c.PublicKey) {
		return nil, errors.New("the certificate is not for the key of this node")
	}
	who, cluster, err := identity(c)
	if err != nil {
		return nil, err
	}
	if who.NodeID != p.node.ID || cluster != p.node.ClusterID {
		return nil, fmt.Errorf("the certificate is for node %s of cluster %s, this is node %s of cluster %s", who.NodeID, cluster, p.node.ID, p.node.ClusterID)
	}
	t := tls.Certificate{PrivateKey: p.key, Leaf: c}
	for _, x := range chain {
		t.Certificate = append(t.Certificate, x.Raw)
	}
	return &leaf{cert: c, chain: t}, nil
}

func (p *PKI) readLeaf() (*leaf, error) {
	chain, err := readCerts(p.path(fileCert))
	if err != nil {
		return nil, err
	}
	return p.makeLeaf(chain)
}

// setLeaf puts a chain on disk and into use.
func (p *PKI) setLeaf(chain []*x509.Certificate) error {
	l, err := p.makeLeaf(chain)
	if err != nil {
		return err
	}
	if err := writeFile(p.path(fileCert), encodeCerts(chain...)); err != nil {
		return err
	}
	p.mu.Lock()
	p.leaf = l
	p.mu.Unlock()
	p.metrics.expiry.Set(float64(l.cert.NotAfter.Unix()))
	return nil
}

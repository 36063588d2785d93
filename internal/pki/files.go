package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"panoptes/internal/model"
)

// The files of an identity.
const (
	fileNode   = "node.json"
	fileKey    = "node.key"
	fileCert   = "node.crt"
	fileRoots  = "roots.pem"
	fileCA     = "ca.crt"
	fileCAKey  = "ca.key"
	fileGossip = "gossip.key"

	maxFile = 1 << 20
)

// nodeFile is node.json.
type nodeFile struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Region    string         `json:"region"`
	Role      model.NodeRole `json:"role"`
	ClusterID string         `json:"cluster_id,omitempty"` // empty until the node has joined
	Joined    bool           `json:"joined,omitempty"`     // others made the cluster; older files do not say so
}

// load reads a complete identity.
func (p *PKI) load() error {
	node, err := readNode(p.path(fileNode))
	if err != nil {
		return err
	}
	if node.ClusterID == "" {
		return fmt.Errorf("open the identity in %s: %w: joining was not finished", p.cfg.Dir, fs.ErrNotExist)
	}
	if node.Name != p.cfg.Name {
		return model.Invalid{{Field: "node", Msg: fmt.Sprintf("is %q, but this data directory belongs to the node %q; set it back, or remove the node and join again with an empty directory", p.cfg.Name, node.Name)}}
	}
	if node.Role != p.cfg.Role {
		return model.Invalid{{Field: "role", Msg: fmt.Sprintf("is %s, but this data directory belongs to a %s; set it back, or remove the node and join again with an empty directory", p.cfg.Role, node.Role)}}
	}
	if node.Region != p.cfg.Region && node.Role != model.RoleServer {
		return model.Invalid{{Field: "region", Msg: fmt.Sprintf("is %q, but the node joined in %q; set it back, or remove the node and join again with an empty directory", p.cfg.Region, node.Region)}}
	}
	moved := node.Region != p.cfg.Region
	node.Region = p.cfg.Region
	p.node = node
	if p.key, err = readKey(p.path(fileKey)); err != nil {
		return p.damaged(fileKey, err)
	}
	if p.trust, err = p.readTrust(); err != nil {
		return err
	}
	if p.leaf, err = p.readLeaf(); err != nil {
		if !p.signs() {
			return p.damaged(fileCert, err)
		}
		p.log.Warn("own certificate cannot be used, making a new one", "err", err)
	}
	if node.Role != model.RoleAgent {
		if p.gossip, err = readPrivate(p.path(fileGossip)); err == nil && len(p.gossip) != 32 {
			err = fmt.Errorf("has %d bytes, must have 32", len(p.gossip))
		}
		if err != nil {
			return p.damaged(fileGossip, err)
		}
	}
	if moved {
		return writeNode(p.path(fileNode), p.node)
	}
	return nil
}

// damaged never wraps fs.ErrNotExist: a node that lost a file is no new node.
func (p *PKI) damaged(name string, err error) error {
	return fmt.Errorf("read %s: %v (put the file back from a backup, or remove this node from the cluster, empty its data directory and join again)", p.path(name), err)
}

func (p *PKI) readTrust() (*trust, error) {
	roots, err := readCerts(p.path(fileRoots))
	if err == nil && len(roots) == 0 {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, p.damaged(fileRoots, err)
	}
	if !p.signs() {
		return newTrust(roots, nil, nil), nil
	}
	keys, err := readKeys(p.path(fileCAKey))
	if err != nil {
		return nil, p.damaged(fileCAKey, err)
	}
	certs, err := readCerts(p.path(fileCA))
	if err != nil {
		return nil, p.damaged(fileCA, err)
	}
	cas, cross := match(certs, keys)
	if len(cas) == 0 {
		return nil, p.damaged(fileCA, errors.New("no certificate fits a key in "+fileCAKey))
	}
	return newTrust(roots, cas, cross), nil
}

// writeTrust writes the keys before the certificates that need them and the
// roots first of all: what is left half done can be read.
func (p *PKI) writeTrust(t *trust) error {
	if err := writeFile(p.path(fileRoots), encodeCerts(t.roots...)); err != nil {
		return err
	}
	if !p.signs() {
		return nil
	}
	keys := make([]*ecdsa.PrivateKey, 0, len(t.cas))
	certs := make([]*x509.Certificate, 0, len(t.cas))
	for _, ca := range t.cas {
		keys, certs = append(keys, ca.key), append(certs, ca.cert)
	}
	if err := writeKeys(p.path(fileCAKey), keys...); err != nil {
		return err
	}
	return writeFile(p.path(fileCA), encodeCerts(append(certs, t.cross...)...))
}

// match pairs authorities with their keys, in the order of the certificates.
// Those that are not their own issuer are ways to an older root.
func match(certs []*x509.Certificate, keys []*ecdsa.PrivateKey) (cas []*authority, cross []*x509.Certificate) {
	for _, c := range certs {
		if c.CheckSignatureFrom(c) != nil {
			cross = append(cross, c)
			continue
		}
		for _, k := range keys {
			if k.PublicKey.Equal(c.PublicKey) {
				cas = append(cas, &authority{cert: c, key: k})
				break
			}
		}
	}
	return cas, cross
}

func readNode(path string) (n nodeFile, err error) {
	b, err := readPrivate(path)
	if err != nil {
		return n, fmt.Errorf("read identity: %w", err)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("read identity %s: %w", path, err)
	}
	if n.ID == "" {
		return n, fmt.Errorf("read identity %s: the id is missing", path)
	}
	return n, nil
}

func writeNode(path string, n nodeFile) error {
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	keys, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// readKeys returns at least one key.
func readKeys(path string) ([]*ecdsa.PrivateKey, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	keys, err := decodeKeys(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return keys, nil
}

func decodeKeys(b []byte) (keys []*ecdsa.PrivateKey, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		k, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("key is a %T, must be ECDSA", key)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

func encodeKeys(keys ...*ecdsa.PrivateKey) ([]byte, error) {
	var out []byte
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	return out, nil
}

func writeKeys(path string, keys ...*ecdsa.PrivateKey) error {
	b, err := encodeKeys(keys...)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, b)
}

func readCerts(path string) ([]*x509.Certificate, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	return decodeCerts(b)
}

func decodeCerts(b []byte) (out []*x509.Certificate, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(out) >= 16 {
			return nil, errors.New("must hold certificates and nothing else, 16 at most")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func encodeCerts(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the identity: %w", err)
	}
	return nil
}

// readPrivate reads a file and takes it from the eyes of others.
func readPrivate(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("read %s: is larger than a file of keys can be", path)
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("close %s to others: %w", path, err)
		}
	}
	return os.ReadFile(path)
}

// writeFile replaces a file; after a power cut there is the old one or the new.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

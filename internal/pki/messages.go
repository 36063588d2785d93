package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"time"

	"panoptes/internal/model"
)

// The methods of the authority.
const (
	methodCA    = "pki.ca"
	methodJoin  = "pki.join"
	methodRenew = "pki.renew"
)

// caRequest asks for the authorities. Anybody may.
type caRequest struct {
	Nonce []byte `json:"nonce"`
}

// caAnswer is believed when one of its roots is the one of the token and has
// signed all of it.
type caAnswer struct {
	ClusterID  string            `json:"cluster_id"`
	Roots      []byte            `json:"roots"` // PEM
	Time       time.Time         `json:"time"`
	Signatures map[string][]byte `json:"signatures"` // by key name of the root
}

// digest is what the signatures are over: each part with its length, so that no
// two answers have the same.
func (a *caAnswer) digest(nonce []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("panoptes: the authorities of a cluster"), nonce, []byte(a.ClusterID), a.Roots, []byte(a.Time.UTC().Format(time.RFC3339Nano))} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

func (a *caAnswer) sign(cas []*authority, nonce []byte) error {
	a.Signatures = map[string][]byte{}
	for _, ca := range cas {
		sig, err := ecdsa.SignASN1(rand.Reader, ca.key, a.digest(nonce))
		if err != nil {
			return err
		}
		a.Signatures[ca.hash()] = sig
	}
	return nil
}

// signedBy says whether the key of root has signed the answer.
func (a *caAnswer) signedBy(root *x509.Certificate, nonce []byte) bool {
	pub, ok := root.PublicKey.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(pub, a.digest(nonce), a.Signatures[keyName(root)])
}

// joinRequest is what a node sends to become one of the cluster.
type joinRequest struct {
	TokenID   string            `json:"token_id"`
	Secret    string            `json:"secret"`
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Region    string            `json:"region"`
	Role      model.NodeRole    `json:"role"`
	Version   string            `json:"version"`
	Time      time.Time         `json:"time"` // by the node's clock
	Hosts     []string          `json:"hosts,omitempty"`
	Addresses model.Addresses   `json:"addresses,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
	Request   []byte            `json:"request"` // certificate request (DER), signed with the node's key
}

// joinAnswer makes it one.
type joinAnswer struct {
	ClusterID string          `json:"cluster_id"`
	Chain     []byte          `json:"chain"` // PEM
	Roots     []byte          `json:"roots"` // PEM
	CAs       []byte          `json:"cas,omitempty"`
	CAKeys    []byte          `json:"ca_keys,omitempty"` // PEM; servers only
	GossipKey []byte          `json:"gossip_key,omitempty"`
	Welcome   json.RawMessage `json:"welcome,omitempty"`
}

// renewRequest asks for a new certificate for the same key.
type renewRequest struct {
	Request []byte   `json:"request"`
	Hosts   []string `json:"hosts,omitempty"`
}

type renewAnswer struct {
	Chain []byte `json:"chain"`
	Roots []byte `json:"roots"`
}

package backup

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"panoptes/internal/model"
)

// A recovery key opens what is secret in backups: the identity of the servers
// and the key of sealed secrets. The server keeps its public half only, so that
// whoever steals the bucket and the server's backups alone can read neither.
const (
	recoveryPrefix = "pnpr1-"
	publicPrefix   = "pnpp1-"
	sealInfo       = "panoptes backup 1"
)

func encoding() *base32.Encoding {
	return base32.StdEncoding.WithPadding(base32.NoPadding)
}

// NewRecoveryKey makes a pair. The private one is shown to a person once and
// kept nowhere; the public one is the server's.
func NewRecoveryKey() (private model.Secret, public string, err error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a recovery key: %w", err)
	}
	return model.Secret(recoveryPrefix + encoding().EncodeToString(k.Bytes())), publicPrefix + encoding().EncodeToString(k.PublicKey().Bytes()), nil
}

// LoadPublicKey returns the public key in a file. When there is none it makes a
// pair and returns the private one as well: show it, and once it is sure that
// somebody can see it keep the public one with SavePublicKey. Kept earlier, a
// process that is killed would leave a key behind that nobody has.
func LoadPublicKey(path string) (public string, shown model.Secret, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		public = strings.TrimSpace(string(data))
		_, err = parsePublic(public)
		return public, "", err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	shown, public, err = NewRecoveryKey()
	return public, shown, err
}

// SavePublicKey keeps a public key for the backups that follow.
func SavePublicKey(path, public string) error {
	return writeFile(path, publicFile(public), 0o600)
}

// publicFile is what the file of a public key holds.
func publicFile(public string) []byte { return []byte(public + "\n") }

func parsePublic(s string) (*ecdh.PublicKey, error) {
	rest, ok := strings.CutPrefix(s, publicPrefix)
	raw, err := encoding().DecodeString(rest)
	if ok && err == nil {
		if k, err := ecdh.X25519().NewPublicKey(raw); err == nil {
			return k, nil
		}
	}
	return nil, model.Invalid{{Field: "public_key", Msg: "is no public key of a recovery key"}}
}

func parseRecovery(s model.Secret) (*ecdh.PrivateKey, error) {
	rest, ok := strings.CutPrefix(strings.ToUpper(strings.TrimSpace(s.Reveal())), strings.ToUpper(recoveryPrefix))
	raw, err := encoding().DecodeString(rest)
	if ok && err == nil {
		if k, err := ecdh.X25519().NewPrivateKey(raw); err == nil {
			return k, nil
		}
	}
	return nil, model.Invalid{{Field: "recovery_key", Msg: "is no recovery key; it begins with " + recoveryPrefix + " and was printed by the first backup"}}
}

// keyID names a public key without showing it.
func keyID(public *ecdh.PublicKey) string {
	sum := sha256.Sum256(public.Bytes())
	return hex.EncodeToString(sum[:6])
}

// seal encrypts for the owner of the recovery key. path is part of what is
// authenticated, so that files cannot be exchanged.
func seal(public *ecdh.PublicKey, path string, plain []byte) ([]byte, error) {
	k, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return nil, err
	}
	return hpke.Seal(k, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo+" "+path), plain)
}

func unseal(private *ecdh.PrivateKey, path string, sealed []byte) ([]byte, error) {
	k, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return nil, err
	}
	plain, err := hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo+" "+path), sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s with the recovery key: %w", path, err)
	}
	return plain, nil
}

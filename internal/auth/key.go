package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

const keyPrefix = "pnk_"

// apiKey is a record key as Authenticate needs it.
type apiKey struct {
	id      string
	key     model.Key
	expires time.Time // zero never
	bound   labels.Labels
}

var keyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKey makes an API key "pnk_<id>_<secret>": the key itself, to be shown
// once, the prefix to recognise it by, and the hash to be kept.
func (a *Auth) NewKey() (key, prefix, hash string) {
	id, secret := make([]byte, 5), make([]byte, 20)
	rand.Read(id)
	rand.Read(secret)
	prefix = keyPrefix + keyEncoding.EncodeToString(id)
	key = prefix + "_" + keyEncoding.EncodeToString(secret)
	return key, prefix, hashToken(key)
}

func isKey(s string) bool { return strings.HasPrefix(s, keyPrefix) }

// bearer takes the token out of a header "Bearer TOKEN".
func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// key finds the key that was sent by its hash.
func (a *Auth) key(sent string) (*model.Identity, error) {
	k, ok := a.keyIndex()[hashToken(sent)]
	switch {
	case !ok || sent == "":
		return nil, fmt.Errorf("%w: there is no such key", model.ErrUnauthorized)
	case !k.expires.IsZero() && !time.Now().Before(k.expires):
		return nil, fmt.Errorf("%w: the key %s has expired", model.ErrUnauthorized, k.key.Name)
	}
	return &model.Identity{KeyID: k.id, Name: k.key.Name, Role: k.key.Role, Bound: k.bound}, nil
}

// keyIndex returns the keys by hash, built anew after a change of the catalog.
// The map must not be changed.
func (a *Auth) keyIndex() map[string]apiKey {
	a.keyMu.Lock()
	defer a.keyMu.Unlock()
	gen := a.cat.Generation()
	if gen == a.keyGen {
		return a.keys
	}
	keys := map[string]apiKey{}
	for _, rec := range a.cat.List(model.KindKey) {
		k := apiKey{id: rec.ID}
		if err := json.Unmarshal(rec.Spec, &k.key); err != nil || k.key.Hash == "" {
			continue
		}
		if k.key.Expires != "" {
			t, err := time.Parse(time.RFC3339, k.key.Expires)
			if err != nil {
				continue // in doubt a key does not open
			}
			k.expires = t
		}
		var err error
		if k.bound, err = model.Bound(k.key.Matchers); err != nil {
			continue
		}
		keys[string(k.key.Hash)] = k
	}
	a.keys, a.keyGen = keys, gen
	return keys
}

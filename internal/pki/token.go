package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"panoptes/internal/model"
)

// MaxUses bounds how often a token may be used.
const MaxUses = 10_000

// token is what stands in a join token: "pnp1.<hash>.<id>.<secret>".
type token struct {
	ca     string // name of the authority's key
	id     string
	secret string // 128 bits
}

var tokenRE = regexp.MustCompile(`^pnp1\.([a-z2-7]{32})\.([a-z2-7]{8})\.([a-z2-7]{26})$`)

// parseToken reads a token as people paste it.
func parseToken(s string) (token, error) {
	m := tokenRE.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return token{}, model.Invalid{{Field: "token", Msg: "is not a join token; it looks like pnp1.….….… and comes from 'panoptes token create' on a server: copy all of it"}}
	}
	return token{m[1], m[2], m[3]}, nil
}

// NewToken makes a token that lets nodes join. Of want count Role, Region (with
// one it holds for that one only), Checks, Expires and Uses. The record goes into
// the catalog; plain is shown once.
func (p *PKI) NewToken(want model.Token, now time.Time) (plain string, rec model.Token, err error) {
	var inv model.Invalid
	switch want.Role {
	case model.RoleServer, model.RoleWitness, model.RoleAgent:
	default:
		inv.Add("role", "must be server, witness or agent")
	}
	if want.Region != "" && model.CheckName(want.Region) != nil {
		inv.Add("region", "must be the name of a region, or empty for any")
	}
	inv.AddErr("", want.ValidateChecks())
	if !want.Expires.After(now) {
		inv.Add("ttl", "must be longer than nothing")
	}
	if want.Uses < 1 || want.Uses > MaxUses {
		inv.Add("uses", "must lie between 1 and %d", MaxUses)
	}
	if err := inv.Err(); err != nil {
		return "", model.Token{}, err
	}
	t := p.trusted()
	if len(t.cas) == 0 {
		return "", model.Token{}, errors.New("make a token: this node is no authority; ask a server")
	}
	id, secret := random(5), random(16)
	rec = model.Token{Name: id, Role: want.Role, Region: want.Region, Checks: want.Checks, Expires: want.Expires.UTC().Truncate(time.Second), Uses: want.Uses, Hash: hashSecret(secret)}
	return fmt.Sprintf("pnp1.%s.%s.%s", t.cas[0].hash(), id, secret), rec, nil
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // ends the process rather than fail
	return strings.ToLower(lower32.EncodeToString(b))
}

// hashSecret needs no salt and no slowness: the secret is 128 random bits.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func sameSecret(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(hashSecret(secret)), []byte(hash)) == 1
}

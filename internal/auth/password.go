package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"panoptes/internal/model"
)

// The cost of a password: Argon2id over 19 MiB, two passes, one lane – about
// 50 ms on a small server.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKeyLen  = 32
	saltLen      = 16
)

// The bounds of a password in bytes.
const (
	minPassword = 8
	maxPassword = 1024
)

// CheckPassword says whether a password may be set.
func CheckPassword(password string) error {
	switch {
	case len(password) < minPassword:
		return &model.FieldError{Field: "password", Msg: fmt.Sprintf("must have at least %d characters", minPassword)}
	case len(password) > maxPassword:
		return &model.FieldError{Field: "password", Msg: fmt.Sprintf("is longer than %d bytes", maxPassword)}
	}
	return nil
}

// HashPassword returns the PHC string of a password, with a new salt.
func HashPassword(password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKeyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// VerifyPassword reports whether password belongs to a PHC string. It takes as
// long for a wrong one as for the right one.
func VerifyPassword(phc, password string) bool {
	p, err := parsePHC(phc)
	if err != nil || len(password) > maxPassword {
		return false
	}
	got := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(got, p.key) == 1
}

type phc struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// parsePHC reads a PHC string within bounds: a stored hash may come from an
// import and must not make logging in expensive.
func parsePHC(s string) (phc, error) {
	var p phc
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, errors.New("must be a PHC string of Argon2id")
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return p, errors.New("must be Argon2 version 19")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return p, errors.New("must name its cost as m=…,t=…,p=…")
	}
	if p.memory < 8 || p.memory > 256*1024 || p.time < 1 || p.time > 10 || p.threads < 1 || p.threads > 16 {
		return p, errors.New("the cost is out of bounds: m up to 262144, t up to 10, p up to 16")
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return p, errors.New("the salt must be 8 to 64 bytes in base64")
	}
	if p.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.key) < 16 || len(p.key) > 64 {
		return p, errors.New("the hash must be 16 to 64 bytes in base64")
	}
	return p, nil
}

// nobody is verified against when there is no such user, so that the answer
// takes as long as for a real one.
const nobody = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// verify is VerifyPassword with a bound on how many run at once.
func (a *Auth) verify(ctx context.Context, phc, password string) (bool, error) {
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
		return VerifyPassword(phc, password), nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"sync"
	"time"

	"panoptes/internal/model"
)

// basicCache remembers for a few minutes that a password was right, so that a
// program with basic authentication does not pay for Argon2 on every request.
// It holds keyed hashes only.
type basicCache struct {
	secret [32]byte
	mu     sync.Mutex
	until  map[[32]byte]time.Time // guarded by mu
}

const (
	basicTTL  = 5 * time.Minute
	basicSize = 1000
)

func newBasicCache() *basicCache {
	c := &basicCache{until: map[[32]byte]time.Time{}}
	rand.Read(c.secret[:])
	return c
}

// sum names one password of one user in one epoch.
func (c *basicCache) sum(userID string, epoch int64, hash model.Secret, password string) [32]byte {
	m := hmac.New(sha256.New, c.secret[:])
	for _, s := range []string{userID, strconv.FormatInt(epoch, 10), hash.Reveal(), password} {
		m.Write([]byte(strconv.Itoa(len(s))))
		m.Write([]byte{0})
		m.Write([]byte(s))
	}
	return [32]byte(m.Sum(nil))
}

func (c *basicCache) has(sum [32]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.until[sum])
}

func (c *basicCache) add(sum [32]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.until) >= basicSize {
		clear(c.until)
	}
	c.until[sum] = now.Add(basicTTL)
}

// basicAuth checks a user's name and password. A user with a one-time code
// cannot come in this way: it would pass the second factor by.
func (a *Auth) basicAuth(ctx context.Context, name, password, address string) (*model.Identity, error) {
	rec, u, err := a.user(name)
	if err == nil && !u.Disabled && u.TOTPSecret == "" {
		if a.basic.has(a.basic.sum(rec.ID, u.Epoch, u.PasswordHash, password), time.Now()) {
			id := identity(rec, u)
			return &id, nil
		}
	}
	rec, u, err = a.checkPassword(ctx, model.Credentials{Name: name, Password: password, Address: address})
	if err != nil {
		return nil, err
	}
	if u.TOTPSecret != "" {
		return nil, otpError("this user has a one-time code; use an API key instead of the password")
	}
	a.basic.add(a.basic.sum(rec.ID, u.Epoch, u.PasswordHash, password), time.Now())
	id := identity(rec, u)
	return &id, nil
}

package auth

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/model"
)

// Session is a login that lasts. It holds the hash of the token only.
type Session struct {
	Hash    string    `json:"hash"`    // SHA-256 of the token, hex
	UserID  string    `json:"user_id"` // id of the record user
	Epoch   int64     `json:"epoch"`   // of the user at login; the session ends when the user's is another
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"` // last use; written down at most once an hour
	Address string    `json:"address,omitempty"`
	Agent   string    `json:"agent,omitempty"`

	written time.Time // the Seen that the store knows
}

const (
	sessionsPerUser = 50
	tokenLen        = 32
	hashLen         = 64 // of a hash in hex
	seenEvery       = time.Hour
)

func (a *Auth) loadSessions() error {
	list, ended, err := a.store.Load()
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	for _, s := range list {
		s.written = s.Seen
		a.sessions[s.Hash] = &s
	}
	a.ended = ended
	a.expireSessions(time.Now())
	return nil
}

func (a *Auth) over(s *Session, now time.Time) bool {
	return now.Sub(s.Seen) >= a.cfg.SessionIdle || now.Sub(s.Created) >= a.cfg.SessionMax
}

// begin makes a session for a user and returns its token.
func (a *Auth) begin(rec model.Record, u model.User, c model.Credentials) (model.Login, error) {
	raw := make([]byte, tokenLen)
	rand.Read(raw)
	token := base64.RawURLEncoding.EncodeToString(raw)
	now := time.Now().UTC()
	s := &Session{Hash: hashToken(token), UserID: rec.ID, Epoch: u.Epoch, Created: now, Seen: now, written: now, Address: c.Address, Agent: clip(c.Agent, 200)}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.store.Put(*s); err != nil {
		return model.Login{}, fmt.Errorf("keep session: %w", err)
	}
	a.sessions[s.Hash] = s
	a.tellLocked(shared{Sessions: []Session{*s}})
	a.dropOldestLocked(rec.ID)
	id := identity(rec, u)
	id.SessionID = s.Hash
	return model.Login{Token: token, Expires: now.Add(a.cfg.SessionMax), Identity: id}, nil
}

// dropOldestLocked keeps a user from filling the memory by logging in.
func (a *Auth) dropOldestLocked(userID string) {
	var own []*Session
	for _, s := range a.sessions {
		if s.UserID == userID {
			own = append(own, s)
		}
	}
	if len(own) <= sessionsPerUser {
		return
	}
	slices.SortFunc(own, func(x, y *Session) int { return x.Seen.Compare(y.Seen) })
	for _, s := range own[:len(own)-sessionsPerUser] {
		a.endLocked(s.Hash)
	}
}

// endLocked ends a session here and on all servers. When the store cannot note
// it, the session is over for this process at least and logged.
func (a *Auth) endLocked(hash string) {
	ended := map[string]time.Time{hash: time.Now().UTC()}
	a.noteEndLocked(ended)
	a.tellLocked(shared{Ended: ended})
}

// noteEndLocked ends sessions on this server.
func (a *Auth) noteEndLocked(ended map[string]time.Time) {
	for hash, at := range ended {
		a.ended[hash] = at
		delete(a.sessions, hash)
	}
	if err := a.store.End(ended); err != nil {
		a.log.Error("end of sessions not stored", "sessions", len(ended), "err", err)
	}
}

// forgetLocked forgets all about sessions that are over everywhere.
func (a *Auth) forgetLocked(hashes ...string) {
	for _, hash := range hashes {
		delete(a.sessions, hash)
		delete(a.ended, hash)
	}
	if err := a.store.Delete(hashes...); err != nil {
		a.log.Error("end of sessions not stored", "sessions", len(hashes), "err", err)
	}
}

// session returns whose session a token opens, nil when there is none.
func (a *Auth) session(token string) *model.Identity {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenLen) {
		return nil
	}
	hash, now := hashToken(token), time.Now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[hash]
	if s == nil {
		return nil
	}
	rec, u, err := a.user(s.UserID)
	switch {
	case err == nil && u.Epoch < s.Epoch, err != nil && now.Sub(s.Created) < time.Minute:
		return nil // begun on another server after a change that has not arrived here
	case a.over(s, now):
		a.forgetLocked(hash) // so it is everywhere
		return nil
	case err != nil || rec.ID != s.UserID || u.Disabled || u.Epoch != s.Epoch:
		a.endLocked(hash)
		return nil
	}
	s.Seen = now
	if now.Sub(s.written) >= seenEvery {
		if err := a.store.Put(*s); err != nil {
			a.log.Warn("use of a session not stored", "err", err)
		}
		s.written = now
	}
	id := identity(rec, u)
	id.SessionID = hash
	return &id
}

func (a *Auth) expireSessions(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var old []string
	for hash, s := range a.sessions {
		if a.over(s, now) {
			old = append(old, hash)
		}
	}
	for hash, at := range a.ended {
		if now.Sub(at) >= a.cfg.SessionMax {
			old = append(old, hash)
		}
	}
	a.forgetLocked(old...)
}

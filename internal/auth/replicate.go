package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Sessions are shared by all servers, so that a browser that is sent to another
// one stays logged in: each change is broadcast, and servers that meet exchange
// everything. The end of a session wins over anything said about it.

// maxSharedSessions bounds what another server may make us keep.
const maxSharedSessions = 200_000

// shared is what servers tell each other about sessions.
type shared struct {
	Sessions []Session            `json:"sessions,omitempty"`
	Ended    map[string]time.Time `json:"ended,omitempty"` // by hash: when it was ended
}

// State returns all sessions for another server, which passes it to Merge.
func (a *Auth) State() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := shared{Ended: maps.Clone(a.ended)}
	for _, v := range a.sessions {
		s.Sessions = append(s.Sessions, *v)
	}
	return json.Marshal(s)
}

// Merge takes what another server knows or has changed.
func (a *Auth) Merge(b []byte) error {
	var s shared
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read sessions of another server: %w", err)
	}
	now := time.Now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	for hash, at := range s.Ended {
		if _, known := a.ended[hash]; known || len(hash) != hashLen || len(a.ended) >= maxSharedSessions || now.Sub(at) >= a.cfg.SessionMax {
			continue
		}
		a.ended[hash] = at
		if a.sessions[hash] != nil {
			a.forgetLocked(hash)
		}
	}
	for _, v := range s.Sessions {
		if _, over := a.ended[v.Hash]; over || len(v.Hash) != hashLen || v.UserID == "" || a.over(&v, now) {
			continue
		}
		held := a.sessions[v.Hash]
		if held != nil {
			if v.Seen.After(held.Seen) && !v.Seen.After(now) {
				held.Seen = v.Seen
			}
			continue
		}
		if len(a.sessions) >= maxSharedSessions {
			break
		}
		v.written = v.Seen
		if err := a.store.Put(v); err != nil {
			a.log.Warn("session of another server not stored", "err", err)
		}
		a.sessions[v.Hash] = &v
	}
	return nil
}

// tellLocked tells the other servers of a change.
func (a *Auth) tellLocked(s shared) {
	if a.broadcast == nil {
		return
	}
	b, err := json.Marshal(s)
	if err != nil {
		a.log.Error("session not told to the other servers", "err", err)
		return
	}
	a.broadcast(b)
}

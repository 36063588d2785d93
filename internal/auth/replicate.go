package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Sessions are shared by all servers, so that a browser that is sent to another
// one stays logged in: each change is broadcast, and servers that meet tell each
// other everything. The end of a session wins over anything said about it.
//
// Whoever brings a session to Merge says who is logged in. It must be another
// server that has proved who it is, and never gossip, whose key also those have
// who are no servers, or not any more.

// maxSharedSessions bounds what another server may make us keep.
const maxSharedSessions = 200_000

// perMessage is how many sessions one message holds, about 1 MB of them.
const perMessage = 2000

// shared is what servers tell each other about sessions.
type shared struct {
	Sessions []Session            `json:"sessions,omitempty"`
	Ended    map[string]time.Time `json:"ended,omitempty"` // by hash: when it was ended
}

// State returns all sessions for another server, which passes each message to
// Merge. There may be none.
func (a *Auth) State() (messages [][]byte, err error) {
	a.mu.Lock()
	sessions := make([]Session, 0, len(a.sessions))
	for _, v := range a.sessions {
		sessions = append(sessions, *v)
	}
	ended := maps.Clone(a.ended)
	a.mu.Unlock()
	var parts []shared
	for hashes := range slices.Chunk(slices.Collect(maps.Keys(ended)), perMessage) {
		part := shared{Ended: map[string]time.Time{}}
		for _, hash := range hashes {
			part.Ended[hash] = ended[hash]
		}
		parts = append(parts, part)
	}
	for list := range slices.Chunk(sessions, perMessage) {
		parts = append(parts, shared{Sessions: list})
	}
	for _, part := range parts {
		b, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		messages = append(messages, b)
	}
	return messages, nil
}

// Merge takes what another server knows or has changed; what is new is safe when
// it returns, or logged.
func (a *Auth) Merge(b []byte) error {
	var s shared
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read sessions of another server: %w", err)
	}
	now := time.Now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	ended := map[string]time.Time{}
	for hash, at := range s.Ended {
		if _, known := a.ended[hash]; known || len(hash) != hashLen || len(a.ended)+len(ended) >= maxSharedSessions || now.Sub(at) >= a.cfg.SessionMax {
			continue
		}
		ended[hash] = at
	}
	a.noteEndLocked(ended)
	var begun []Session
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
		begun = append(begun, v)
		a.sessions[v.Hash] = &v
	}
	if err := a.store.Put(begun...); err != nil {
		a.log.Warn("sessions of another server not stored", "sessions", len(begun), "err", err)
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

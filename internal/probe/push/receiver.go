package push

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// The states that a ping reports.
const (
	StatusUp    = "up"
	StatusDown  = "down"
	StatusStart = "start"
)

// Receiver takes pings in and remembers the last of each token. It knows the
// tokens of the current checks only.
type Receiver struct {
	notify func(checkID string, h probe.Heartbeat)

	mu   sync.RWMutex // guards byID and byK
	byID map[string]key
	byK  map[key]*heartbeat
}

// key is the hash of a token: looking it up takes the same time whether the
// token is nearly right or not.
type key [sha256.Size]byte

type heartbeat struct {
	check string
	last  probe.Heartbeat
	heard time.Time // when last came, by the clock here
	any   bool
}

// closeBy is the difference up to which two pings are ordered by the clocks of
// those who accepted them: what came through another server took some time.
const closeBy = 5 * time.Second

// NewReceiver makes a receiver without tokens.
func NewReceiver() *Receiver {
	return &Receiver{byID: map[string]key{}, byK: map[key]*heartbeat{}}
}

// OnPing sets a function that is called with each ping that was accepted here,
// to hand it to other servers. It must not block. Call it before the first Ping.
func (r *Receiver) OnPing(f func(checkID string, h probe.Heartbeat)) { r.notify = f }

// Update replaces the list of checks; pings of those that stay are kept.
func (r *Receiver) Update(checks []model.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byID, byK := map[string]key{}, map[key]*heartbeat{}
	for i := range checks {
		t := TokenOf(&checks[i])
		if t == "" {
			continue
		}
		k := key(sha256.Sum256([]byte(t)))
		h := &heartbeat{check: checks[i].ID}
		if old, ok := r.byID[h.check]; ok {
			if o := r.byK[old]; o.check == h.check {
				h.last, h.heard, h.any = o.last, o.heard, o.any
			}
		}
		byID[h.check], byK[k] = k, h
	}
	r.byID, r.byK = byID, byK
}

// Ping takes a ping of a token. Status is up, down, start, an exit code, or
// empty for up. An unknown token gives model.ErrNotFound at the same cost as
// a known one.
func (r *Receiver) Ping(token, status, msg string) error {
	if len(token) > 64 {
		token = token[:65]
	}
	k := key(sha256.Sum256([]byte(token)))
	s, ok := statusOf(status)
	r.mu.Lock()
	h := r.byK[k]
	if h == nil {
		r.mu.Unlock()
		return fmt.Errorf("heartbeat: %w", model.ErrNotFound)
	}
	if !ok {
		r.mu.Unlock()
		return model.Invalid{{Field: "status", Msg: "must be up, down, start or an exit code from 0 to 255"}}
	}
	p := probe.Heartbeat{At: time.Now().Round(0), Status: s, Message: probe.Line(msg)}
	p = h.join(p, p.At)
	id := h.check
	r.mu.Unlock()
	p.Age = 1 // it has just come
	if r.notify != nil {
		r.notify(id, p)
	}
	return nil
}

// join makes p the last ping and ties it to the start before it.
func (h *heartbeat) join(p probe.Heartbeat, heard time.Time) probe.Heartbeat {
	switch {
	case p.Status == StatusStart:
		p.Started = p.At
	case h.any && h.last.Status == StatusStart && p.Started.IsZero():
		p.Duration = max(heard.Sub(h.heard), 0)
		p.Started = p.At.Add(-p.Duration)
	}
	p.Age, p.Heard = 0, time.Time{}
	h.last, h.heard, h.any = p, heard, true
	return p
}

// Observe takes over a ping that another server accepted. Older ones than the
// last change nothing. Their order is that in which they came, and their age
// what the sender says: its clock may be wrong.
func (r *Receiver) Observe(checkID string, p probe.Heartbeat) {
	r.Restore(checkID, Heard(p, time.Now()))
}

// Heard notes by the clock here when a ping came that another server tells of
// now. One of an older version does not say how old it is: its clock is believed.
func Heard(p probe.Heartbeat, now time.Time) probe.Heartbeat {
	p.Heard = p.At
	if p.Age > 0 {
		p.Heard = now.Add(1 - p.Age)
	}
	if p.Heard.After(now) {
		p.Heard = now
	}
	p.Heard = p.Heard.Round(0)
	return p
}

// Newer reports whether a came after b; both were Heard.
func Newer(a, b probe.Heartbeat) bool {
	if gap := a.Heard.Sub(b.Heard); gap.Abs() > closeBy {
		return gap > 0
	}
	return a.At.After(b.At)
}

// Restore takes over a ping that was Heard, or that is known from before a
// restart.
func (r *Receiver) Restore(checkID string, p probe.Heartbeat) {
	if p.Heard.IsZero() {
		p.Heard = p.At
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.byID[checkID]
	if !ok {
		return
	}
	h := r.byK[k]
	held := h.last
	held.Heard = h.heard
	switch {
	case h.any && held.At.Equal(p.At) && held.Status == p.Status:
		// The same one on another way, which may have been shorter.
		if p.Heard.Before(h.heard) {
			h.heard = p.Heard
		}
	case !h.any || Newer(p, held):
		h.join(p, p.Heard)
	}
}

// Snapshot returns the last ping by check id, for Observe of another server and
// for Restore after a restart.
func (r *Receiver) Snapshot() map[string]probe.Heartbeat {
	now := time.Now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := map[string]probe.Heartbeat{}
	for k := range maps.Values(r.byID) {
		if h := r.byK[k]; h.any {
			p := h.last
			p.Heard, p.Age = h.heard, max(now.Sub(h.heard), 0)+1
			out[h.check] = p
		}
	}
	return out
}

// Last implements probe.Heartbeats: its times are by the clock here.
func (r *Receiver) Last(token string) (probe.Heartbeat, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h := r.byK[key(sha256.Sum256([]byte(token)))]
	if h == nil || !h.any {
		return probe.Heartbeat{}, false
	}
	p := h.last
	if !p.Started.IsZero() {
		p.Started = p.Started.Add(h.heard.Sub(p.At))
	}
	p.At = h.heard
	return p, true
}

// SplitPath reads what follows "/ping/": "<token>", "<token>/start",
// "<token>/fail", "<token>/<exit code>".
func SplitPath(path string) (token, status string, ok bool) {
	token, status, more := strings.Cut(strings.TrimSuffix(path, "/"), "/")
	if !validToken(token) {
		return "", "", false
	}
	if !more {
		return token, "", true
	}
	if _, ok := statusOf(status); !ok || status == "" {
		return "", "", false
	}
	return token, status, true
}

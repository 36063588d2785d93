package hosts

import (
	"maps"
	"slices"
	"time"

	"panoptes/internal/wire/uplink"
)

// Session is an agent that talks to a server.
type Session struct {
	NodeID string            `json:"node"`
	Server string            `json:"server"`
	Since  time.Time         `json:"since"`
	Labels map[string]string `json:"labels,omitempty"` // of its own file
	Checks bool              `json:"checks"`           // it runs checks: it offers to, and the servers allow it
	Hello  uplink.Hello      `json:"hello"`
}

// holder is the server that an agent talks to, as far as is known.
func (h *Hosts) holder(node string) (entry, bool) {
	alive := h.deps.Alive()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holderLocked(node, alive)
}

func (h *Hosts) holderLocked(node string, alive []string) (entry, bool) {
	var best entry
	found := false
	for server, e := range h.entries[node] {
		if !e.Open || server != h.cfg.NodeID && !slices.Contains(alive, server) || server == h.cfg.NodeID && h.sessions[node] == nil {
			continue
		}
		if !found || e.Since.After(best.Since) {
			best, found = e, true
		}
	}
	return best, found
}

// Sessions lists all agents that talk to a live server, sorted by node.
func (h *Hosts) Sessions() []Session {
	alive := h.deps.Alive()
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Session
	for _, node := range slices.Sorted(maps.Keys(h.entries)) {
		e, ok := h.holderLocked(node, alive)
		if !ok || e.Hello == nil {
			continue
		}
		runs, _ := h.runsChecks(node, e.Hello)
		out = append(out, Session{NodeID: node, Server: e.Server, Since: e.Since, Labels: e.Labels, Checks: runs, Hello: *e.Hello})
	}
	return out
}

// Hello is what an agent said of itself last.
func (h *Hosts) Hello(node string) (uplink.Hello, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[node]; s != nil {
		return s.hello, true
	}
	if st := h.states[node]; st != nil && st.Hello != nil {
		return *st.Hello, true
	}
	return uplink.Hello{}, false
}

// Connected lists the agents that talk to this server, by node id.
func (h *Hosts) Connected() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.sessions))
}

// Checkers lists the agents that run checks, or did when they were last heard
// of, in any order: a region whose agents are gone is still one that should vote.
func (h *Hosts) Checkers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for id, st := range h.states {
		if runs, _ := h.runsChecks(id, st.Hello); runs {
			out = append(out, id)
		}
	}
	return out
}

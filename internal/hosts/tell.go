package hosts

import (
	"encoding/json"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// settings are those of this agent now.
func (s *session) settings() uplink.Settings {
	h := s.h
	n := s.node()
	out := h.settingsOf(n)
	out.MaxAge = model.Duration(h.cfg.MaxAge)
	out.Update = s.updateOf(n)
	if h.deps.Servers != nil {
		out.Servers = h.deps.Servers()
	}
	if h.deps.Scrapes != nil {
		out.Scrapes = h.deps.Scrapes(n.ID)
	}
	h.mu.Lock()
	out.Live = time.Now().Before(h.lives[n.ID])
	h.mu.Unlock()
	return out
}

// node is the record, or what the certificate says when it has not arrived yet.
func (s *session) node() model.Node {
	n, ok := s.h.deps.Node(s.peer.NodeID)
	if !ok {
		n = model.Node{ID: s.peer.NodeID, Name: s.peer.Name, Region: s.peer.Region, Role: model.RoleAgent}
	}
	return withOwnLabels(n, s.hello.Labels)
}

// withOwnLabels adds what the agent's file says; the record wins.
func withOwnLabels(n model.Node, own map[string]string) model.Node {
	if len(own) == 0 {
		return n
	}
	l := make(map[string]string, len(own)+len(n.Labels))
	for k, v := range own {
		l[k] = v
	}
	for k, v := range n.Labels {
		l[k] = v
	}
	n.Labels = l
	return n
}

// remember keeps what was sent, and reports what of it changed.
func (s *session) remember(v uplink.Settings) (changed, relabel bool) {
	b, err := json.Marshal(v)
	if err != nil || string(b) == string(s.sent) {
		return false, false
	}
	old := s.labels.Load()
	relabel = old != nil && !sameMap(*old, v.Labels)
	s.labels.Store(&v.Labels)
	s.sent = b
	return true, relabel
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

const checksPerMessage = 200

// tell sends what changed of settings and checks.
func (s *session) tell() error {
	v := s.settings()
	changed, relabel := s.remember(v)
	if changed {
		b, err := uplink.Encode(uplink.KindSetting, v)
		if err != nil {
			return err
		}
		if err := s.stream.Send(b); err != nil {
			return err
		}
	}
	renamed, again := s.renamed(), s.again.Swap(false)
	if relabel || renamed || again {
		if err := s.stream.Send([]byte{byte(uplink.KindRestart)}); err != nil {
			return err
		}
	}
	return s.tellWork()
}

// renamed takes over another name of the record.
func (s *session) renamed() bool {
	n := s.node()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Name == s.name {
		return false
	}
	s.name = n.Name
	return true
}

func (s *session) called() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

func (s *session) tellChecks(checks []model.Check) error {
	if checks == nil && !s.told {
		return nil // it goes on with those that another server gave it
	}
	now := make(map[string]int64, len(checks))
	c := uplink.Checks{Reset: !s.told}
	send := func(more bool) error {
		c.More = more
		b, err := uplink.Encode(uplink.KindChecks, c)
		if err != nil {
			return err
		}
		c = uplink.Checks{}
		return s.stream.Send(b)
	}
	for id := range s.revision {
		now[id] = -1
	}
	for _, k := range checks {
		if rev, ok := s.revision[k.ID]; !ok || rev != k.Revision {
			c.Put = append(c.Put, uplink.Of(k))
		}
		now[k.ID] = k.Revision
		if len(c.Put) == checksPerMessage {
			if err := send(true); err != nil {
				return err
			}
		}
	}
	for id, rev := range now {
		if rev == -1 {
			c.Remove = append(c.Remove, id)
			delete(now, id)
		}
	}
	changed := !s.told || len(now) != len(s.revision) || len(c.Put)+len(c.Remove) > 0
	s.revision, s.told = now, true
	if !changed {
		return nil
	}
	return send(false)
}

// Settings are those of an agent now, of its groups.
func (h *Hosts) Settings(nodeID string) (uplink.Settings, error) {
	n, ok := h.deps.Node(nodeID)
	if !ok {
		return uplink.Settings{}, fmt.Errorf("host %s: %w", nodeID, model.ErrNotFound)
	}
	h.mu.Lock()
	if st := h.states[nodeID]; st != nil && st.Hello != nil {
		n = withOwnLabels(n, st.Hello.Labels)
	}
	h.mu.Unlock()
	return h.settingsOf(n), nil
}

package hosts

import (
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// AgentProgram is what is known of the program of an agent.
type AgentProgram struct {
	Node    model.Node
	Version string
	Online  bool
	Status  model.HostStatus
	Since   time.Time           // of the status
	Update  *uplink.UpdateState // nil: it does not renew itself
}

// Programs lists the programs of all agents that ever sent, those that renew
// themselves and the others, in no order.
func (h *Hosts) Programs() []AgentProgram {
	nodes := h.deps.Nodes()
	alive := h.deps.Alive()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]AgentProgram, 0, len(nodes))
	for _, n := range nodes {
		if p, ok := h.programLocked(n, alive); ok {
			out = append(out, p)
		}
	}
	return out
}

// Program is the program of one agent, false when it never sent.
func (h *Hosts) Program(nodeID string) (AgentProgram, bool) {
	n, ok := h.deps.Node(nodeID)
	if !ok {
		return AgentProgram{}, false
	}
	alive := h.deps.Alive()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.programLocked(n, alive)
}

func (h *Hosts) programLocked(n model.Node, alive []string) (AgentProgram, bool) {
	st := h.states[n.ID]
	e, open := h.holderLocked(n.ID, alive)
	hello := e.Hello
	if !open || hello == nil {
		if st == nil || st.Hello == nil {
			return AgentProgram{}, false
		}
		hello = st.Hello
	}
	p := AgentProgram{Node: n, Version: hello.Version, Online: open, Update: hello.Update}
	if st != nil {
		p.Status, p.Since = st.Status, st.Since
	}
	return p, true
}

// programSays takes what an agent says of its update.
func (s *session) programSays(content []byte) error {
	u, err := uplink.Decode[uplink.UpdateState](content, uplink.MaxHello)
	if err != nil {
		return err
	}
	if err := u.Validate(); err != nil {
		return err
	}
	if !s.events.Allow() {
		return nil // it may say so again
	}
	h := s.h
	hello := s.hello
	hello.Update = &u
	h.mu.Lock()
	if h.sessions[s.peer.NodeID] != s {
		h.mu.Unlock()
		return nil
	}
	cur := h.entries[s.peer.NodeID][h.cfg.NodeID]
	cur.Hello = &hello
	e := h.word(cur)
	h.mu.Unlock()
	h.tellOthers(e)
	h.log.Info("an agent says how its update goes", "node", s.peer.NodeID, "name", s.called(), "state", u.State, "version", u.Version, "err", u.Error)
	return nil
}

// updateOf is what the agent should run, nil when it does not renew itself or
// nothing is wanted.
func (s *session) updateOf(n model.Node) *uplink.UpdateWanted {
	if s.hello.Update == nil || s.h.deps.Update == nil {
		return nil
	}
	return s.h.deps.Update(n.ID)
}

package hosts

import (
	"sync"
	"time"

	"panoptes/internal/model"
)

const (
	ownersEvery = 10 * time.Second // between two looks at who claims which address
	claimFor    = time.Hour        // that a silent host claims its addresses; then they may be another's
)

// owners is whose each address is, kept for a moment: when many hosts fall
// silent at once it is asked for all of them.
type owners struct {
	mu    sync.Mutex // guards what follows
	until time.Time
	nodes map[string]string
}

// owned are the addresses of a host that no other one claims.
func (h *Hosts) owned(id string, addrs []string) (out []string) {
	h.owners.mu.Lock()
	if now := time.Now(); !now.Before(h.owners.until) {
		h.owners.nodes, h.owners.until = h.claims(h.deps.Nodes()), now.Add(ownersEvery)
	}
	nodes := h.owners.nodes
	h.owners.mu.Unlock()
	for _, a := range addrs {
		if leadsTo(nodes, a, id) {
			out = append(out, a)
		}
	}
	return out
}

// leadsTo reports whether an address leads to a host, by what claims returned. One
// that nobody claims may be that of a host that has just come.
func leadsTo(claims map[string]string, addr, id string) bool {
	owner, claimed := claims[addr]
	return !claimed || owner == id
}

// claims says by address whose it is: the id of the host that claims it, empty
// where several do. A bridge of containers has the same address everywhere and
// leads to none of them: whoever goes there finds itself, or a neighbour. Hosts
// that took leave, or are silent for long, claim nothing.
func (h *Hosts) claims(nodes []model.Node) map[string]string {
	now := h.deps.Now()
	out := make(map[string]string, len(nodes))
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range nodes {
		st := h.states[n.ID]
		if st == nil || st.Hello == nil || st.Status == model.HostStopped || st.Status != model.HostOnline && now.Sub(st.LastSeen) > claimFor {
			continue
		}
		for _, a := range st.Hello.Addresses {
			if owner, claimed := out[a]; claimed && owner != n.ID {
				out[a] = ""
			} else {
				out[a] = n.ID
			}
		}
	}
	return out
}

package hosts

import (
	"cmp"
	"hash/fnv"
	"path"
	"slices"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// meshEvery is how often it is looked whether the peers of agents have changed.
const meshEvery = 10 * time.Second

// mesh is what is known of the hosts that others may look at.
type mesh struct {
	mu    sync.Mutex // guards what follows
	until time.Time
	peers []meshPeer // by name
	sum   uint64     // of all of it
}

type meshPeer struct {
	uplink.Peer
	id   string
	hash uint64
}

// table are the hosts that can be peers now.
func (m *mesh) table(h *Hosts, now time.Time) []meshPeer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(m.until) {
		m.peers, m.sum = h.meshPeers()
		m.until = now.Add(meshEvery)
	}
	return m.peers
}

// meshPeers lists the hosts whose agents have said where they are and have not
// taken leave, with the addresses that lead to them.
func (h *Hosts) meshPeers() ([]meshPeer, uint64) {
	nodes := h.deps.Nodes()
	claims := h.claims(nodes)
	addrs := make(map[string][]string, len(nodes))
	h.mu.Lock()
	for _, n := range nodes {
		if st := h.states[n.ID]; st != nil && st.Hello != nil && st.Status != model.HostStopped {
			addrs[n.ID] = st.Hello.Addresses
		}
	}
	h.mu.Unlock()
	var out []meshPeer
	sum := fnv.New64a()
	for _, n := range nodes {
		p := meshPeer{Peer: uplink.Peer{Name: n.Name, Region: n.Region}, id: n.ID, hash: hashOf(n.ID)}
		for _, a := range addrs[n.ID] {
			if leadsTo(claims, a, n.ID) && len(p.Addresses) < uplink.MaxPeerAddresses {
				p.Addresses = append(p.Addresses, a)
			}
		}
		if len(p.Addresses) > 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b meshPeer) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out {
		for _, s := range append([]string{out[i].id, out[i].Name, out[i].Region}, out[i].Addresses...) {
			_, _ = sum.Write([]byte(s))
			_, _ = sum.Write([]byte{0})
		}
	}
	return out, sum.Sum64()
}

func hashOf(s string) uint64 {
	f := fnv.New64a()
	_, _ = f.Write([]byte(s))
	return scramble(f.Sum64())
}

func scramble(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// meshOf is what the agent of a host looks at, nil when its groups say nothing.
// Hosts that are named come first; of those that a pattern fits the ones are
// taken that rendezvous hashing picks, so that the links are spread over all
// and stay when others come and go. A pair looks at each other from both sides,
// as far as both have room.
func (h *Hosts) meshOf(n model.Node, want *model.HostMesh) *uplink.Mesh {
	if want == nil {
		return nil
	}
	type scored struct {
		p     *meshPeer
		named bool
		score uint64
	}
	var best []scored
	worse := func(a, b scored) bool {
		if a.named != b.named {
			return b.named
		}
		return a.score < b.score
	}
	peers := h.mesh.table(h, time.Now())
	own, last := hashOf(n.ID), 0
	for i := range peers {
		p := &peers[i]
		if p.id == n.ID {
			continue
		}
		named, fits := false, false
		for _, pattern := range want.Peers {
			if pattern == p.Name {
				named = true
			} else if pattern == "*" {
				fits = true
			} else if ok, err := path.Match(pattern, p.Name); ok && err == nil {
				fits = true
			}
		}
		if !named && !fits {
			continue
		}
		s := scored{p, named, scramble(own ^ p.hash)}
		switch {
		case len(best) < model.MaxMeshPeers:
			best = append(best, s)
		case worse(best[last], s):
			best[last] = s
		default:
			continue
		}
		for j := range best {
			if worse(best[j], best[last]) {
				last = j
			}
		}
	}
	out := &uplink.Mesh{Interval: want.Interval, Port: want.Port}
	for _, s := range best {
		out.Peers = append(out.Peers, s.p.Peer)
	}
	slices.SortFunc(out.Peers, func(a, b uplink.Peer) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// meshTick has the agents told when the hosts that they look at have changed.
func (h *Hosts) meshTick(now time.Time) {
	h.mesh.mu.Lock()
	due, before := !now.Before(h.mesh.until) && !h.mesh.until.IsZero(), h.mesh.sum
	h.mesh.mu.Unlock()
	if !due {
		return
	}
	h.mesh.table(h, now)
	h.mesh.mu.Lock()
	changed := h.mesh.sum != before
	h.mesh.mu.Unlock()
	if changed {
		h.Refresh()
	}
}

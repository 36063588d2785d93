package hosts

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// many makes servers' knowledge of n hosts that all have a bridge of containers.
func many(t *testing.T, n int) (*Hosts, *[]model.Node) {
	nodes := &[]model.Node{}
	h, err := New(Config{NodeID: "s"}, Deps{
		Store: &foreign{}, Node: func(id string) (model.Node, bool) {
			i := slices.IndexFunc(*nodes, func(n model.Node) bool { return n.ID == id })
			if i < 0 {
				return model.Node{}, false
			}
			return (*nodes)[i], true
		},
		Nodes:  func() []model.Node { return *nodes },
		Checks: func(string) []model.Check { return nil }, Check: func(string, string) (model.Check, bool) { return model.Check{}, false },
	})
	require.NoError(t, err)
	for i := range n {
		id := fmt.Sprintf("id%d", i)
		*nodes = append(*nodes, model.Node{ID: id, Name: fmt.Sprintf("h%d", i), Region: "eu", Role: model.RoleAgent})
		h.states[id] = &state{ID: id, Status: model.HostOnline, Hello: &uplink.Hello{Addresses: []string{"172.17.0.1", fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)}}}
	}
	return h, nodes
}

func TestPeersOfAHost(t *testing.T) {
	h, nodes := many(t, 200)
	all := &model.HostMesh{Peers: []string{"*"}}
	links := map[[2]string]bool{}
	for _, n := range *nodes {
		m := h.meshOf(n, all)
		require.Len(t, m.Peers, model.MaxMeshPeers)
		for _, p := range m.Peers {
			require.NotEqual(t, n.Name, p.Name)
			require.Len(t, p.Addresses, 1, "a bridge that all have leads to none")
			links[[2]string{n.Name, p.Name}] = true
		}
	}
	both := 0
	for l := range links {
		if links[[2]string{l[1], l[0]}] {
			both++
		}
	}
	require.Greater(t, float64(both)/float64(len(links)), 0.7, "most links are seen from both ends")

	// Who is named is there whatever the hash says; few change when a host goes.
	before := h.meshOf((*nodes)[0], &model.HostMesh{Peers: []string{"h150", "h1*", "h7"}})
	name := func(p uplink.Peer) string { return p.Name }
	require.Subset(t, mapOf(before.Peers, name), []string{"h7", "h150"})
	require.NotContains(t, mapOf(before.Peers, name), "h20")
	gone := h.meshOf((*nodes)[0], all).Peers[3].Name
	*nodes = slices.DeleteFunc(*nodes, func(n model.Node) bool { return n.Name == gone })
	old := mapOf(h.meshOf((*nodes)[0], all).Peers, name)
	h.mesh.until = time.Time{}
	now := mapOf(h.meshOf((*nodes)[0], all).Peers, name)
	require.Len(t, now, model.MaxMeshPeers)
	kept := 0
	for _, n := range now {
		if slices.Contains(old, n) {
			kept++
		}
	}
	require.Equal(t, model.MaxMeshPeers-1, kept)

	require.Nil(t, h.meshOf((*nodes)[0], nil))
	h.states["id5"].Status = model.HostStopped
	h.mesh.until = time.Time{}
	require.Empty(t, h.meshOf((*nodes)[0], &model.HostMesh{Peers: []string{"h5"}}).Peers, "took leave")
}

func mapOf[T, U any](list []T, f func(T) U) (out []U) {
	for _, v := range list {
		out = append(out, f(v))
	}
	return out
}

func TestAgentsAreToldWhenTheirPeersChange(t *testing.T) {
	h, nodes := many(t, 3)
	s := &session{h: h, news: make(chan struct{}, 1)}
	h.sessions["id0"] = s
	now := time.Now()
	h.mesh.table(h, now)
	h.meshTick(now.Add(meshEvery))
	require.Empty(t, s.news, "nothing has changed")
	h.states["id1"].Hello.Addresses = []string{"10.7.7.7"}
	h.meshTick(now.Add(2 * meshEvery))
	require.Len(t, s.news, 1)
	require.Equal(t, []string{"10.7.7.7"}, h.meshOf((*nodes)[0], &model.HostMesh{Peers: []string{"h1"}}).Peers[0].Addresses)
}

func BenchmarkMeshOf10000(b *testing.B) {
	t := &testing.T{}
	h, nodes := many(t, 10_000)
	all := &model.HostMesh{Peers: []string{"*"}}
	for i := 0; b.Loop(); i++ {
		h.meshOf((*nodes)[i%10_000], all)
	}
}

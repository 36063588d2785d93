package mesh_test

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/mesh"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// net is a network of a test: which addresses answer, and after what time.
type network struct {
	mu     sync.Mutex // guards what follows
	up     map[string]time.Duration
	cannot bool
	asked  map[string]int
	last   map[string]model.Sample
}

func (n *network) ping(_ context.Context, a netip.Addr, _ int) (mesh.Answer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[a.String()]++
	if n.cannot {
		return mesh.Answer{}, errors.New("no socket")
	}
	if rtt, ok := n.up[a.String()]; ok {
		return mesh.Answer{Sent: 3, Got: 3, RTT: rtt}, nil
	}
	return mesh.Answer{Sent: 3}, nil
}

func (n *network) emit(b model.Batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range b {
		n.last[s.Labels.String()] = s
	}
}

func (n *network) value(t *testing.T, series string) float64 {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.last[series]
	require.True(t, ok, "%s; there are %v", series, n.last)
	return s.V
}

func (n *network) set(f func()) { n.mu.Lock(); defer n.mu.Unlock(); f() }

func run(t *testing.T, n *network, test func(m *mesh.Mesh)) {
	synctest.Test(t, func(t *testing.T) {
		m, err := mesh.New(mesh.Deps{
			Ping: n.ping, Own: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("172.17.0.1")} },
			Allowed: func(a netip.Addr) error {
				if !a.IsPrivate() {
					return errors.New("not allowed")
				}
				return nil
			},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx, n.emit) }()
		test(m)
		cancel()
		require.NoError(t, <-done)
	})
}

func wait(d time.Duration) {
	<-time.After(d) // by the clock of the bubble
	synctest.Wait()
}

const (
	rtt  = `{__name__="panoptes_mesh_rtt_seconds", peer="db-1", peer_region="us"}`
	sent = `{__name__="panoptes_mesh_sent_total", peer="db-1", peer_region="us"}`
	lost = `{__name__="panoptes_mesh_lost_total", peer="db-1", peer_region="us"}`
)

func TestALinkThatBreaksIsSeen(t *testing.T) {
	n := &network{up: map[string]time.Duration{"10.0.0.2": 7 * time.Millisecond}, asked: map[string]int{}, last: map[string]model.Sample{}}
	run(t, n, func(m *mesh.Mesh) {
		require.NoError(t, m.Configure(uplink.Settings{Mesh: &uplink.Mesh{Interval: model.Duration(5 * time.Second), Peers: []uplink.Peer{
			// Its first address is a bridge that this host has as well, the second one is never reached.
			{Name: "db-1", Region: "us", Addresses: []string{"172.17.0.1", "10.9.9.9", "10.0.0.2", "192.0.2.1"}},
			{Name: "db-1", Addresses: []string{"10.0.0.2"}},
			{Name: "outside", Addresses: []string{"192.0.2.1", "what"}},
		}}}))
		wait(31 * time.Second)
		require.InDelta(t, 0.007, n.value(t, rtt), 1e-9)
		require.Zero(t, n.asked["172.17.0.1"]+n.asked["192.0.2.1"])
		require.Equal(t, 1, n.asked["10.9.9.9"])
		require.InDelta(t, 3, n.value(t, lost), 0)
		was := n.value(t, sent)
		require.GreaterOrEqual(t, was, 15.0)

		n.set(func() { delete(n.up, "10.0.0.2") })
		wait(10 * time.Second)
		require.True(t, math.Float64bits(n.value(t, rtt)) == value.StaleNaN, "there is no time of a round trip")
		require.Equal(t, 9.0, n.value(t, lost))
		require.Equal(t, was+6, n.value(t, sent))
		require.Equal(t, 1, n.asked["10.9.9.9"], "an address that has answered stays the one that is asked")

		// What cannot be looked at is no loss.
		n.set(func() { n.cannot = true })
		wait(20 * time.Second)
		require.Equal(t, 9.0, n.value(t, lost))
		n.set(func() { n.cannot = false; n.up["10.0.0.2"] = time.Second })
		wait(10 * time.Second)
		require.Equal(t, 1.0, n.value(t, rtt))

		require.NoError(t, m.Configure(uplink.Settings{}))
		wait(time.Second)
		for _, s := range []string{rtt, sent, lost} {
			require.True(t, math.Float64bits(n.value(t, s)) == value.StaleNaN, "a peer that is none any more")
		}
		asked := n.asked["10.0.0.2"]
		wait(time.Hour + time.Minute)
		require.Equal(t, asked, n.asked["10.0.0.2"])
	})
}

func TestServersCannotHaveAnyNumberOfHostsLookedAt(t *testing.T) {
	n := &network{up: map[string]time.Duration{}, asked: map[string]int{}, last: map[string]model.Sample{}}
	run(t, n, func(m *mesh.Mesh) {
		var w uplink.Mesh
		w.Interval = model.Duration(time.Millisecond)
		for i := range 200 {
			w.Peers = append(w.Peers, uplink.Peer{Name: "p" + string(rune('a'+i)), Addresses: []string{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()}})
		}
		require.NoError(t, m.Configure(uplink.Settings{Mesh: &w}))
		wait(4 * model.MinMeshInterval)
		require.Len(t, n.asked, model.MaxMeshPeers)
		for _, c := range n.asked {
			require.LessOrEqual(t, c, 5, "not more often than each 5 s")
		}
	})
}

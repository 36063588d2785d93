package cluster_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/cluster"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

func TestFiveJoinAndOneLeaves(t *testing.T) {
	g := newGroup(t, fast, 5)
	for _, s := range g.all {
		g.eventually(func() bool {
			for i, m := range s.Members() {
				if m.ID != fmt.Sprintf("n%d", i+1) || m.Name != "name-"+m.ID || m.Role != model.RoleServer || m.Self != (m.ID == s.Members()[i].ID && m.Self) {
					return false
				}
			}
			return true
		}, "metadata of all")
		<-s.Settled()
		g.eventually(func() bool { return !s.Isolated() }, "not alone")
		require.NoError(t, s.Err())
	}
	g.all[4].stop()
	for _, s := range g.all[:4] {
		g.eventually(func() bool { return state(s, "n5") == model.MemberLeft }, "n5 has left")
		require.Len(t, s.Alive(), 4)
	}
}

func TestKilledOneIsSuspectThenDeadAndReturnsElsewhere(t *testing.T) {
	g := newGroup(t, fast, 5)
	g.all[4].Crash()
	rest := g.all[:4]
	for _, s := range rest {
		g.eventually(func() bool { return state(s, "n5") == model.MemberDead && len(s.Alive()) == 4 && !s.Isolated() }, "n5 is dead, nobody else")
		require.Len(t, s.Members(), 5)
	}
	g.all[4].stop()
	back := g.start("n5", nil)
	for _, s := range append(slices.Clone(rest), back) {
		g.eventually(func() bool { return len(s.Alive()) == 5 }, "n5 is back at another address")
	}
}

func TestSameAddressAgainAtOnce(t *testing.T) {
	g := newGroup(t, fast, 2)
	addr := harness.FreeAddr(t, "127.0.0.1")
	lives := 0
	begin := func(msg string) *server {
		t.Helper()
		lives++
		life := fmt.Sprint("1.", lives)
		s := g.start("n3", func(c *cluster.Config, _ *cluster.Deps) { c.Bind = addr })
		s.Update(func(m *model.Member) { m.Version = life })
		for _, o := range []*server{g.all[0], g.all[1], s} {
			// Those who have not missed it have to hear of this life before it ends.
			g.eventually(func() bool {
				alive := o.Alive()
				return len(alive) == 3 && alive[2].Version == life
			}, msg)
		}
		return s
	}
	s := begin("n3 is there")
	for range 3 {
		s.Crash()
		s.stop()
		s = begin("n3 is back")
		s.stop() // cleanly this time
		g.eventually(func() bool { return state(g.all[0], "n3") == model.MemberLeft }, "n3 left")
		s = begin("n3 is back after it left")
	}
}

func TestSplitAndHeal(t *testing.T) {
	g := newGroup(t, fast, 5)
	small, large := g.all[:2], g.all[2:]
	cut(small, large)
	for _, s := range small {
		g.eventually(func() bool { return len(s.Alive()) == 2 }, "two on this side")
	}
	for _, s := range large {
		g.eventually(func() bool { return len(s.Alive()) == 3 }, "three on this side")
	}
	for _, s := range g.all {
		g.eventually(func() bool {
			n := 0
			for _, m := range s.Members() {
				if m.State == model.MemberDead {
					n++
				}
			}
			return n+len(s.Alive()) == 5
		}, "the other side is dead")
		g.eventually(func() bool { return !s.Isolated() }, "each side has company")
	}
	small[0].note("seen in the small half")
	large[0].note("seen in the large half")
	heal(g.all)
	healed := time.Now()
	for _, s := range g.all {
		g.eventually(func() bool { return len(s.Alive()) == 5 }, "all see each other again")
		g.eventually(func() bool { return s.has("seen in the small half") && s.has("seen in the large half") }, "what both halves saw is everywhere")
	}
	took := time.Since(healed)
	for _, s := range g.all {
		if counter(t, s, "panoptes_cluster_stalls_total") > 0 {
			return // this machine was too busy to measure anything
		}
	}
	require.Less(t, took, 5*time.Second)
}

func TestIsolatedOneKnows(t *testing.T) {
	g := newGroup(t, fast, 3)
	cut(g.all[:1], g.all[1:])
	g.eventually(g.all[0].Isolated, "n1 knows that it is alone")
	g.eventually(func() bool { return len(g.all[0].Alive()) == 1 }, "n1 sees nobody")
	g.eventually(func() bool { return !g.all[1].Isolated() }, "the others have each other")
	heal(g.all)
	g.eventually(func() bool { return !g.all[0].Isolated() && len(g.all[0].Alive()) == 3 }, "n1 is back")
}

func TestOneWayCutIsBridged(t *testing.T) {
	g := newGroup(t, calm, 3)
	a, b, c := g.all[0], g.all[1], g.all[2]
	// A stream needs both directions, a packet only its own.
	a.Cut(func(_, to string) bool { return to == b.Addr() })
	b.Cut(func(network, to string) bool { return network == "tcp" && to == a.Addr() })
	g.never(func() bool { return len(a.Alive()) < 3 || len(b.Alive()) < 3 || len(c.Alive()) < 3 }, "the third one vouches for both")
	// What n1 sends to nobody gets lost: now it knows that nobody hears it.
	a.Cut(func(string, string) bool { return true })
	b.Cut(func(network, to string) bool { return network == "tcp" && to == a.Addr() })
	c.Cut(func(network, to string) bool { return network == "tcp" && to == a.Addr() })
	g.eventually(a.Isolated, "n1 hears the others and knows that they do not hear it")
	g.eventually(func() bool { return state(b, "n1") == model.MemberDead }, "n1 is dead to the others")
}

func TestPacketsBlockedStreamsWork(t *testing.T) {
	g := newGroup(t, calm, 3)
	for _, s := range g.all {
		s.Cut(func(network, _ string) bool { return network == "udp" })
	}
	g.never(func() bool {
		return slices.ContainsFunc(g.all, func(s *server) bool { return len(s.Alive()) != 3 || s.Isolated() })
	}, "beats go over TCP when UDP does not get through")
}

func TestNamesake(t *testing.T) {
	g := newGroup(t, fast, 3)
	twin := g.start("n3", nil)
	g.eventually(func() bool { return twin.Err() != nil }, "the newcomer hears that its ID is in use")
	require.ErrorContains(t, twin.Err(), g.all[2].Addr())
	for _, s := range g.all[:3] {
		g.eventually(func() bool { return len(s.Alive()) == 3 }, "the others are as they were")
	}
	// The real one is not kept alive by its namesake.
	g.all[2].Crash()
	g.eventually(func() bool { return state(g.all[0], "n3") != model.MemberAlive }, "n3 is missed")
}

func TestWrongKeyOrClusterIsRefused(t *testing.T) {
	g := newGroup(t, fast, 2)
	other := make([]byte, 32)
	_, _ = rand.Read(other)
	a := g.start("stranger", func(c *cluster.Config, _ *cluster.Deps) { c.Key = other })
	b := g.start("neighbour", func(c *cluster.Config, _ *cluster.Deps) { c.ClusterID = "c2" })
	for _, s := range []*server{a, b} {
		<-s.Settled()
		g.eventually(s.Isolated, "on record with others, and nobody answers")
		require.Len(t, s.Members(), 1)
	}
	g.eventually(func() bool { return counter(t, g.all[0], "panoptes_cluster_library_complaints_total") > 0 }, "it is counted")
	require.Len(t, g.all[0].Members(), 2)
}

func TestMetadataChanges(t *testing.T) {
	g := newGroup(t, fast, 3)
	told := make(chan struct{}, 1000)
	cancel := g.all[1].Subscribe(func() { told <- struct{}{} })
	want := model.Member{ID: "n1", Name: "eins", Region: "us", Role: model.RoleWitness, Version: "1.2.3", Load: 0.25, Lag: 1500 * time.Millisecond, Behind: true, Draining: true, Serving: true,
		Addresses: model.Addresses{Cluster: "10.0.0.1:9701", Gossip: "10.0.0.1:9702", Peer: "10.0.0.1:9703", Client: "10.0.0.1:9704", HTTP: "https://10.0.0.1:9700/base"},
		Labels:    map[string]string{"rack": "r1", "zone": "z"}, Started: time.Unix(1700000000, 0).UTC(), State: model.MemberAlive}
	g.all[0].Update(func(m *model.Member) { id, self := m.ID, m.Self; *m = want; m.ID, m.Self = id, self })
	for _, s := range g.all[1:] {
		g.eventually(func() bool {
			got := s.Members()[0]
			got.Since = time.Time{}
			return cmp.Equal(got, want)
		}, "n1's words are known")
	}
	<-told
	cancel()
	// Subscribers are told at most once a second however often something changes.
	var calls int
	var mu sync.Mutex
	defer g.all[0].Subscribe(func() { mu.Lock(); calls++; mu.Unlock() })()
	for i := range 2000 {
		g.all[0].Update(func(m *model.Member) { m.Load = float64(i) / 100 })
	}
	g.eventually(func() bool { mu.Lock(); defer mu.Unlock(); return calls > 0 }, "told")
	mu.Lock()
	require.Less(t, calls, 20)
	mu.Unlock()
	g.eventually(func() bool { return g.all[1].Members()[0].Load == 19.99 }, "the last word counts")
}

func TestParts(t *testing.T) {
	g := newGroup(t, calm, 3)
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	g.all[0].note("small")
	g.all[1].note(big)
	for _, s := range g.all {
		g.eventually(func() bool { return s.has("small") && s.has(big) }, "news arrive")
	}
	// Who comes later gets everything before it is settled.
	late := g.start("late", nil)
	<-late.Settled()
	require.True(t, late.has("small"))
	require.True(t, late.has(big))
	for i := range 2000 {
		g.all[2].note(fmt.Sprintf("burst %d", i))
	}
	for _, s := range g.all {
		g.eventually(func() bool { return s.has("burst 0") && s.has("burst 1999") && s.has("burst 777") }, "a burst arrives, at the latest with the next exchange")
	}
	// What a part refuses, or trips over, is counted and hurts nobody.
	g.all[0].Broadcast("notes", []byte("poison"))
	g.all[0].Broadcast("notes", []byte("bomb"))
	g.all[0].Broadcast("of the future", []byte("x"))
	g.eventually(func() bool {
		return counter(t, g.all[1], "panoptes_cluster_messages_dropped_total", "reason", "refused") == 2 &&
			counter(t, g.all[1], "panoptes_cluster_messages_dropped_total", "reason", "unknown") == 1
	}, "counted once each, although gossip repeats them")
	g.all[0].Broadcast("notes", make([]byte, 9<<20))
	require.EqualValues(t, 1, counter(t, g.all[0], "panoptes_cluster_messages_dropped_total", "reason", "too_large"))
}

func TestSkewIsMeasured(t *testing.T) {
	g := newGroup(t, fast, 2)
	ahead := g.start("ahead", func(_ *cluster.Config, d *cluster.Deps) {
		d.Now = func() time.Time { return time.Now().Add(90 * time.Second) }
	})
	near := func(got, want time.Duration) bool { return (got - want).Abs() < 500*time.Millisecond }
	g.eventually(func() bool { return near(g.all[0].Skew()["ahead"], 90*time.Second) }, "its clock is ahead")
	g.eventually(func() bool { return near(ahead.Skew()["n1"], -90*time.Second) }, "the others are behind")
	g.eventually(func() bool { _, ok := g.all[0].Skew()["n2"]; return ok && near(g.all[0].Skew()["n2"], 0) }, "n2 is right")
}

func TestAloneIsSettledAndNotIsolated(t *testing.T) {
	g := newGroup(t, fast, 1)
	s := g.all[0]
	<-s.Settled()
	require.Never(t, s.Isolated, 10*fast, fast/2)
	require.Len(t, s.Alive(), 1)
	s.Broadcast("notes", []byte("to nobody"))
}

func TestNobodyAnswersAtStart(t *testing.T) {
	g := &group{t: t, probe: fast, seeds: []string{"127.0.0.1:1"}}
	s := g.start("n1", nil)
	<-s.Settled()
	g.eventually(s.Isolated, "on record with another that does not answer")
}

func TestConfigIsValidated(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(*cluster.Config)
	}{
		{"node_id", func(c *cluster.Config) { c.NodeID = "" }},
		{"key", func(c *cluster.Config) { c.Key = key[:5] }},
		{"gossip_listen", func(c *cluster.Config) { c.Bind = "nonsense" }},
		{"advertise", func(c *cluster.Config) { c.Bind = "0.0.0.0:0" }},
		{"advertise", func(c *cluster.Config) { c.Advertise = ":1" }},
	} {
		cfg := cluster.Config{NodeID: "a", Bind: "127.0.0.1:0", Key: key}
		c.change(&cfg)
		_, err := cluster.New(cfg, cluster.Deps{})
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, c.field, inv[0].Field)
	}
}

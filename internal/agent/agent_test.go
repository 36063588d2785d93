package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/hosts"
	"panoptes/internal/model"
)

func TestAHostIsEnrolledAndItsSamplesAreStored(t *testing.T) {
	// An end takes 1.5 s at most. On a machine that stands still for longer the best
	// try counts.
	whole := false
	for try := 0; try < 4 && !whole; try++ {
		whole = enrolled(t)
	}
	require.True(t, whole, "what was measured last is stored as well")
}

func enrolled(t *testing.T) (whole bool) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(100 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) >= 15 }, "samples")
	require.Equal(t, []string{h.pki.NodeID()}, s.hosts.Connected())
	require.Len(t, w.store.series(map[string]string{"__name__": "node_test", "host": "web-1", "instance": "web-1", "region": "eu", "job": "node"}), 5)
	require.NotEmpty(t, w.store.series(map[string]string{"__name__": "panoptes_agent_info", "host": "web-1"}))
	eventually(t, 3*time.Second, func() bool { return w.status(h.pki.NodeID()) == model.HostOnline }, "online")
	h.stop()
	if !complete(h) {
		return false
	}
	eventually(t, 3*time.Second, func() bool { return w.status(h.pki.NodeID()) == model.HostStopped }, "it took leave")
	require.Equal(t, len(h.collect.rounds())*5, len(w.store.times("node_test", "web-1")), "each once")
	require.Zero(t, w.store.differ)
	eventually(t, 3*time.Second, func() bool { return slices.Equal(w.codes(h.pki.NodeID()), []string{"host.online", "host.stopped"}) }, "events")
	return true
}

func complete(h *host) bool {
	want := h.collect.rounds()
	got := slices.Compact(h.w.store.times("node_test", h.name))
	for _, t := range want {
		if _, ok := slices.BinarySearch(got, t); !ok {
			return false
		}
	}
	return true
}

func TestWhenItsServerIsKilledTheNextOneTakesOver(t *testing.T) {
	for name, end := range map[string]func(*server){
		"stopped": func(s *server) { s.stop() },
		"cut":     func(s *server) { s.cut.Store(true); s.alive.Store(false) },
	} {
		t.Run(name, func(t *testing.T) {
			took := time.Hour
			// Of a machine that stands still now and then the best try counts.
			for try := 0; try < 4 && took > 3500*time.Millisecond; try++ {
				took = changeOver(t, end)
			}
			require.Less(t, took, 3500*time.Millisecond)
		})
	}
}

// changeOver has an agent's server end and tells how long the agent took to be
// with another one, where nothing is lost.
func changeOver(t *testing.T, end func(*server)) time.Duration {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	w.add("n2", hosts.Config{})
	w.add("n3", hosts.Config{})
	h := w.join("web-1").start(every(50 * time.Millisecond))
	var from *server
	eventually(t, 5*time.Second, func() bool {
		for _, s := range w.all() {
			if len(s.hosts.Connected()) == 1 {
				from = s
			}
		}
		return from != nil && len(w.store.times("node_test", "web-1")) > 20
	}, "connected")
	began := time.Now()
	last := func() int64 { ts := w.store.times("node_test", "web-1"); return ts[len(ts)-1] }
	cut := last()
	end(from)
	eventually(t, 10*time.Second, func() bool {
		for _, s := range w.all() {
			if s != from && len(s.hosts.Connected()) == 1 && last() > cut+100 {
				return true
			}
		}
		return false
	}, "moved on")
	took := time.Since(began)
	t.Logf("change-over took %s", took)
	from.cut.Store(false)
	eventually(t, 10*time.Second, func() bool { return complete(h) }, "nothing is lost")
	require.Zero(t, w.store.differ, "nothing is there twice with another value")
	return took
}

package hosts

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// told makes a server that tells the others at once what it says.
func told(t *testing.T, id string, all map[string]*Hosts) *Hosts {
	t.Helper()
	h, err := New(Config{NodeID: id}, Deps{
		Store: &foreign{}, Node: func(string) (model.Node, bool) { return model.Node{}, false }, Nodes: func() []model.Node { return nil },
		Checks: func(string) []model.Check { return []model.Check{} }, Check: func(_, _ string) (model.Check, bool) { return model.Check{}, false },
		Alive: func() []string { return []string{"n1", "n2", "n3"} },
		Broadcast: func(b []byte) {
			for other, h := range all {
				if other != id {
					require.NoError(t, h.Merge(b))
				}
			}
		},
	})
	require.NoError(t, err)
	all[id] = h
	return h
}

// says has a server say that an agent talks to it, or took leave of it.
func (h *Hosts) says(node, run, bye string) {
	h.mu.Lock()
	e := entry{Node: node, Run: run, Since: time.Now(), Bye: bye}
	if bye == "" {
		h.sessions[node] = &session{h: h}
		e.Open, e.Hello = true, &uplink.Hello{Run: run}
	}
	e = h.word(e)
	h.mu.Unlock()
	h.tellOthers(e)
}

// TestAServerThatIsStartedAnewTakesBackAllItSaid: the hosts that died with it, or
// after it, would be online for ever.
func TestAServerThatIsStartedAnewTakesBackAllItSaid(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration // of the clock before
		back  bool          // an agent has come back before others tell what was
	}{
		"it has said nothing":           {},
		"an agent is back":              {back: true},
		"an agent is back, clock ahead": {back: true, ahead: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]*Hosts{}
			n1, n2, n3 := told(t, "n1", all), told(t, "n2", all), told(t, "n3", all)
			n1.version = time.Now().Add(c.ahead).UnixNano()
			for i := range 5 {
				n1.says(fmt.Sprint("h", i), "before", "")
			}
			n1.says("h5", "before", uplink.ByeShutdown)
			require.Len(t, n2.Sessions(), 5)

			n1 = told(t, "n1", all)
			want := map[string]string{}
			if c.back {
				n1.says("h0", "after", "")
				want["h0"] = "after"
			}
			for _, h := range []*Hosts{n2, n3} { // it hears it from both
				b, err := h.State()
				require.NoError(t, err)
				require.NoError(t, n1.Merge(b))
			}
			for id, h := range all {
				got := map[string]string{}
				for _, s := range h.Sessions() {
					got[s.NodeID] = s.Hello.Run
				}
				require.Equal(t, want, got, id)
				require.Equal(t, uplink.ByeShutdown, h.lastWord("h5").Bye, "%s: what it said of one that took leave holds", id)
			}
		})
	}
}

// A server's words are numbered on from what its clock said when it was ahead: a
// host that falls silent is missed all the same, and one that took leave of
// another server has.
func TestAClockThatWasAheadHidesNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := map[string]*Hosts{}
		n1, n2 := told(t, "n1", all), told(t, "n2", all)
		nodes := []model.Node{{ID: "silent", Name: "silent", Role: model.RoleAgent}, {ID: "moved", Name: "moved", Role: model.RoleAgent}}
		for _, h := range all {
			h.deps.Nodes = func() []model.Node { return nodes }
			h.deps.Probe = func(context.Context, model.Check, string) []model.Result { return nil }
		}
		n2.deps.Owns = func(string) bool { return false }
		n1.version = time.Now().Add(8 * time.Hour).UnixNano()
		for _, n := range nodes {
			n1.says(n.ID, "run", "")
		}
		tick := func() {
			for _, h := range all {
				h.tick(t.Context())
				h.wg.Wait()
			}
		}
		time.Sleep(n1.cfg.Settle)
		tick()
		for _, n := range nodes {
			require.Equal(t, model.HostOnline, n1.states[n.ID].Status)
			n1.goes(n.ID, "run", "")
		}
		n2.says("moved", "run", "")
		n2.goes("moved", "run", uplink.ByeShutdown)
		tick()
		require.Equal(t, model.HostStopped, n1.states["moved"].Status)
		require.Equal(t, model.HostOnline, n1.states["silent"].Status)
		// Another one decides now: it has waited as well.
		n1.deps.Owns, n2.deps.Owns = n2.deps.Owns, n1.deps.Owns
		time.Sleep(n1.cfg.Grace)
		tick()
		for id, h := range all {
			require.Equal(t, model.HostUnknown, h.states["silent"].Status, id)
		}
	})
}

// goes has a server say that an agent does not talk to it any more.
func (h *Hosts) goes(node, run, bye string) {
	h.mu.Lock()
	delete(h.sessions, node)
	e := h.word(entry{Node: node, Run: run, Since: time.Now(), Bye: bye})
	h.mu.Unlock()
	h.tellOthers(e)
}

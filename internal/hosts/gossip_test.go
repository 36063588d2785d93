package hosts

import (
	"fmt"
	"testing"
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

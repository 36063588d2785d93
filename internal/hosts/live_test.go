package hosts

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// TestFewHostsAreLive: who may look at hosts cannot have all of them send each second.
func TestFewHostsAreLive(t *testing.T) {
	h, err := New(Config{NodeID: "n1"}, Deps{
		Store: &foreign{}, Node: func(string) (model.Node, bool) { return model.Node{}, false }, Nodes: func() []model.Node { return nil },
		Checks: func(string) []model.Check { return nil }, Check: func(string, string) (model.Check, bool) { return model.Check{}, false },
	})
	require.NoError(t, err)
	for i := range maxLive + 1 {
		h.sessions[fmt.Sprint(i)] = &session{news: make(chan struct{}, 1)}
	}
	for i := range maxLive {
		require.NoError(t, h.KeepLive(t.Context(), fmt.Sprint(i)))
	}
	require.ErrorIs(t, h.KeepLive(t.Context(), fmt.Sprint(maxLive)), model.ErrLimit)
	require.NoError(t, h.KeepLive(t.Context(), "0"), "it goes on")
}

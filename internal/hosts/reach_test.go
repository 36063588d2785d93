package hosts

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// TestAnAddressOfSeveralHostsProvesNothing: who looks there finds itself, and would
// say that a host answers that is gone.
func TestAnAddressOfSeveralHostsProvesNothing(t *testing.T) {
	h, nodes := many(t, 3)
	var mu sync.Mutex
	var looked []string
	h.deps.Probe = func(_ context.Context, c model.Check, _ string) []model.Result {
		if c.Type != "icmp" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		looked = append(looked, c.Target)
		return []model.Result{{Prober: "n2", Success: true, Start: time.Now()}}
	}
	look := func(i int) []string {
		h.owners.until, looked = time.Time{}, nil
		found := h.evidence(t.Context(), (*nodes)[i], h.states[(*nodes)[i].ID])
		require.Len(t, found, len(looked))
		slices.Sort(looked)
		return looked
	}
	bridges := []string{"172.17.0.1", "192.168.122.1", "10.88.0.1"}
	for id, own := range map[string]string{"id0": "10.0.0.1", "id1": "10.0.0.2"} {
		h.states[id].Hello = &uplink.Hello{Addresses: append(slices.Clone(bridges), own)}
	}
	require.Equal(t, []string{"10.0.0.1"}, look(0), "it comes last, and is the only one that leads there")
	h.states["id0"].Status, h.states["id0"].LastSeen = model.HostUnknown, time.Now()
	require.Equal(t, []string{"10.0.0.1"}, look(0))

	// What a machine had that is gone for long may be another's now.
	h.states["id2"] = &state{ID: "id2", Status: model.HostDown, LastSeen: time.Now(), Hello: &uplink.Hello{Addresses: []string{"10.0.0.2"}}}
	require.Empty(t, look(1), "it is not known whose it is")
	h.states["id2"].LastSeen = time.Now().Add(-2 * claimFor)
	require.Equal(t, []string{"10.0.0.2"}, look(1))
	require.Empty(t, look(2), "the other one would answer")
}

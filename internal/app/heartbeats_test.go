package app

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// A ping that was answered is known after a restart, also one of many at once.
func TestHeartbeatsAreSafeWhenAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heartbeats.json")
	checks := make([]model.Check, 50)
	for i := range checks {
		token := strings.Repeat(string(rune('a'+i%26)), 31) + string(rune('A'+i/26))
		checks[i] = model.Check{ID: token, Name: token, Type: "push", Block: []byte(`{"token":"` + token + `"}`)}
	}
	h := newHeartbeats(path)
	h.receiver.Update(checks)
	var wg sync.WaitGroup
	for _, c := range checks {
		wg.Go(func() {
			if err := h.Ping(c.ID, "up", "well"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.ErrorIs(t, h.Ping(strings.Repeat("z", 32), "up", ""), model.ErrNotFound)

	again := newHeartbeats(path)
	again.receiver.Update(checks)
	require.NoError(t, again.load())
	require.Len(t, again.receiver.Snapshot(), len(checks))
}

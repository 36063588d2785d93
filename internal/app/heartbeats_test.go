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
	require.ErrorIs(t, h.Ping(checks[0].ID, "up", ""), model.ErrUnavailable, "its checks are not known yet")
	h.receiver.Update(checks)
	require.NoError(t, h.load())
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

// What other servers tell before the checks are known is not lost, and is
// remembered over a restart of both.
func TestHeartbeatsOfOthersComeEarly(t *testing.T) {
	token := strings.Repeat("a", 32)
	checks := []model.Check{{ID: "1", Name: "job", Type: "push", Block: []byte(`{"token":"` + token + `"}`)}}
	there := newHeartbeats(filepath.Join(t.TempDir(), "heartbeats.json"))
	there.receiver.Update(checks)
	require.NoError(t, there.load())
	require.NoError(t, there.Ping(token, "up", "well"))
	state, err := there.state()
	require.NoError(t, err)

	path := filepath.Join(t.TempDir(), "heartbeats.json")
	h := newHeartbeats(path)
	require.NoError(t, h.merge(state))
	h.receiver.Update(checks)
	require.NoError(t, h.load())
	last, ok := h.receiver.Last(token)
	require.True(t, ok)
	require.Equal(t, "well", last.Message)

	require.NoError(t, h.keepMerged())
	h = newHeartbeats(path)
	h.receiver.Update(checks)
	require.NoError(t, h.load())
	require.Len(t, h.receiver.Snapshot(), 1)
}

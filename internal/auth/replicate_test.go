package auth_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/auth"
)

// pair makes two servers with one catalog that tell each other of sessions
// while together is true.
func pair(t *testing.T) (one, two *bench, together *bool) {
	t.Helper()
	cat := &memCatalog{}
	yes := true
	one, two = &bench{t: t, dir: t.TempDir(), cat: cat}, &bench{t: t, dir: t.TempDir(), cat: cat}
	for b, other := range map[*bench]*bench{one: two, two: one} {
		var err error
		b.auth, err = auth.New(auth.Config{DataDir: b.dir}, auth.Deps{Catalog: cat, Broadcast: func(msg []byte) {
			if yes {
				require.NoError(t, other.auth.Merge(msg))
			}
		}})
		require.NoError(t, err)
	}
	return one, two, &yes
}

func TestSessionsAreSharedByServers(t *testing.T) {
	one, two, together := pair(t)
	one.user("alice", "correct horse", "editor")
	l, err := one.login("alice", "correct horse")
	require.NoError(t, err)
	require.NotNil(t, two.cookie(l.Token), "logged in everywhere at once")

	two.auth.Logout(t.Context(), two.cookie(l.Token))
	require.Nil(t, one.cookie(l.Token), "logged out everywhere at once")

	*together = false // the servers are cut off from each other
	a, err := one.login("alice", "correct horse")
	require.NoError(t, err)
	b, err := two.login("alice", "correct horse")
	require.NoError(t, err)
	require.Nil(t, two.cookie(a.Token))
	one.auth.Logout(t.Context(), one.cookie(a.Token))
	*together = true
	for _, way := range [][2]*bench{{one, two}, {two, one}, {one, two}} {
		state, err := way[0].auth.State()
		require.NoError(t, err)
		require.NoError(t, way[1].auth.Merge(state))
	}
	require.NotNil(t, one.cookie(b.Token), "what the other saw arrives")
	require.Nil(t, two.cookie(a.Token), "what was ended stays ended")
	require.Nil(t, two.cookie(l.Token))
}

func TestSessionBeforeItsUserArrives(t *testing.T) {
	one := setUp(t)
	one.user("alice", "correct horse", "editor")
	l, err := one.login("alice", "correct horse")
	require.NoError(t, err)
	state, err := one.auth.State()
	require.NoError(t, err)

	two := setUp(t) // its catalog has not heard of alice yet
	require.NoError(t, two.auth.Merge(state))
	require.Nil(t, two.cookie(l.Token))
	two.cat.records = one.cat.records
	require.NotNil(t, two.cookie(l.Token), "the session was kept")
}

func TestMergeOfRubbish(t *testing.T) {
	b := setUp(t)
	rec := b.user("alice", "correct horse", "editor")
	require.Error(t, b.auth.Merge([]byte("{")))
	require.NoError(t, b.auth.Merge([]byte(`{"sessions":[{"hash":"short","user_id":"x"}],"ended":{"short":"2020-01-01T00:00:00Z"}}`)))
	old, err := json.Marshal(map[string]any{"sessions": []auth.Session{{Hash: string(make([]byte, 64)), UserID: rec.ID}}})
	require.NoError(t, err)
	require.NoError(t, b.auth.Merge(old), "a session that is over is not taken")
	state, err := b.auth.State()
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(state))
}

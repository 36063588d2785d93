package auth_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

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

// tellAll tells another server everything.
func (b *bench) tellAll(other *bench) {
	b.t.Helper()
	state, err := b.auth.State()
	require.NoError(b.t, err)
	for _, msg := range state {
		require.NoError(b.t, other.auth.Merge(msg))
	}
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
		way[0].tellAll(way[1])
	}
	require.NotNil(t, one.cookie(b.Token), "what the other saw arrives")
	require.Nil(t, two.cookie(a.Token), "what was ended stays ended")
	require.Nil(t, two.cookie(l.Token))
}

func TestEndOfASessionSurvivesRestarts(t *testing.T) {
	one, two, together := pair(t)
	one.user("alice", "correct horse", "editor")
	ended, err := one.login("alice", "correct horse")
	require.NoError(t, err)
	kept, err := one.login("alice", "correct horse")
	require.NoError(t, err)
	*together = false // two is away
	one.auth.Logout(t.Context(), one.cookie(ended.Token))
	one.open()
	one.open() // the file was written anew
	two.tellAll(one)
	require.Nil(t, one.cookie(ended.Token), "what was ended here stays ended")
	require.NotNil(t, one.cookie(kept.Token))
	one.tellAll(two)
	two.open()
	require.Nil(t, two.cookie(ended.Token))
	require.NotNil(t, two.cookie(kept.Token))
}

func TestManySessionsAreTold(t *testing.T) {
	one, two := setUp(t), setUp(t)
	rec := one.user("alice", "correct horse", "editor")
	two.cat.records = one.cat.records
	now := time.Now()
	var list []auth.Session
	ended := map[string]time.Time{}
	for i := range 4500 {
		list = append(list, auth.Session{Hash: fmt.Sprintf("%064d", i), UserID: rec.ID, Created: now, Seen: now})
		ended[fmt.Sprintf("%064d", 10_000+i)] = now
	}
	msg, err := json.Marshal(map[string]any{"sessions": list, "ended": ended})
	require.NoError(t, err)
	require.NoError(t, one.auth.Merge(msg))
	state, err := one.auth.State()
	require.NoError(t, err)
	for _, msg := range state {
		require.Less(t, len(msg), 2<<20, "a message has bounds")
	}
	one.tellAll(two)
	two.open()
	var sessions, ends int
	state, err = two.auth.State()
	require.NoError(t, err)
	for _, msg := range state {
		var part struct {
			Sessions []auth.Session
			Ended    map[string]time.Time
		}
		require.NoError(t, json.Unmarshal(msg, &part))
		sessions, ends = sessions+len(part.Sessions), ends+len(part.Ended)
	}
	require.Equal(t, []int{4500, 4500}, []int{sessions, ends})
}

func TestSessionBeforeItsUserArrives(t *testing.T) {
	one := setUp(t)
	one.user("alice", "correct horse", "editor")
	l, err := one.login("alice", "correct horse")
	require.NoError(t, err)

	two := setUp(t) // its catalog has not heard of alice yet
	one.tellAll(two)
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
	require.Empty(t, state)
}

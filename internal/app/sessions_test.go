package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/cluster"
	"panoptes/internal/model"
)

// login logs the administrator in and returns what opens the session.
func login(t *testing.T, a *app.App) []*http.Cookie {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Jar: jar}).Post(a.URL()+"/v1/login", "application/json", strings.NewReader(`{"name":"admin","password":"a long enough password"}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	u, err := url.Parse(a.URL())
	require.NoError(t, err)
	return jar.Cookies(u)
}

// with sends a request with cookies.
func with(t *testing.T, a *app.App, method, path string, cookies ...*http.Cookie) int {
	t.Helper()
	req, err := http.NewRequest(method, a.URL()+path, nil)
	require.NoError(t, err)
	for _, c := range cookies {
		req.AddCookie(c)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// What was said to a server that is away arrives with its return, and the end of
// a session holds on all, whoever was restarted meanwhile.
func TestSessionsOfServersThatWereAway(t *testing.T) {
	c := grow(t, "eu", "eu", "eu")
	old := login(t, c[0].app)
	require.Eventually(t, func() bool { return with(t, c[2].app, "GET", "/v1/me", old...) == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, c[2].end())
	require.Equal(t, http.StatusNoContent, with(t, c[0].app, "POST", "/v1/logout", old...))
	fresh := login(t, c[0].app)
	require.Eventually(t, func() bool { return with(t, c[1].app, "GET", "/v1/me", fresh...) == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, c[0].end())
	c[2].start()
	c[0].start()
	for _, m := range c {
		require.Eventually(t, func() bool {
			return with(t, m.app, "GET", "/v1/me", fresh...) == http.StatusOK && with(t, m.app, "GET", "/v1/me", old...) == http.StatusUnauthorized
		}, 60*time.Second, 50*time.Millisecond, m.cfg.Node)
	}
}

// Whoever has the key of gossip – a witness, or one that was removed – logs
// nobody in.
func TestGossipGrantsNothing(t *testing.T) {
	m := grow(t, "eu")[0]
	cookies := login(t, m.app)
	require.NotEmpty(t, cookies)
	_, users := call(t, m.app, "GET", "/v1/users", "")
	user := users["items"].([]any)[0].(map[string]any)
	epoch, _ := user["epoch"].(float64)

	token := strings.Repeat("A", 43)
	sum := sha256.Sum256([]byte(token))
	now := time.Now().UTC()
	forged, err := json.Marshal(map[string]any{"sessions": []map[string]any{{"hash": hex.EncodeToString(sum[:]), "user_id": user["id"], "epoch": epoch, "created": now, "seen": now}}})
	require.NoError(t, err)

	gossip, err := os.ReadFile(m.cfg.DataDir + "/pki/gossip.key")
	require.NoError(t, err)
	identity, err := os.ReadFile(m.cfg.DataDir + "/pki/node.json")
	require.NoError(t, err)
	var node struct {
		ClusterID string `json:"cluster_id"`
	}
	require.NoError(t, json.Unmarshal(identity, &node))
	stranger, err := cluster.New(cluster.Config{NodeID: "01STRANGER", ClusterID: node.ClusterID, Bind: host + ":0", Key: gossip}, cluster.Deps{Seeds: func() []string { return []string{m.cfg.GossipListen} }})
	require.NoError(t, err)
	stranger.Part("sessions", cluster.Part{State: func() ([]byte, error) { return forged, nil }, Merge: func([]byte) error { return nil }})
	stranger.Update(func(m *model.Member) { m.Name, m.Role = "stranger", model.RoleServer })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- stranger.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()

	// What it says has been heard, in whatever way it was taken.
	heard := func() int {
		req, err := http.NewRequest("GET", m.app.URL()+"/metrics", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		n := 0
		for line := range bytes.Lines(b) {
			for _, name := range []string{`panoptes_cluster_messages_dropped_total{reason="unknown"}`, `panoptes_cluster_news_total{part="sessions",what="merged"}`} {
				var v float64
				if _, err := fmt.Sscanf(string(line), name+" %g", &v); err == nil {
					n += int(v)
				}
			}
		}
		return n
	}
	require.Eventually(t, func() bool {
		stranger.Broadcast("sessions", forged)
		return heard() >= 3
	}, 60*time.Second, 100*time.Millisecond)
	require.Equal(t, http.StatusUnauthorized, with(t, m.app, "GET", "/v1/me", &http.Cookie{Name: model.SessionCookie, Value: token}))
}

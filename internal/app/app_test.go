package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/config"
)

const key = "pnk_app_0123456789abcdef0123456789abcdef"

// server runs a whole server in this process on port 0.
func server(t *testing.T, dir string, change ...func(*config.Config)) (*app.App, func()) {
	t.Helper()
	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.DataDir = "n1", "eu", dir
	cfg.Listen, cfg.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.ClusterListen, cfg.GossipListen, cfg.ClientListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Probe.AllowLoopback = true
	cfg.Storage.MinFree, cfg.Storage.ControlReserve = 16<<20, 1<<20
	cfg.Access.APIKey, cfg.Access.AdminPassword = key, "a long enough password"
	for _, f := range change {
		f(&cfg)
	}
	a, err := app.New(context.Background(), cfg, app.Options{Version: "test", CheckControl: func(_ context.Context, dir string) error { return nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var stopped atomic.Bool
	stop := func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the server did not stop")
		}
	}
	t.Cleanup(stop)
	select {
	case <-a.Started():
	case err := <-done:
		require.FailNow(t, "the server ended", "%v", err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the server did not start")
	}
	return a, stop
}

func call(t *testing.T, a *app.App, method, path, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, a.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	out := map[string]any{}
	if len(data) > 0 && data[0] == '{' {
		require.NoError(t, json.Unmarshal(data, &out), "%s", data)
	}
	return resp.StatusCode, out
}

func statusOf(t *testing.T, a *app.App, name string) string {
	t.Helper()
	_, c := call(t, a, "GET", "/v1/checks/"+name, "")
	state, _ := c["state"].(map[string]any)
	s, _ := state["status"].(string)
	return s
}

// A check goes up, down and up again; its samples and its past are there, and
// a restart over the same directory remembers.
func TestServerFromEndToEnd(t *testing.T) {
	var broken atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	defer target.Close()
	dir := t.TempDir()
	a, stop := server(t, dir)

	require.Eventually(t, func() bool {
		code, _ := call(t, a, "GET", "/v1/me", "")
		return code == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond, "the key of the environment works")
	code, body := call(t, a, "POST", "/v1/checks", `{"name":"site","type":"http","target":"`+target.URL+`","interval":"1s","timeout":"500ms"}`)
	require.Equal(t, http.StatusCreated, code, body)
	id, _ := body["id"].(string)
	require.Eventually(t, func() bool { return statusOf(t, a, "site") == "up" }, 30*time.Second, 50*time.Millisecond)

	broken.Store(true)
	require.Eventually(t, func() bool { return statusOf(t, a, "site") == "down" }, 30*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		_, list := call(t, a, "GET", "/v1/alerts?q=alertname%3D~Check.*", "")
		items, _ := list["items"].([]any)
		return len(items) == 1
	}, 30*time.Second, 50*time.Millisecond, "an alert fires")

	stop()
	a, _ = server(t, dir)
	require.Equal(t, "down", statusOf(t, a, "site"), "the state is remembered")
	broken.Store(false)
	require.Eventually(t, func() bool { return statusOf(t, a, "site") == "up" }, 30*time.Second, 50*time.Millisecond)

	code, answer := call(t, a, "GET", "/api/v1/query?query=count_over_time(probe_success%7Bcheck%3D%22site%22%7D%5B5m%5D)", "")
	require.Equal(t, http.StatusOK, code, answer)
	require.Contains(t, mustJSON(t, answer), `"region":"eu"`)
	code, up := call(t, a, "GET", "/v1/checks/site/uptime", "")
	require.Equal(t, http.StatusOK, code)
	day := up["windows"].(map[string]any)["24h"].(map[string]any)
	require.EqualValues(t, 1, day["outages"])
	require.Positive(t, day["down"])
	code, bars := call(t, a, "GET", "/v1/checks/"+id+"/bars?range=1h&n=60", "")
	require.Equal(t, http.StatusOK, code)
	require.Len(t, bars["bars"], 60)
	require.Eventually(t, func() bool {
		_, events := call(t, a, "GET", "/v1/events?kind=state&subject=check/"+id, "")
		items, _ := events["items"].([]any)
		return len(items) >= 3
	}, 30*time.Second, 20*time.Millisecond, "up, down and up again are events")
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// A second server over the same directory is refused with the reason.
func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	server(t, dir)
	cfg := config.Default()
	cfg.DataDir, cfg.Listen = dir, "127.0.0.1:0"
	_, err := app.New(context.Background(), cfg, app.Options{})
	require.ErrorContains(t, err, "in use")
}

// With a damaged configuration store the server still watches by the last seen
// copy, and says why it refuses changes.
func TestWatchesWithoutConfigurationStore(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	dir := t.TempDir()
	a, stop := server(t, dir)
	require.Eventually(t, func() bool {
		code, _ := call(t, a, "POST", "/v1/checks", `{"name":"site","type":"http","target":"`+target.URL+`","interval":"1s","timeout":"500ms"}`)
		return code == http.StatusCreated
	}, 30*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool { return statusOf(t, a, "site") == "up" }, 30*time.Second, 50*time.Millisecond)
	stop()

	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.DataDir, cfg.Listen, cfg.PeerListen = "n1", "eu", dir, "127.0.0.1:0", "127.0.0.1:0"
	cfg.ClusterListen, cfg.GossipListen, cfg.ClientListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Probe.AllowLoopback = true
	cfg.Storage.MinFree = 16 << 20
	cfg.Access.APIKey = key
	broken, err := app.New(context.Background(), cfg, app.Options{CheckControl: func(context.Context, string) error { return io.ErrUnexpectedEOF }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- broken.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	<-broken.Started()
	require.Eventually(t, func() bool { return statusOf(t, broken, "site") == "up" }, 30*time.Second, 50*time.Millisecond)
	code, answer := call(t, broken, "POST", "/v1/checks", `{"name":"x","type":"tcp","target":"127.0.0.1:1"}`)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, mustJSON(t, answer), "damaged")
}

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/cli"
	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/test/harness"
)

// Labels of nodes and hosts are set and taken away, by the API and by commands.
func TestLabelsAreTakenAway(t *testing.T) {
	const key = "pnk_labels_0123456789abcdef0123456789abcdef"
	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.DataDir = "n1", "eu", t.TempDir()
	for _, addr := range []*string{&cfg.Listen, &cfg.PeerListen, &cfg.ClusterListen, &cfg.GossipListen, &cfg.ClientListen} {
		*addr = harness.FreeAddr(t, "127.0.0.1")
	}
	cfg.Storage.MinFree, cfg.Storage.ControlReserve = 16<<20, 1<<20
	cfg.Access.APIKey, cfg.Access.AdminPassword = key, "a long enough password"
	a, err := app.New(t.Context(), cfg, app.Options{Version: "test", CheckControl: func(context.Context, string) error { return nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool {
		resp, err := http.Get(a.URL() + "/-/ready")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 60*time.Second, 50*time.Millisecond)

	do := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := cli.Main(t.Context(), args, cli.IO{In: &bytes.Buffer{}, Out: &out, Err: &errs, Env: []string{"PANOPTES_SERVER=" + a.URL(), "PANOPTES_API_KEY=" + key, "HOME=" + t.TempDir()}})
		require.Zero(t, code, errs.String())
		return out.String()
	}
	call := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequest(method, a.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	want := func(path string, want map[string]string) {
		t.Helper()
		var got map[string]string
		defer func() { require.True(t, maps.Equal(want, got), "%v", got) }()
		require.Eventually(t, func() bool {
			req, err := http.NewRequest("GET", a.URL()+path, nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+key)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			var one struct{ Labels map[string]string }
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&one))
			got = one.Labels
			return maps.Equal(want, got)
		}, 30*time.Second, 20*time.Millisecond)
	}

	call("PATCH", "/v1/nodes/n1", `{"labels":{"rack":"7","old":"x"}}`)
	want("/v1/nodes/n1", map[string]string{"rack": "7", "old": "x"})
	call("PATCH", "/v1/nodes/n1", `{"labels":{"rack":"8"}}`)
	want("/v1/nodes/n1", map[string]string{"rack": "8"})
	call("PATCH", "/v1/nodes/n1", `{"labels":{}}`)
	want("/v1/nodes/n1", map[string]string{})

	_, _, err = pki.Join(t.Context(), pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), Name: "web-1", Region: "eu", Role: model.RoleAgent},
		pki.JoinRequest{Addr: cfg.ClusterListen, Token: strings.TrimSpace(do("token", "create", "--quiet", "--role", "agent")), Version: "test"}, pki.Deps{})
	require.NoError(t, err)
	do("host", "labels", "web-1", "rack=7", "old=x")
	want("/v1/hosts/web-1", map[string]string{"rack": "7", "old": "x"})
	do("host", "labels", "web-1", "team=web", "old-")
	want("/v1/hosts/web-1", map[string]string{"rack": "7", "team": "web"})
	call("POST", "/v1/hosts/bulk", `{"ids":["web-1"],"remove_labels":["rack","team"]}`)
	want("/v1/hosts/web-1", map[string]string{})
}

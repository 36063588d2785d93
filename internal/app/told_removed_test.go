package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
)

// A server that keeps no configuration itself was removed while it was off.
func TestRemovedWhileOff(t *testing.T) {
	c := grow(t, "eu", "us")
	require.NoError(t, c[1].end())
	code, body := call(t, c[0].app, "DELETE", "/v1/nodes/n2?force=true", "")
	require.Equal(t, http.StatusNoContent, code, body)
	dir := c[1].cfg.DataDir
	welcome, err := json.Marshal(map[string]any{"clients": []string{c[0].cfg.ClientListen}, "seeds": []string{c[0].cfg.GossipListen}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pki", "welcome.json"), welcome, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "control")))

	a, err := app.New(t.Context(), c[1].cfg, app.Options{Version: "1.0.0", CheckControl: func(context.Context, string) error { return nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	select {
	case err := <-done:
		require.ErrorContains(t, err, "was removed from the cluster")
	case <-time.After(time.Minute):
		cancel()
		<-done
		require.FailNow(t, "the removed server goes on")
	}
}

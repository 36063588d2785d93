package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

// running is a server or witness that runs until the test ends.
func running(t *testing.T, cfg config.Config) *App {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := New(ctx, cfg, Options{Version: "1.0.0", CheckControl: func(context.Context, string) error { return nil }})
	if err != nil {
		cancel()
	}
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return a
}

// A witness looks after its configuration store as a server does: one that died
// of a full disk comes back.
func TestWitnessLooksAtItsStore(t *testing.T) {
	settings := func(name string) config.Config {
		cfg := config.Default()
		cfg.Node, cfg.Region, cfg.DataDir, cfg.Bind = name, "eu", t.TempDir(), "127.0.0.54"
		for _, addr := range []*string{&cfg.Listen, &cfg.PeerListen, &cfg.ClusterListen, &cfg.GossipListen, &cfg.ClientListen} {
			*addr = harness.FreeAddr(t, cfg.Bind)
		}
		cfg.Storage.MinFree, cfg.Storage.ControlReserve = 16<<20, 1<<20
		return cfg
	}
	first := settings("n1")
	a := running(t, first)
	var token string
	require.Eventually(t, func() (ok bool) {
		_, plain, err := clusterForAPI{a}.NewToken(t.Context(), "admin", model.Token{Role: model.RoleServer, Uses: 1, Expires: time.Now().Add(time.Hour)})
		token = plain
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	cfg := settings("w")
	cfg.Witness, cfg.Join, cfg.Token = true, first.ClusterListen, model.Secret(token)
	w := running(t, cfg)
	require.Eventually(t, func() bool { return len(w.controlMembers()) == 2 }, 30*time.Second, 50*time.Millisecond)
}

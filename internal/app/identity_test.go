package app_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/backup"
	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

// A start that was killed leaves the first files of an identity; the next start
// goes on from there.
var (
	founding = []string{"node.key", "begun", "node.crt", "roots.pem", "ca.key", "ca.crt", "gossip.key", "node.json"}
	joining  = []string{"node.key", "begun", "gossip.key", "roots.pem", "ca.key", "ca.crt", "node.crt", "node.json", "../seal.key", "welcome.json"}
)

// cutOff makes a data directory with the first files of the identity in dir.
func cutOff(t *testing.T, dir string, files []string) string {
	t.Helper()
	out := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(out, "pki"), 0o700))
	for _, f := range files {
		from := f
		if f == "begun" { // as it is before the cluster is known
			from = "node.json"
		}
		data, err := os.ReadFile(filepath.Join(dir, "pki", from))
		require.NoError(t, err)
		if f == "begun" {
			var m map[string]any
			require.NoError(t, json.Unmarshal(data, &m))
			delete(m, "cluster_id")
			delete(m, "joined")
			data, err = json.Marshal(m)
			require.NoError(t, err)
		}
		require.NoError(t, os.WriteFile(filepath.Join(out, "pki", from), data, 0o600))
	}
	return out
}

// opened opens a server over dir and closes it again.
func opened(t *testing.T, cfg config.Config, dir string) error {
	t.Helper()
	cfg.DataDir = dir
	a, err := app.New(t.Context(), cfg, app.Options{Version: "1.0.0", CheckControl: func(context.Context, string) error { return nil }})
	if err == nil {
		require.NoError(t, a.Close())
	}
	return err
}

func TestFoundingGoesOnAfterACrash(t *testing.T) {
	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.Storage.MinFree, cfg.Storage.ControlReserve = "n1", "eu", 16<<20, 1<<20
	for _, addr := range []*string{&cfg.Listen, &cfg.PeerListen, &cfg.ClusterListen, &cfg.GossipListen, &cfg.ClientListen} {
		*addr = "127.0.0.1:0"
	}
	whole := t.TempDir()
	require.NoError(t, opened(t, cfg, whole))
	for n := range len(founding) + 1 {
		require.NoError(t, opened(t, cfg, cutOff(t, whole, founding[:n])), "after %v", founding[:n])
	}
	// Files that are gone from a complete identity are no crash.
	require.ErrorContains(t, opened(t, cfg, cutOff(t, whole, []string{"node.key", "roots.pem"})), "node.json")
}

func TestJoiningGoesOnAfterACrash(t *testing.T) {
	c := grow(t, "eu")
	cfg := settings(t, "n2", "us")
	invite(t, c[0], &cfg)
	whole := t.TempDir()
	require.NoError(t, opened(t, cfg, whole))
	for n := 2; n <= len(joining); n++ {
		require.NoError(t, opened(t, cfg, cutOff(t, whole, joining[:n])), "after %v", joining[:n])
	}
}

// A server that could not take part does not join, and its token stays good.
func TestJoiningNeedsItsPorts(t *testing.T) {
	c := grow(t, "eu")
	cfg := settings(t, "n2", "us")
	invite(t, c[0], &cfg)
	for field, addr := range map[string]string{"peer_listen": cfg.PeerListen, "client_listen": cfg.ClientListen, "gossip_listen": cfg.GossipListen} {
		other, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		require.ErrorContains(t, opened(t, cfg, t.TempDir()), "address already in use (another program has the port: end it, or choose others with --port-offset or "+field)
		require.NoError(t, other.Close())
	}
	_, list := call(t, c[0].app, "GET", "/v1/nodes", "")
	require.Len(t, list["items"], 1)
	require.NoError(t, opened(t, cfg, t.TempDir()))
}

// A server that was let in but never heard of the others founds nothing.
func TestJoiningIsNotForgotten(t *testing.T) {
	c := grow(t, "eu")
	cfg := settings(t, "n2", "us")
	invite(t, c[0], &cfg)
	whole := t.TempDir()
	require.NoError(t, opened(t, cfg, whole))
	alone := cfg
	alone.Join, alone.Token = "", ""
	require.NoError(t, opened(t, alone, whole), "it has joined")
	for _, n := range []int{len(joining) - 2, len(joining) - 1} {
		dir := cutOff(t, whole, joining[:n])
		require.ErrorContains(t, opened(t, alone, dir), "--join")
		require.NoError(t, opened(t, cfg, dir))
		require.NoError(t, opened(t, alone, dir))
	}
}

// The backup of a server that asked others for the configuration holds all of
// it, and the server that is restored keeps it itself.
func TestRestoredClientKeepsTheConfiguration(t *testing.T) {
	m := &member{t: t, cfg: settings(t, "n6", "eu")}
	m.start()
	require.NoError(t, m.end())
	m.cfg.Access.AdminPassword = ""
	welcome, err := json.Marshal(map[string]any{"clients": []string{harness.FreeAddr(t, host)}, "seeds": []string{harness.FreeAddr(t, host)}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(m.cfg.DataDir, "pki", "welcome.json"), welcome, 0o600))
	m.start()
	t.Cleanup(func() { _ = m.end() })
	require.Eventually(t, func() bool {
		code, _ := call(t, m.app, "POST", "/v1/regions", `{"name":"kept"}`)
		return code == http.StatusCreated
	}, 30*time.Second, 100*time.Millisecond)
}

// A backup that is started while other servers of its cluster run would have a
// configuration of its own.
func TestRestoredBesideTheOthersIsRefused(t *testing.T) {
	c := grow(t, "eu", "us")
	require.NoError(t, c[0].end())
	dir := c[0].cfg.DataDir
	require.NoError(t, os.WriteFile(filepath.Join(dir, backup.QuietName), []byte(`{"backup":"b"}`), 0o600))
	require.ErrorContains(t, opened(t, c[0].cfg, dir), "panoptes node remove n1")
	require.NoError(t, c[1].end())
	require.NoError(t, opened(t, c[0].cfg, dir), "nobody else is there")
}

// called is a log that calls once a text is written to it.
type called struct {
	text string
	call func()
}

func (c called) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.text) {
		c.call()
	}
	return len(b), nil
}

// Two are on their way into the configuration store and never arrive: the third
// waits for its turn.
func TestJoiningWaitsForOthers(t *testing.T) {
	c := grow(t, "eu")
	for _, name := range []string{"n2", "n3"} {
		cfg := settings(t, name, "eu")
		invite(t, c[0], &cfg)
		require.NoError(t, opened(t, cfg, cfg.DataDir))
	}
	cfg := settings(t, "n4", "eu")
	invite(t, c[0], &cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := slog.New(slog.NewTextHandler(called{"on their way", cancel}, nil))
	_, err := app.New(ctx, cfg, app.Options{Version: "1.0.0", Logger: log})
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.Error(t, ctx.Err(), "it was trying still")
}

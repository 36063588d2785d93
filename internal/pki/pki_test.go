package pki_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
)

func TestFirstServer(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("n0", model.RoleServer)
	_, err := pki.Open(cfg, pki.Deps{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	p, err := pki.Create(cfg, pki.Deps{})
	require.NoError(t, err)
	require.Len(t, p.GossipKey(), 32)
	_, err = pki.Create(cfg, pki.Deps{})
	require.ErrorIs(t, err, fs.ErrExist, "an identity is not overwritten")
	again, err := pki.Open(cfg, pki.Deps{})
	require.NoError(t, err)
	require.Equal(t, p.NodeID(), again.NodeID())
	require.Equal(t, p.ClusterID(), again.ClusterID())
	require.Equal(t, p.GossipKey(), again.GossipKey())
	require.Equal(t, p.KeyHash(), again.KeyHash())
	files, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		i, err := f.Info()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), i.Mode().Perm(), f.Name())
	}
	require.Equal(t, []string{"ca.crt", "ca.key", "gossip.key", "node.crt", "node.json", "node.key", "roots.pem"}, names)
	cfg.Role = model.RoleWitness
	cfg.Dir = t.TempDir()
	_, err = pki.Create(cfg, pki.Deps{})
	require.ErrorContains(t, err, "start a server first")
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	open := func(change func(*pki.Config)) error {
		cfg := w.config("n0", model.RoleServer)
		_, err := pki.Create(cfg, pki.Deps{})
		require.NoError(t, err)
		change(&cfg)
		_, err = pki.Open(cfg, pki.Deps{})
		return err
	}
	require.ErrorContains(t, open(func(c *pki.Config) { c.Name = "other" }), `belongs to the node "n0"`)
	require.ErrorContains(t, open(func(c *pki.Config) { c.Role = model.RoleWitness }), "belongs to a server")
	require.NoError(t, open(func(c *pki.Config) { c.Region = "us" }))
	for _, name := range []string{"node.key", "roots.pem", "ca.crt", "ca.key", "gossip.key"} {
		for _, content := range []string{"", "garbage"} {
			err := open(func(c *pki.Config) {
				require.NoError(t, os.WriteFile(filepath.Join(c.Dir, name), []byte(content), 0o600))
			})
			require.ErrorContains(t, err, name)
			require.ErrorContains(t, err, "join again")
		}
		err := open(func(c *pki.Config) { require.NoError(t, os.Remove(filepath.Join(c.Dir, name))) })
		require.ErrorContains(t, err, name)
		require.NotErrorIs(t, err, fs.ErrNotExist, "a node that lost a file is no new node")
	}
	require.NoError(t, open(func(c *pki.Config) { require.NoError(t, os.Remove(filepath.Join(c.Dir, "node.crt"))) }), "a server makes itself a new one")
	require.NoError(t, open(func(c *pki.Config) {
		require.NoError(t, os.Chmod(filepath.Join(c.Dir, "ca.key"), 0o644))
		t.Cleanup(func() {
			i, err := os.Stat(filepath.Join(c.Dir, "ca.key"))
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), i.Mode().Perm())
		})
	}))
}

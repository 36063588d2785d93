package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/config"
	"panoptes/internal/model"
)

func TestLoadDefaults(t *testing.T) {
	cfg, err := config.Load("", nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9700", cfg.Listen)
	require.Equal(t, 30*24*time.Hour, cfg.Storage.RetentionTime.D())
}

func TestFileThenEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "panoptes.yml")
	require.NoError(t, os.WriteFile(path, []byte("node: a\nport_offset: 100\nstorage:\n  retention_time: 7d\n  min_free: 1GB\nprobe: {references: ['127.0.0.1:53']}\n"), 0o600))
	cfg, err := config.Load(path, []string{
		"PANOPTES_NODE=b", "PANOPTES_STORAGE_RETENTION_SIZE=10GB", "PANOPTES_PROBE_ALLOW_LOOPBACK=true",
		"PANOPTES_PROBE_REFERENCES=127.0.0.1:1,127.0.0.1:2", "PANOPTES_ADMIN_PASSWORD=hunter2", "PATH=/bin",
	})
	require.NoError(t, err)
	require.Equal(t, "b", cfg.Node)
	require.Equal(t, 7*24*time.Hour, cfg.Storage.RetentionTime.D())
	require.Equal(t, config.Bytes(1<<30), cfg.Storage.MinFree)
	require.Equal(t, config.Bytes(10<<30), cfg.Storage.RetentionSize)
	require.True(t, cfg.Probe.AllowLoopback)
	require.Equal(t, []string{"127.0.0.1:1", "127.0.0.1:2"}, cfg.Probe.References)
	require.Equal(t, "hunter2", cfg.Access.AdminPassword.Reveal())
	require.Equal(t, "127.0.0.1:9800", cfg.Addr(cfg.Listen))
}

// All faults of a file are reported at once, each with its line.
func TestFaults(t *testing.T) {
	_, err := config.Parse("p.yml", []byte(`node: "!"
lissten: 127.0.0.1:9700
storage:
  retention_time: 7
  retention_size: big
  min_free: -1
query:
  max_concurrent: many
log: loud
node: again
apply: [does-not-exist.yml]
`), []string{"PANOPTES_PORT_OFFSET=x"})
	require.Error(t, err)
	for _, want := range []string{
		`p.yml:1: node: must be 1 to 128`,
		`p.yml:2: lissten: there is no such key; known here: node, region`,
		`p.yml:4: storage.retention_time: "7" is not a duration; write for example 20s`,
		`p.yml:5: storage.retention_size: "big" is not a size; write for example 512MB`,
		`p.yml:6: storage.min_free: must not be negative`,
		`p.yml:8: query.max_concurrent: "many" must be a whole number`,
		`p.yml:9: log: must be a mapping`,
		`p.yml:10: node: stands here twice`,
		`p.yml:11: apply[0]: cannot be read`,
		`PANOPTES_PORT_OFFSET: "x" must be a whole number`,
	} {
		require.Contains(t, err.Error(), want)
	}
	var f config.Fault
	require.True(t, errors.As(err, &f))
}

func TestEachListenerHasItsPort(t *testing.T) {
	for text, want := range map[string]string{
		"peer_listen: 10.0.0.1:9701\ncluster_listen: 10.0.0.1:9701\n": "p.yml:1: peer_listen: has the port of cluster_listen; each needs its own",
		"listen: :9704\n":              "listen: has the port of client_listen",
		"listen: 0.0.0.0:9702\n":       "listen: has the port of gossip_listen",
		"gossip_listen: '[::]:9701'\n": "p.yml:1: gossip_listen: has the port of cluster_listen",
	} {
		_, err := config.Parse("p.yml", []byte(text), nil)
		require.ErrorContains(t, err, want)
	}
	_, err := config.Parse("p.yml", []byte("listen: 127.0.0.2:9701\npeer_listen: 127.0.0.1:0\nclient_listen: 127.0.0.1:0\n"), nil)
	require.NoError(t, err)
}

func TestBrokenYAML(t *testing.T) {
	_, err := config.Parse("p.yml", []byte("node: a\n\tb: c\n"), nil)
	require.ErrorContains(t, err, "p.yml:2:")
	_, err = config.Parse("p.yml", []byte("node: a\n---\nnode: b\n"), nil)
	require.ErrorContains(t, err, "more than one document")
}

func TestBytes(t *testing.T) {
	f := func(text string, want config.Bytes) {
		t.Helper()
		var b config.Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)))
		require.Equal(t, want, b)
		var again config.Bytes
		require.NoError(t, again.UnmarshalText([]byte(b.String())))
		require.Equal(t, b, again)
	}
	f("0", 0)
	f("512MB", 512<<20)
	f("10 gb", 10<<30)
	f("123", 123)
}

func FuzzParse(f *testing.F) {
	f.Add("node: a\nstorage: {retention_time: 7d}\n", "PANOPTES_NODE=x")
	f.Add("a: &a [*a]\n", "")
	f.Add("? [a]\n: b\n", "PANOPTES_TLS=x")
	f.Fuzz(func(t *testing.T, text, env string) {
		cfg, err := config.Parse("f", []byte(text), []string{env})
		if err == nil {
			if strings.TrimSpace(cfg.Node) == "" {
				t.Fatal("a valid configuration has a node name")
			}
			var inv model.Invalid
			if verr := cfg.Validate(); errors.As(verr, &inv) {
				t.Fatal(verr)
			}
		}
	})
}

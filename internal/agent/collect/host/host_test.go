package host

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

func collect(t *testing.T, c metric.Collector) (map[string]float64, error) {
	t.Helper()
	b := metric.NewBatch(1000)
	b.Reset(1)
	err := c.Collect(t.Context(), b)
	m := map[string]float64{}
	for _, s := range b.Samples() {
		m[s.Labels.String()] = s.V
	}
	return m, err
}

func TestPathsDoNotFollowLinks(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(root+"/data/in", 0o755))
	require.NoError(t, os.WriteFile(root+"/data/in/f", []byte("12345"), 0o644))
	require.NoError(t, os.Symlink(root+"/data", root+"/data/in/loop"))
	require.NoError(t, os.Symlink(root+"/data/in/loop2", root+"/data/in/loop2"))
	m, err := collect(t, NewPaths(source.Tree{Root: root}, []string{"/data", "/data/in/*", "/none"}))
	require.NoError(t, err)
	require.Equal(t, 5., m[`{__name__="panoptes_agent_path_bytes", path="/data"}`])
	require.Equal(t, 3., m[`{__name__="panoptes_agent_path_files", path="/data"}`])
	require.Equal(t, 5., m[`{__name__="panoptes_agent_path_bytes", path="/data/in/f"}`])
	require.Equal(t, 0., m[`{__name__="panoptes_agent_path_exists", path="/none"}`])

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := metric.NewBatch(10)
	require.Error(t, NewPaths(source.Tree{Root: root}, []string{"/data"}).Collect(ctx, b))
	require.Empty(t, b.Samples(), "half a sum is not reported")
}

func TestUsersOfUtmp(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(root+"/var/run", 0o755))
	b := make([]byte, 3*384)
	binary.NativeEndian.PutUint16(b, 7)
	binary.NativeEndian.PutUint16(b[384:], 8)
	binary.NativeEndian.PutUint16(b[768:], 7)
	require.NoError(t, os.WriteFile(root+"/var/run/utmp", b, 0o644))
	m, err := collect(t, NewUsers(source.Tree{Root: root}))
	require.NoError(t, err)
	require.Equal(t, 2., m[`{__name__="panoptes_agent_users_logged_in"}`])
}

func TestUpdates(t *testing.T) {
	root := t.TempDir()
	answers := map[string]string{"apt-get": "NOTE: simulation\nInst openssl [1] (2 Debian-Security:12/stable [amd64])\nInst vim [1] (2 Debian:12 [amd64])\nConf vim\n"}
	run := func(_ context.Context, name string, _ ...string) ([]byte, error) {
		if a, ok := answers[name]; ok {
			if name == "dnf" {
				return []byte(a), &source.ErrExit{Name: name, Code: 100}
			}
			return []byte(a), nil
		}
		return nil, metric.ErrAbsent
	}
	require.NoError(t, os.MkdirAll(root+"/lib/modules/6.1", 0o755))
	c := NewUpdates(source.Tree{Root: root}, run, "6.1")
	m, err := collect(t, c)
	require.NoError(t, err)
	require.Equal(t, 2., m[`{__name__="panoptes_agent_updates_pending", kind="all", manager="apt-get"}`])
	require.Equal(t, 1., m[`{__name__="panoptes_agent_updates_pending", kind="security", manager="apt-get"}`])
	require.Equal(t, 0., m[`{__name__="node_reboot_required"}`])

	require.NoError(t, os.Rename(root+"/lib/modules/6.1", root+"/lib/modules/6.2"))
	delete(answers, "apt-get")
	answers["dnf"] = "\nkernel.x86_64   6.2   updates\nbash.x86_64 5 updates\nObsoleting Packages\nold.noarch 1 updates\n"
	m, err = collect(t, c)
	require.NoError(t, err)
	require.Equal(t, 2., m[`{__name__="panoptes_agent_updates_pending", kind="all", manager="dnf"}`])
	require.Equal(t, 1., m[`{__name__="node_reboot_required"}`], "the running kernel's modules are gone")

	answers = map[string]string{}
	_, err = collect(t, c)
	require.ErrorIs(t, err, metric.ErrAbsent)
}

// The package manager is asked again when its files have changed, not before.
func TestUpdatesAreAskedForOnce(t *testing.T) {
	root, asked := t.TempDir(), 0
	pending := "Inst vim [1] (2 Debian:12 [amd64])\n"
	run := func(_ context.Context, name string, _ ...string) ([]byte, error) {
		if name != "apt-get" {
			return nil, metric.ErrAbsent
		}
		asked++
		return []byte(pending), nil
	}
	status := root + "/var/lib/dpkg/status"
	require.NoError(t, os.MkdirAll(root+"/var/lib/dpkg", 0o755))
	require.NoError(t, os.WriteFile(status, []byte("Package: vim\n"), 0o644))
	c := NewUpdates(source.Tree{Root: root}, run, "")
	all := `{__name__="panoptes_agent_updates_pending", kind="all", manager="apt-get"}`
	for range 3 {
		m, err := collect(t, c)
		require.NoError(t, err)
		require.Equal(t, 1., m[all])
	}
	require.Equal(t, 1, asked)
	pending = ""
	require.NoError(t, os.WriteFile(status, []byte("Package: vim\nVersion: 2\n"), 0o644))
	m, err := collect(t, c)
	require.NoError(t, err)
	require.Equal(t, 0., m[all])
	require.Equal(t, 2, asked)
}

func FuzzCountUtmp(f *testing.F) {
	f.Add(make([]byte, 384))
	f.Add([]byte(strings.Repeat("\x07\x00", 400)))
	f.Fuzz(func(t *testing.T, b []byte) { require.LessOrEqual(t, countUtmp(b), len(b)/384+1) })
}

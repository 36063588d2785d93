package control_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

func TestRestore(t *testing.T) {
	c, stop := start(t, control.Config{Dir: t.TempDir(), NodeID: "a", ClusterID: "x"}, control.Deps{})
	for i := range 30 {
		_, err := c.Put(t.Context(), fmt.Sprintf("k/%d", i%10), []byte(fmt.Sprint(i)), -1)
		require.NoError(t, err)
	}
	kv, err := c.Get(t.Context(), "k/3")
	require.NoError(t, err)
	_, err = c.Delete(t.Context(), "k/3", kv.Revision)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "snapshot")
	f, err := os.Create(path)
	require.NoError(t, err)
	rev, err := c.Snapshot(t.Context(), f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = c.Put(t.Context(), "k/later", []byte("x"), 0)
	require.NoError(t, err)
	stop()

	dir := t.TempDir()
	cfg := control.Config{Dir: dir, NodeID: "b", ClusterID: "y", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20}
	r, err := control.Restore(t.Context(), cfg, path, nil)
	require.NoError(t, err)
	require.Equal(t, 9, r.Keys)
	require.Greater(t, r.Revision, rev)
	_, err = control.Restore(t.Context(), cfg, path, nil)
	require.ErrorIs(t, err, model.ErrConflict)

	n, _ := start(t, cfg, control.Deps{})
	list, now, err := n.List(t.Context(), "k/")
	require.NoError(t, err)
	require.Len(t, list, 9)
	require.GreaterOrEqual(t, now, r.Revision)
	for _, kv := range list {
		require.NotEqual(t, "k/3", kv.Key)
		require.Equal(t, fmt.Sprint(20+int(kv.Key[2]-'0')), string(kv.Value))
	}

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err = control.Restore(t.Context(), control.Config{Dir: t.TempDir(), NodeID: "c", ClusterID: "z"}, path, nil)
	require.ErrorIs(t, err, model.ErrDamaged)
	require.NoError(t, os.WriteFile(path, data[:1000], 0o600))
	_, err = control.Restore(t.Context(), control.Config{Dir: t.TempDir(), NodeID: "c", ClusterID: "z"}, path, nil)
	require.ErrorIs(t, err, model.ErrDamaged)
}

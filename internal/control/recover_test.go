package control_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
)

// The second of two servers has no vote, and is all that is left.
func TestRecoverOneWithoutAVote(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	put(t, n1, "gone")
	cl.everywhere("gone")
	n2.stop()
	older, err := os.ReadFile(dbFile(n2.cfg.Dir))
	require.NoError(t, err)
	n2 = cl.run(n2.cfg)
	kv, err := n1.ctl.Get(t.Context(), "gone")
	require.NoError(t, err)
	_, err = n1.ctl.Delete(t.Context(), "gone", kv.Revision)
	require.NoError(t, err)
	rev := put(t, n1, "kept")
	cl.everywhere("kept")
	n2.stop()
	n1.stop()
	// As after a crash: the log has what the database has not.
	require.NoError(t, os.WriteFile(dbFile(n2.cfg.Dir), older, 0o600))

	got, err := control.Recover(t.Context(), n2.cfg, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"n1"}, got.Removed)
	require.Greater(t, got.Revision, rev)
	require.DirExists(t, got.Copy)
	// As if the power had failed between the old store and the new one.
	dir := n2.cfg.Dir
	require.NoError(t, os.Mkdir(filepath.Join(dir, "recovered"), 0o700))
	require.NoError(t, os.Rename(filepath.Join(dir, "member"), filepath.Join(dir, "recovered", "member")))
	require.ErrorContains(t, control.CheckDir(dir), "run it again", "a start must not found another store")
	got, err = control.Recover(t.Context(), n2.cfg, nil)
	require.NoError(t, err)
	require.Empty(t, got.Removed)

	delete(cl.nodes, "n1")
	n2 = cl.run(n2.cfg)
	require.True(t, n2.has("kept"))
	require.False(t, n2.has("gone"))
	require.Greater(t, put(t, n2, "writable"), rev)
	cl.voters(n2, 1)
	cl.join(n2, "n3")
	cl.join(n2, "n4")
	cl.voters(n2, 3)
	cl.everywhere("kept")
	for _, name := range []string{"recovering", "recovered"} {
		require.NoFileExists(t, filepath.Join(dir, name))
	}
}

func TestRecoverTheFourthOfFour(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n1, 3)
	n4 := cl.join(n1, "n4")
	put(t, n1, "kept")
	cl.everywhere("kept")
	for _, id := range []string{"n4", "n1", "n2", "n3"} {
		cl.nodes[id].stop()
	}
	got, err := control.Recover(context.Background(), n4.cfg, nil)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"n1", "n2", "n3"}, got.Removed)
	n4 = cl.run(n4.cfg)
	require.True(t, n4.has("kept"))
	put(t, n4, "writable")
}

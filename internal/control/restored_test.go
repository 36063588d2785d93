package control_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
)

// A store that was restored beside the others is not taken for the member that
// it was.
func TestAnotherStoreIsNoHealthyMember(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n1, 3)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	f, err := os.Create(snapshot)
	require.NoError(t, err)
	_, err = n1.ctl.Snapshot(t.Context(), f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	n1.stop()
	cfg := n1.cfg
	require.NoError(t, os.RemoveAll(cfg.Dir))
	_, err = control.Restore(t.Context(), config(cfg.Dir), snapshot, nil)
	require.NoError(t, err)
	cl.run(cfg)
	require.Eventually(t, func() bool {
		ms, err := n2.ctl.Members(t.Context())
		m := member(t, ms, "n1")
		return err == nil && !m.Healthy && m.Note != "" && m.Note[:5] == "keeps"
	}, 30*time.Second, 50*time.Millisecond)
}

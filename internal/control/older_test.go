package control_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A disk or a machine that was set back to an earlier state.
func TestOlderFilesAreNoticed(t *testing.T) {
	f := newFamily(t, 3)
	n3 := f.kids["n3"]
	n3.stop()
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(n3.cfg.Dir)))
	n3 = spawn(t, n3.cfg).ready()
	for i := range 20 {
		n3.must(request{Do: "put", Key: fmt.Sprintf("k%d", i), Value: "v"})
	}
	n3.stop()
	require.NoError(t, os.RemoveAll(n3.cfg.Dir))
	require.NoError(t, os.CopyFS(n3.cfg.Dir, os.DirFS(old)))
	require.NoError(t, checkDir(t, n3.cfg.Dir), "nothing is to be seen yet")

	n3 = spawn(t, n3.cfg)
	require.Eventually(t, func() bool {
		_, err := n3.do(request{Do: "writable", Timeout: time.Second})
		return err != nil && strings.Contains(err.Error(), "older")
	}, 30*time.Second, 50*time.Millisecond, "the process goes on and says why")
	n3.kill()
	require.ErrorContains(t, checkDir(t, n3.cfg.Dir), "older", "the next start is told")
	f.kids["n1"].must(request{Do: "put", Key: "after", Value: "v"})
}

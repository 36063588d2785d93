package control_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

// checkDir runs CheckDir in a child process.
func checkDir(t *testing.T, dir string) error {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), checkDirEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestCheckDirFindsDamage(t *testing.T) {
	sound := t.TempDir()
	require.NoError(t, checkDir(t, sound), "an empty directory is a new member")
	c, stop := start(t, config(sound), control.Deps{})
	for i := range 200 {
		_, err := c.Put(t.Context(), fmt.Sprintf("k%d", i), bytes.Repeat([]byte("v"), 2000), model.KVAny)
		require.NoError(t, err)
	}
	stop()
	require.NoError(t, checkDir(t, sound))

	f := func(name string, damage func(t *testing.T, dir string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(sound)))
			require.NoError(t, checkDir(t, dir))
			damage(t, dir)
			require.Error(t, checkDir(t, dir))
		})
	}
	f("flipped bytes in the log", func(t *testing.T, dir string) { flip(t, segment(t, dir), 100_000, 64) })
	f("empty log", func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segment(t, dir), 0)) })
	f("log missing", func(t *testing.T, dir string) { require.NoError(t, os.Remove(segment(t, dir))) })
	f("database cut", func(t *testing.T, dir string) { require.NoError(t, os.Truncate(dbFile(dir), 8192)) })
	f("database empty", func(t *testing.T, dir string) { require.NoError(t, os.Truncate(dbFile(dir), 0)) })
	f("database missing", func(t *testing.T, dir string) { require.NoError(t, os.Remove(dbFile(dir))) })
	f("database overwritten", func(t *testing.T, dir string) {
		st, err := os.Stat(dbFile(dir))
		require.NoError(t, err)
		flip(t, dbFile(dir), 0, int(st.Size()))
	})
}

func segment(t *testing.T, dir string) string {
	files, err := fs.Glob(os.DirFS(dir), "member/wal/*.wal")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return filepath.Join(dir, files[0])
}

func dbFile(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

func flip(t *testing.T, name string, off int64, n int) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	buf := make([]byte, n)
	_, err = f.ReadAt(buf, off)
	require.NoError(t, err)
	for i := range buf {
		buf[i] ^= 0x5a
	}
	_, err = f.WriteAt(buf, off)
	require.NoError(t, err)
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// freeOffset returns an offset at which the ports of the demo, or of some
// servers, are free until the test ends.
func freeOffset(t *testing.T) int {
	t.Helper()
	offset, release, err := harness.FreeOffset(100)
	require.NoError(t, err)
	t.Cleanup(release)
	return offset
}

// The demo brings up three servers that watch, says how to reach them, and
// leaves nothing behind.
func TestDemo(t *testing.T) {
	bin := harness.Binary(t)
	tmp := t.TempDir()
	offset := freeOffset(t)
	out := &harness.LogBuffer{}
	cmd := exec.Command(bin, "demo", "--port-offset", fmt.Sprint(offset))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Ctrl-C ends everything") }, 3*time.Minute, 100*time.Millisecond, "%s", out)

	key := regexp.MustCompile(`PANOPTES_API_KEY=(\S+)`).FindStringSubmatch(out.String())[1]
	ask := func(server int, args ...string) string {
		c := exec.Command(bin, args...)
		c.Env = append(os.Environ(), fmt.Sprintf("PANOPTES_SERVER=http://127.0.0.1:%d", 9700+offset+10*server), "PANOPTES_API_KEY="+key)
		text, err := c.CombinedOutput()
		if err != nil {
			return err.Error() + "\n" + string(text)
		}
		return string(text)
	}
	alive := regexp.MustCompile(`(?m)^n\d .* alive `)
	require.Eventually(t, func() bool { return len(alive.FindAllString(ask(2, "node", "list"), -1)) == 3 }, 30*time.Second, 200*time.Millisecond)
	require.Contains(t, ask(1, "get", "checks"), "Sample moody")

	pids := regexp.MustCompile(`n\d \(\w+\) is process (\d+)`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, pids, 3)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	select {
	case err := <-ended:
		require.NoError(t, err, "%s", out)
	case <-time.After(time.Minute):
		require.FailNow(t, "the demo did not end", "%s", out)
	}
	left, err := filepath.Glob(filepath.Join(tmp, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "the scratch directory is gone")
	for _, p := range pids {
		_, err := os.Stat("/proc/" + p[1])
		require.ErrorIs(t, err, os.ErrNotExist, "process %s is gone", p[1])
	}
}

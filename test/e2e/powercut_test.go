//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"panoptes/test/harness"
)

// goingDown is FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_NOLOGFLUSH (linux/fs.h):
// the file system stops at once and loses what was not synced, as in a power cut.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// loopFS makes an ext4 file system in a file and mounts it.
func loopFS(t *testing.T, size string) (dir string, remount func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: mounting a loop device needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("skipped: mkfs.ext4 is not installed (package e2fsprogs)")
	}
	base := t.TempDir()
	img, dir := filepath.Join(base, "disk.img"), filepath.Join(base, "mnt")
	require.NoError(t, os.Mkdir(dir, 0o755))
	sh := func(name string, args ...string) {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
	}
	sh("truncate", "-s", size, img)
	sh("mkfs.ext4", "-q", "-F", img)
	if out, err := exec.Command("mount", "-o", "loop", img, dir).CombinedOutput(); err != nil {
		t.Skipf("skipped: cannot mount a loop device: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Logf("umount: %s", out)
		}
	})
	return dir, func() {
		t.Helper()
		sh("umount", dir)
		sh("mount", "-o", "loop", img, dir)
	}
}

// powerCut stops the file system under dir without flushing anything.
func powerCut(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, noLogFlush))
}

// Samples, in order and late, records and events that were acknowledged before
// the power went are there after it.
func TestPowerCutLosesNothingAcknowledged(t *testing.T) {
	bin := harness.Binary(t)
	dir, remount := loopFS(t, "1G")
	s := harness.Start(t, bin, filepath.Join(dir, "data"))

	const writers, seriesEach = 3, 50
	var stop atomic.Bool
	var wg sync.WaitGroup
	acked := make([]atomic.Int64, writers) // batches of fresh samples
	late := make([]atomic.Int64, writers)  // batches of samples from an hour ago
	var records, failed atomic.Int64
	start := time.Now().Truncate(time.Second)
	for w := range writers {
		wg.Go(func() {
			for i := int64(0); !stop.Load(); i++ {
				at := start.Add(time.Duration(i) * time.Millisecond)
				if code := harness.RemoteWrite(s, fmt.Sprintf("fresh_%d", w), seriesEach, at, float64(i)); code/100 != 2 {
					failed.Add(1)
					return
				}
				acked[w].Store(i + 1)
				if i%10 == 9 {
					at := start.Add(-time.Hour + time.Duration(i)*time.Millisecond)
					// The first sample of a late series must not be its newest.
					if code := harness.RemoteWrite(s, fmt.Sprintf("fresh_%d", w), seriesEach, at, float64(i)); code/100 != 2 {
						failed.Add(1)
						return
					}
					late[w].Store(late[w].Load() + 1)
				}
			}
		})
	}
	wg.Go(func() {
		for i := int64(0); !stop.Load(); i++ {
			code, _, err := s.Do(http.MethodPost, "/v1/checks", map[string]any{"name": fmt.Sprintf("c%05d", i), "type": "tcp", "target": "127.0.0.1:1", "paused": true}, "Content-Type", "application/json")
			if err != nil || code != http.StatusCreated {
				failed.Add(1)
				return
			}
			records.Store(i + 1)
		}
	})
	require.Eventually(t, func() bool {
		return records.Load() >= 100 && acked[0].Load() >= 200 && late[0].Load() >= 20 || failed.Load() > 0
	}, 60*time.Second, 50*time.Millisecond)
	require.Zero(t, failed.Load(), "writes failed before the power cut")

	powerCut(t, dir)
	s.Kill()
	stop.Store(true)
	wg.Wait()
	remount()
	s.Restart()

	var total int64
	for w := range writers {
		want := (acked[w].Load() + late[w].Load()) * seriesEach
		total += want
		got, err := s.Scalar(fmt.Sprintf(`sum(count_over_time(fresh_%d[2h]))`, w))
		require.NoError(t, err)
		n, err := strconv.ParseInt(got, 10, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, want, "acknowledged samples of writer %d lost", w)
	}
	// A server whose configuration store is not open yet shows what it saw last.
	var list struct{ Total int64 }
	require.Eventually(t, func() bool {
		return s.Get("/v1/checks?limit=1", &list) == nil && list.Total >= records.Load()
	}, 20*time.Second, 50*time.Millisecond, "acknowledged records lost")
	var events struct {
		Items []struct{ Subject string }
		Next  string
	}
	audits := int64(0)
	for cursor := ""; ; cursor = events.Next {
		events.Items, events.Next = nil, ""
		require.NoError(t, s.Get("/v1/events?kind=audit&subject=check/&limit=1000&cursor="+cursor, &events))
		audits += int64(len(events.Items))
		if events.Next == "" {
			break
		}
	}
	require.GreaterOrEqual(t, audits, records.Load(), "audit events of acknowledged records lost")
	t.Logf("after the power cut: %d acknowledged samples, %d records, %d audit events: none lost", total, records.Load(), audits)
}

// A full disk: writes answer 507, reading goes on, and when there is space
// again writes are taken without a restart.
func TestDiskFull(t *testing.T) {
	bin := harness.Binary(t)
	dir, _ := loopFS(t, "400M")
	s := harness.Start(t, bin, filepath.Join(dir, "data"))
	require.Equal(t, 2, harness.RemoteWrite(s, "before", 10, time.Now(), 1)/100)

	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	require.NoError(t, err)
	buf := make([]byte, 1<<20)
	for {
		if _, err := f.Write(buf); err != nil {
			break
		}
	}
	f.Close()

	require.Eventually(t, func() bool {
		return harness.RemoteWrite(s, "during", 10, time.Now(), 1) == http.StatusInsufficientStorage
	}, 30*time.Second, 200*time.Millisecond, "writes must answer 507")
	code, body, err := s.Do(http.MethodPost, "/v1/checks", map[string]any{"name": "x", "type": "tcp", "target": "127.0.0.1:1"}, "Content-Type", "application/json")
	require.NoError(t, err)
	require.Equal(t, http.StatusInsufficientStorage, code, "%s", body)
	v, err := s.Scalar("count(before)")
	require.NoError(t, err)
	require.Equal(t, "10", v, "reading goes on")

	require.NoError(t, os.Remove(filler))
	require.Eventually(t, func() bool { return harness.RemoteWrite(s, "after", 10, time.Now(), 1)/100 == 2 }, 60*time.Second, 200*time.Millisecond, "writes are taken again without a restart")
	require.Eventually(t, func() bool {
		code, _, err := s.Do(http.MethodPost, "/v1/checks", map[string]any{"name": "x", "type": "tcp", "target": "127.0.0.1:1"}, "Content-Type", "application/json")
		return err == nil && code == http.StatusCreated
	}, 60*time.Second, 200*time.Millisecond, "records are taken again without a restart")
	v, err = s.Scalar("count(after)")
	require.NoError(t, err)
	require.Equal(t, "10", v)
}

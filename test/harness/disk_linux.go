package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// goingDown is FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_NOLOGFLUSH (linux/fs.h):
// the file system stops at once and loses what was not synced, as in a power cut.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// Disk is an ext4 file system in a file.
type Disk struct {
	t     testing.TB
	image string
	Dir   string // where it is mounted
}

// NewDisk makes a file system of the given size ("1G") below base and mounts it
// until the end of the test. The file stays until somebody removes base.
func NewDisk(t testing.TB, base, name, size string) *Disk {
	t.Helper()
	d := &Disk{t: t, image: filepath.Join(base, name+".img"), Dir: filepath.Join(base, name)}
	require.NoError(t, os.MkdirAll(d.Dir, 0o755))
	require.NoError(t, Command("truncate", "-s", size, d.image))
	require.NoError(t, Command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", d.image))
	d.mount()
	t.Cleanup(func() {
		if err := Command("umount", "-l", d.Dir); err != nil {
			t.Logf("disk %s: %s", name, err)
		}
	})
	return d
}

func (d *Disk) mount() {
	d.t.Helper()
	require.NoError(d.t, Command("mount", "-o", "loop", d.image, d.Dir))
}

// Cut stops the disk without flushing anything. Whoever uses it gets errors
// until Remount.
func (d *Disk) Cut() {
	d.t.Helper()
	f, err := os.Open(d.Dir)
	require.NoError(d.t, err)
	defer f.Close()
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, noLogFlush))
}

// Remount mounts the disk again; its journal is replayed. Nobody may have
// files open on it.
func (d *Disk) Remount() {
	d.t.Helper()
	require.NoError(d.t, Command("umount", d.Dir))
	d.mount()
}

// Fill leaves no more than spare bytes free.
func (d *Disk) Fill(spare int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(d.t, err)
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		free := d.Free()
		if free <= spare {
			return
		}
		_, err := f.Write(buf[:min(int64(len(buf)), free-spare)])
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		require.NoError(d.t, err)
	}
}

// Unfill gives back what Fill took.
func (d *Disk) Unfill() {
	d.t.Helper()
	require.NoError(d.t, os.Remove(d.filler()))
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Free returns the bytes that a process without privileges may still write.
func (d *Disk) Free() int64 {
	var s unix.Statfs_t
	require.NoError(d.t, unix.Statfs(d.Dir, &s), fmt.Sprintf("free space of %s", d.Dir))
	return int64(s.Bavail) * s.Bsize
}

// Used returns the bytes that are taken.
func (d *Disk) Used() int64 {
	var s unix.Statfs_t
	require.NoError(d.t, unix.Statfs(d.Dir, &s), fmt.Sprintf("used space of %s", d.Dir))
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"panoptes/internal/model"
)

// space keeps etcd from a full disk, which it does not survive. A reserve file
// of real blocks lies beside its data. Writes of configuration stop at min
// bytes free; when something else eats what is left, the reserve is given up
// for etcd's own housekeeping, and taken again when there is room.
type space struct {
	dir, file    string
	free         func(dir string) (int64, error)
	min, reserve int64
	log          *slog.Logger

	mu   sync.Mutex // guards the reserve file
	held atomic.Bool
	low  atomic.Bool // for one log line per change
}

// left is what is free for configuration: the reserve must fit in first.
func (s *space) left() (int64, error) {
	n, err := s.free(s.dir)
	if err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", s.dir, err)
	}
	if !s.held.Load() {
		n -= s.reserve
	}
	return n, nil
}

// writable returns model.ErrNoSpace when the disk is too full for a write.
func (s *space) writable() error {
	left, err := s.left()
	if err != nil {
		return nil //nolint:nilerr // a file system that cannot say is not called full
	}
	if left < s.min {
		return fmt.Errorf("%w: the disk of %s is nearly full; free %d MiB to change the configuration again",
			model.ErrNoSpace, s.dir, (s.min-left)>>20+1)
	}
	return nil
}

// check takes or gives up the reserve, as the free space asks for.
func (s *space) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.free(s.dir)
	if err != nil {
		s.log.Warn("free space unknown", "dir", s.dir, "err", err)
		return
	}
	if st, err := os.Stat(s.file); err == nil && st.Size() == s.reserve {
		s.held.Store(true)
	}
	switch {
	case s.held.Load() && free < s.min/2:
		s.held.Store(false) // first: what becomes free now is not for new configuration
		if err := os.Remove(s.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Error("reserve not given up", "file", s.file, "err", err)
			return
		}
		s.log.Error("disk nearly full; the configuration store's reserve was given up", "dir", s.dir, "free_bytes", free)
	case !s.held.Load() && s.reserve > 0 && free >= s.min+s.reserve:
		if err := allocate(s.file, s.reserve); err != nil {
			s.log.Warn("reserve not made", "file", s.file, "err", err)
			return
		}
		s.held.Store(true)
	case s.reserve == 0:
		s.held.Store(true)
	}
	low := s.writable() != nil
	if was := s.low.Swap(low); low && !was {
		s.log.Error("disk nearly full; changes of configuration are refused", "dir", s.dir, "free_bytes", free)
	} else if was && !low {
		s.log.Info("disk has space again; configuration may be changed", "dir", s.dir, "free_bytes", free)
	}
}

// allocate makes a file of n bytes that really occupies them.
func allocate(name string, n int64) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(name) // half a reserve is none
		}
	}()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err == nil {
		return f.Sync()
	}
	// File systems without fallocate: write it.
	buf := make([]byte, 1<<20)
	for left := n; left > 0; left -= int64(len(buf)) {
		if _, err := f.Write(buf[:min(left, int64(len(buf)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

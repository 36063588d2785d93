package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// reserveName is a file that occupies space while there is plenty. It is given
// up when the disk is full: the TSDB ends the process when it cannot write a
// chunk that it has taken already, so it must never meet a full disk.
const reserveName = "reserve"

// minRoom is the least that opening a database after a full disk needs.
const minRoom = 4 * mib

func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// checkSpace looks at the free space and decides whether appends are taken.
// Between the limit and a tenth above it the last decision stays.
func (s *Store) checkSpace() {
	s.spaceAt.Store(time.Now().UnixNano())
	free, err := s.deps.Free(s.cfg.Dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("free space not known", "dir", s.cfg.Dir, "err", err)
		}
		return
	}
	s.m.free.Set(float64(free))
	limit := uint64(max(s.cfg.MinFreeBytes, 0))
	switch {
	case free < limit:
		if s.low.CompareAndSwap(false, true) {
			s.m.low.Set(1)
			s.log.Error("disk nearly full, samples are refused", "dir", s.cfg.Dir, "free", free, "limit", limit)
		}
	case free >= limit+limit/10:
		if s.low.CompareAndSwap(true, false) {
			s.m.low.Set(0)
			s.log.Info("there is space again, samples are accepted", "dir", s.cfg.Dir, "free", free)
		}
	}
	s.keepReserve(free, limit)
}

// keepReserve makes the reserve while space is plentiful and gives it up when
// next to none is left.
func (s *Store) keepReserve(free, limit uint64) {
	if s.cfg.ReserveBytes <= 0 {
		return
	}
	size := uint64(s.cfg.ReserveBytes)
	path := filepath.Join(s.cfg.Dir, reserveName)
	_, err := os.Lstat(path)
	switch {
	case err == nil && free < min(size, max(limit/2, minRoom)):
		if err := os.Remove(path); err != nil {
			s.log.Error("reserve not given up", "path", path, "err", err)
			return
		}
		s.log.Warn("disk full, reserve given up", "path", path, "bytes", size)
	case errors.Is(err, fs.ErrNotExist) && free > limit+4*size:
		if err := allocate(path, s.cfg.ReserveBytes); err != nil {
			s.log.Warn("reserve not made", "path", path, "err", err)
		}
	}
}

// allocate makes a file whose blocks are taken from the disk.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// hasRoom reports whether the disk has space for more than a few records.
func (s *Store) hasRoom() bool {
	free, err := s.deps.Free(s.cfg.Dir)
	return err != nil || free >= uint64(max(s.cfg.MinFreeBytes, minRoom))
}

// roomToOpen reports whether it makes sense to open the database. One that
// failed keeps serving reads until there is space; one that is closed is
// worth a try.
func (s *Store) roomToOpen() bool {
	s.mu.Lock()
	closed := s.h == nil
	s.mu.Unlock()
	return closed || s.hasRoom()
}

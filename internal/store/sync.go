package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// group lets one run of sync serve all callers that came before it began. The
// first of them runs it, so no goroutine is needed.
type group struct {
	sync func() error

	running sync.Mutex // held by the caller that syncs

	mu   sync.Mutex // guards next
	next *round     // the round that has not begun yet
}

type round struct {
	done chan struct{}
	err  error
}

// wait returns when a run of sync that began after the call has ended.
func (g *group) wait() error {
	g.mu.Lock()
	r, lead := g.next, false
	if r == nil {
		r, lead = &round{done: make(chan struct{})}, true
		g.next = r
	}
	g.mu.Unlock()
	if !lead {
		<-r.done
		return r.err
	}
	g.running.Lock()
	defer g.running.Unlock()
	g.mu.Lock()
	g.next = nil // who comes from here on may be too late for this run
	g.mu.Unlock()
	r.err = g.sync()
	close(r.done)
	return r.err
}

// segments makes the log in one directory durable. The TSDB gives no access to
// its file; a sync works on the inode, so the file is opened a second time.
type segments struct {
	dir    string
	fsync  func(*os.File) error
	file   *os.File // the newest segment known; nil before the first sync
	index  int
	synced int64 // its size that is known to be durable
}

// sync makes everything durable that was written before the call.
func (s *segments) sync() error {
	began, err := s.begun()
	if err != nil {
		return err
	}
	if began {
		if err := s.advance(); err != nil {
			return err
		}
	}
	if s.file == nil {
		return nil
	}
	return s.syncFile()
}

// begun reports whether a segment newer than the known one exists.
func (s *segments) begun() (bool, error) {
	if s.file == nil {
		return true, nil
	}
	_, err := os.Lstat(wlog.SegmentName(s.dir, s.index+1))
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// The known one may have been deleted, and its successor with it.
	fi, err := s.file.Stat()
	if err != nil {
		return false, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0, nil
}

// advance syncs the segments up to the newest one but that, and the directory
// with their names.
func (s *segments) advance() error {
	first, last, err := wlog.Segments(s.dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && last < 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list segments of %s: %w", filepath.Base(s.dir), err)
	}
	if s.file == nil {
		// All but the last two were synced when they were complete.
		s.index = max(first, last-1) - 1
	}
	for i := max(first, s.index+1); i <= last; i++ {
		f, err := os.Open(wlog.SegmentName(s.dir, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if s.file != nil {
			if err := s.syncFile(); err != nil {
				f.Close()
				return err
			}
			s.file.Close()
		}
		s.file, s.index, s.synced = f, i, -1
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := s.fsync(d); err != nil {
		return fmt.Errorf("sync directory %s: %w", filepath.Base(s.dir), err)
	}
	return nil
}

// syncFile syncs the known segment unless it has not grown since the last time.
func (s *segments) syncFile() error {
	fi, err := s.file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == s.synced {
		return nil
	}
	if err := s.fsync(s.file); err != nil {
		return fmt.Errorf("sync segment %d of %s: %w", s.index, filepath.Base(s.dir), err)
	}
	s.synced = fi.Size()
	return nil
}

func (s *segments) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

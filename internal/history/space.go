package history

import (
	"fmt"
	"sync"
	"time"

	"panoptes/internal/model"
)

// space watches how much of the disk is free. The system is asked at most once
// a second: a statfs for each of thousands of groups would cost more than it tells.
type space struct {
	dir  string
	min  int64
	free func(dir string) (uint64, error)

	mu   sync.Mutex
	next time.Time
	err  error
}

func newSpace(dir string, floor int64, free func(string) (uint64, error)) *space {
	if free == nil {
		free = freeBytes
	}
	return &space{dir: dir, min: floor, free: free}
}

// check returns model.ErrNoSpace while too little is free.
func (s *space) check() error {
	if s.min < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	// While the disk is full every call looks again: recovery shows at once.
	if s.err == nil && now.Before(s.next) {
		return nil
	}
	s.next = now.Add(time.Second)
	s.err = nil
	free, err := s.free(s.dir)
	if err != nil {
		// Not to know is no reason to refuse: the write itself will tell.
		return nil
	}
	if free < uint64(s.min) {
		s.err = fmt.Errorf("%w: %d MiB are free in %s, %d are kept back; free some space", model.ErrNoSpace, free>>20, s.dir, s.min>>20)
	}
	return s.err
}

// forget makes the next check look again.
func (s *space) forget() {
	s.mu.Lock()
	s.next = time.Time{}
	s.mu.Unlock()
}

package harness

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Standstill notes when this machine stood still for half a second or more: what
// would have been done then is not late.
type Standstill struct {
	mu   sync.Mutex
	from []time.Time
	long []time.Duration
}

// NewStandstill watches until the test ends.
func NewStandstill(t testing.TB) *Standstill {
	s := &Standstill{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s
}

func (s *Standstill) watch(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if d := now.Sub(last); d > 500*time.Millisecond {
			s.mu.Lock()
			s.from, s.long = append(s.from, last), append(s.long, d)
			s.mu.Unlock()
		}
		last = now
	}
}

// Between is for how long it stood still in the times that touch the span
// between two instants.
func (s *Standstill) Between(from, to time.Time) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, at := range s.from {
		if !at.After(to) && !at.Add(s.long[i]).Before(from) {
			sum += s.long[i]
		}
	}
	return sum
}

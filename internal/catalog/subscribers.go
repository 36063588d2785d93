package catalog

import (
	"slices"
	"sync"
)

// subscribers hand changes on, each in its own goroutine with a queue without
// bound: it holds pointers to records that exist anyway.
type subscribers struct {
	mu     sync.Mutex // guards list and closed
	list   []*subscriber
	closed bool
	wg     sync.WaitGroup
}

type subscriber struct {
	fn    func(Change)
	wake  chan struct{} // of size one
	stop  chan struct{}
	once  sync.Once
	mu    sync.Mutex // guards queue
	queue []Change
}

func (s *subscribers) add(fn func(Change)) (cancel func()) {
	sub := &subscriber{fn: fn, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return func() {}
	}
	s.list = append(s.list, sub)
	s.wg.Go(sub.run)
	return func() {
		s.mu.Lock()
		s.list = slices.DeleteFunc(s.list, func(o *subscriber) bool { return o == sub })
		s.mu.Unlock()
		sub.end()
	}
}

func (s *subscribers) publish(changes []Change) {
	s.mu.Lock()
	list := slices.Clone(s.list)
	s.mu.Unlock()
	for _, sub := range list {
		sub.mu.Lock()
		sub.queue = append(sub.queue, changes...)
		sub.mu.Unlock()
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	}
}

func (s *subscribers) close() {
	s.mu.Lock()
	s.closed = true
	for _, sub := range s.list {
		sub.end()
	}
	s.list = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *subscriber) end() { s.once.Do(func() { close(s.stop) }) }

func (s *subscriber) run() {
	for {
		select {
		case <-s.wake:
		case <-s.stop:
			return
		}
		s.mu.Lock()
		queue := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, ch := range queue {
			select {
			case <-s.stop:
				return
			default:
				s.fn(ch)
			}
		}
	}
}

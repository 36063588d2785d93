package app

import (
	"context"
	"sync"
)

// ways lead to the other servers, each with a queue and a goroutine of its own,
// so that one that hangs keeps nobody else waiting.
type ways[T any] struct {
	room int                                                      // of a queue
	feed func(ctx context.Context, nodeID string, queue <-chan T) // sends what is queued until ctx ends
	full func()                                                   // something did not fit into a queue

	mu    sync.Mutex // guards all below
	ctx   context.Context
	want  []string           // servers that are to be told
	peers map[string]*way[T] // by node id
	wg    sync.WaitGroup
}

// way leads to one server.
type way[T any] struct {
	queue  chan T
	cancel context.CancelFunc
}

// setPeers names whom to tell.
func (w *ways[T]) setPeers(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = ids
	w.openLocked()
}

// openLocked opens the ways to the wanted servers once Run has begun, and
// closes the others.
func (w *ways[T]) openLocked() {
	if w.ctx == nil || w.ctx.Err() != nil {
		return
	}
	want := map[string]bool{}
	for _, id := range w.want {
		want[id] = true
		if w.peers[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(w.ctx)
		p := &way[T]{queue: make(chan T, w.room), cancel: cancel}
		w.peers[id] = p
		w.wg.Go(func() { w.feed(ctx, id, p.queue) })
	}
	for id, p := range w.peers {
		if !want[id] {
			p.cancel()
			delete(w.peers, id)
		}
	}
}

// send never blocks.
func (w *ways[T]) send(v T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		select {
		case p.queue <- v:
		default:
			w.full()
		}
	}
}

// Run keeps the ways open until ctx ends.
func (w *ways[T]) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx, w.peers = ctx, map[string]*way[T]{}
	w.openLocked()
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.peers = map[string]*way[T]{} // whoever opens ways after this sees that it is over
	w.mu.Unlock()
	w.wg.Wait()
	return nil
}

package verdict

import "sync"

// news is a transition, or one of a region.
type news struct {
	transition *Transition
	adopted    bool // decided, and recorded, by another server
	region     *RegionTransition
}

// outbox hands news on in order, without making the deciders wait. It is
// not bounded: a transition must not be lost, and there are few.
type outbox struct {
	mu     sync.Mutex
	cond   *sync.Cond
	queue  []news
	closed bool

	subMu sync.Mutex
	subs  map[int]func(Transition)
	next  int
}

func newOutbox() *outbox {
	o := &outbox{subs: map[int]func(Transition){}}
	o.cond = sync.NewCond(&o.mu)
	return o
}

func (o *outbox) put(n news) {
	o.mu.Lock()
	o.queue = append(o.queue, n)
	o.mu.Unlock()
	o.cond.Signal()
}

func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// run hands on until the outbox is closed and empty.
func (o *outbox) run(fn func(news)) {
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.cond.Wait()
		}
		queue := o.queue
		o.queue = nil
		o.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, n := range queue {
			fn(n)
		}
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cond.Broadcast()
}

func (o *outbox) subscribe(fn func(Transition)) (cancel func()) {
	o.subMu.Lock()
	defer o.subMu.Unlock()
	id := o.next
	o.next++
	o.subs[id] = fn
	return func() {
		o.subMu.Lock()
		defer o.subMu.Unlock()
		delete(o.subs, id)
	}
}

func (o *outbox) tell(t Transition) {
	o.subMu.Lock()
	fns := make([]func(Transition), 0, len(o.subs))
	for _, fn := range o.subs {
		fns = append(fns, fn)
	}
	o.subMu.Unlock()
	for _, fn := range fns {
		fn(t)
	}
}

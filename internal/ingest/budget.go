package ingest

import (
	"sync"
)

// budget bounds the bytes of all requests in flight and keeps room for those
// who have nothing in flight: with n sources at work nobody gets more than
// what n+1 of them could have.
type budget struct {
	max int64

	mu      sync.Mutex // guards what follows, and the sources' inFlight
	used    int64
	sources int // that have something in flight
}

// take reserves n bytes for a request of src that holds held bytes already. A
// source's only request is not measured by its share.
func (b *budget) take(src *source, n, held int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	sources := b.sources
	if src.inFlight == 0 {
		sources++
	}
	if b.used+n > b.max || src.inFlight > held && src.inFlight+n > b.max/int64(sources+1) {
		return false
	}
	if src.inFlight == 0 && n > 0 {
		b.sources++
	}
	b.used += n
	src.inFlight += n
	return true
}

func (b *budget) give(src *source, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	src.inFlight -= n
	if src.inFlight == 0 && n > 0 {
		b.sources--
	}
}

func (b *budget) now() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// keepBuffer is the largest buffer that is kept for the next request.
const keepBuffer = 8 << 20

// bufferPool lends byte buffers.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get(size int) *[]byte {
	b, ok := p.pool.Get().(*[]byte)
	if !ok {
		b = new([]byte)
	}
	if cap(*b) < size {
		*b = make([]byte, size)
	}
	*b = (*b)[:cap(*b)]
	return b
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= keepBuffer {
		p.pool.Put(b)
	}
}

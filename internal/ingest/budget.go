package ingest

import (
	"sync"
	"sync/atomic"
)

// budget bounds the bytes of all requests in flight.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

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

package model

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ids is shared by the whole process: identifiers of the same millisecond rise
// only when all of them come from one source.
var ids = struct {
	sync.Mutex
	source *ulid.MonotonicEntropy
}{source: ulid.Monotonic(rand.Reader, 0)}

// NewID returns a ULID for t. Identifiers sort by time; those asked for with
// the same millisecond, one after another, sort in the order of asking. It may
// be called by several goroutines. A time before 1970 counts as 1970.
func NewID(t time.Time) string {
	ms := uint64(max(t.UnixMilli(), 0))
	ms = min(ms, ulid.MaxTime())
	ids.Lock()
	defer ids.Unlock()
	id, err := ulid.New(ms, ids.source)
	if err != nil {
		// The counter of this millisecond overflowed (once in 2^40 starts): draw
		// a new one.
		ids.source = ulid.Monotonic(rand.Reader, 0)
		id = ulid.MustNew(ms, ids.source)
	}
	return id.String()
}

package ingest

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

const shards = 64

// cache maps the bytes that describe a series on the wire to the series. Each
// shard has two generations: what is used moves to the young one, and when
// that is full or a window has passed, the old one is forgotten.
//
// Senders write their series in much the same order every time. So each series
// remembers which one came behind it, and that is tried before the maps, whose
// memory is far apart.
type cache struct {
	seed   maphash.Seed
	half   int // entries of one generation of a shard
	window time.Duration
	size   atomic.Int64
	shards [shards]shard
}

type shard struct {
	mu         sync.RWMutex // guards the fields below
	young, old map[uint64]*entry
	born       time.Time // when young was begun

	epoch atomic.Uint32 // the number of the young generation, from 1 on; changed under mu
	_     [60]byte      // keeps neighbours off one cache line
}

// entry is a series that was seen and found valid.
type entry struct {
	key    string
	labels labels.Labels
	ref    atomic.Uint64 // storage.SeriesRef; 0 = not known
	owner  *source       // who brought it; it counts as active there
	member *replica      // whose it is; nil = of nobody who has a double
	charge *tally        // counts it instead when doubles bring it, too

	start atomic.Int64  // when its counter began, as was stored; 0 = not known
	told  atomic.Uint64 // what was said of its metric, and in which minute

	next  atomic.Pointer[entry] // what came behind it the last time
	epoch atomic.Uint32         // of the generation it is in; 0 = not in the cache
	shard uint32
}

func (e *entry) seriesRef() storage.SeriesRef { return storage.SeriesRef(e.ref.Load()) }

// learn keeps the reference that an append returned.
func (e *entry) learn(old, got storage.SeriesRef) {
	if got != old && got != 0 {
		e.ref.Store(uint64(got))
	}
}

func newCache(limit int, window time.Duration) *cache {
	c := &cache{seed: maphash.MakeSeed(), half: max(limit/shards/2, 1), window: window}
	for i := range c.shards {
		s := &c.shards[i]
		s.young, s.born = map[uint64]*entry{}, time.Now()
		s.epoch.Store(1)
	}
	return c
}

// get finds a series by its bytes; hash is for add.
func (c *cache) get(key []byte) (e *entry, hash uint64) {
	hash = maphash.Bytes(c.seed, key)
	s := &c.shards[hash%shards]
	s.mu.RLock()
	e, aged := s.young[hash], false
	if e == nil {
		e = s.old[hash]
		aged = e != nil
	}
	s.mu.RUnlock()
	if e == nil || e.key != string(key) {
		return nil, hash
	}
	if aged {
		s.mu.Lock()
		if s.old[hash] == e {
			delete(s.old, hash)
			s.young[hash] = e
			e.epoch.Store(s.epoch.Load())
		}
		s.mu.Unlock()
	}
	return e, hash
}

// after returns what came behind prev the last time if the series ts begins
// with its labels; missed tells that it does not. What is not in its shard's
// young generation is left to get.
func (c *cache) after(prev *entry, ts []byte) (e *entry, missed bool) {
	e = prev.next.Load()
	if e == nil {
		return nil, false
	}
	n := len(e.key)
	if len(ts) < n || string(ts[:n]) != e.key || len(ts) > n && ts[n] == tagLabel {
		return nil, true
	}
	if e.epoch.Load() != c.shards[e.shard].epoch.Load() {
		return nil, false
	}
	return e, false
}

// follow remembers that e came behind prev. Only what is in the cache is
// linked: forget cuts the link, so that an entry keeps at most one other in
// memory that the cache has forgotten.
func (prev *entry) follow(e *entry) {
	if prev.epoch.Load() != 0 && e.epoch.Load() != 0 && prev.next.Load() != e {
		prev.next.Store(e)
	}
}

// forget ends what e has been in the cache.
func (e *entry) forget() {
	e.release()
	e.epoch.Store(0)
	e.next.Store(nil)
}

// release ends that e counts as active.
func (e *entry) release() {
	if e.charge != nil {
		e.charge.release()
		return
	}
	e.owner.active.Add(-1)
}

// rotate makes room in the shard of hash when its time has come.
func (c *cache) rotate(hash uint64, now time.Time) {
	s := &c.shards[hash%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) < c.half && now.Sub(s.born) < c.window {
		return
	}
	for _, e := range s.old {
		e.forget()
	}
	s.epoch.Add(1)
	c.size.Add(-int64(len(s.old)))
	s.old, s.young, s.born = s.young, make(map[uint64]*entry, len(s.young)/2), now
}

// add keeps e, which counts in its owner, and returns the entry to use: another
// request may have added the same series meanwhile. In the rare case that two
// keys share a hash the second is not kept.
func (c *cache) add(hash uint64, e *entry) *entry {
	s := &c.shards[hash%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.young[hash]; have != nil {
		e.release()
		if have.key == e.key {
			return have
		}
		return e
	}
	if s.old[hash] != nil { // the same series, or one with the same hash
		s.old[hash].forget()
		delete(s.old, hash)
		c.size.Add(-1)
	}
	s.young[hash] = e
	e.shard = uint32(hash % shards)
	e.epoch.Store(s.epoch.Load())
	c.size.Add(1)
	return e
}

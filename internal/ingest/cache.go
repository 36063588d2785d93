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
	_          [24]byte  // keeps neighbours off one cache line
}

// entry is a series that was seen and found valid.
type entry struct {
	key    string
	labels labels.Labels
	ref    atomic.Uint64 // storage.SeriesRef; 0 = not known
	owner  *source       // who brought it; it counts as active there
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
		c.shards[i] = shard{young: map[uint64]*entry{}, born: time.Now()}
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
		}
		s.mu.Unlock()
	}
	return e, hash
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
		e.owner.active.Add(-1)
	}
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
		e.owner.active.Add(-1)
		if have.key == e.key {
			return have
		}
		return e
	}
	if s.old[hash] != nil { // the same series, or one with the same hash
		s.old[hash].owner.active.Add(-1)
		delete(s.old, hash)
		c.size.Add(-1)
	}
	s.young[hash] = e
	c.size.Add(1)
	return e
}

// source is somebody who writes.
type source struct {
	active atomic.Int64 // series it brought that the cache holds
}

// take counts one more active series unless there are limit already.
func (s *source) take(limit int) bool {
	if s.active.Add(1) > int64(limit) {
		s.active.Add(-1)
		return false
	}
	return true
}

// sources knows everybody who has written. Names are authenticated, so they
// are not many.
type sources struct {
	mu     sync.Mutex // guards byName
	byName map[string]*source
}

func (s *sources) get(name string) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.byName[name]
	if src == nil {
		src = &source{}
		s.byName[name] = src
	}
	return src
}

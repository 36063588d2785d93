package store

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

const (
	// settledAfter is the age from which on every change is counted. Younger
	// samples come all the time.
	settledAfter = 5 * time.Minute
	// lateAfter is the age of a sample from which on an appender notes it. An
	// appender that stays open for longer than what lies between the two counts
	// as one that changed all of that time.
	lateAfter = settledAfter / 2
	// changeRange is how finely changes are told apart, in milliseconds.
	changeRange = int64(5 * time.Minute / time.Millisecond)
	// maxChanges bounds what is remembered; beyond it all has changed.
	maxChanges = 20_000
)

// changes counts what happened to samples of the past, so that who keeps
// answers knows when they no longer hold.
type changes struct {
	seed  maphash.Seed
	clock atomic.Int64 // the latest time that the clock has shown, ms: it may be set back

	mu   sync.Mutex       // guards what follows
	last uint64           // number of the last change
	all  uint64           // number of the last change of everything
	at   map[int64]uint64 // start of a range of time: number of its last change
}

func newChanges() *changes {
	return &changes{seed: maphash.MakeSeed(), at: map[int64]uint64{}}
}

// now is the time, which never goes back.
func (c *changes) now() int64 {
	t := nowMilli()
	for {
		seen := c.clock.Load()
		if t <= seen {
			return seen
		}
		if c.clock.CompareAndSwap(seen, t) {
			return t
		}
	}
}

// everything counts a change whose time is not known. Call it after the change
// can be seen.
func (c *changes) everything() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.all = c.last
	clear(c.at)
}

// late notes the old samples of one appender.
type late struct {
	began  int64 // when the appender was made
	recent int64 // samples before it are noted
	newest int64 // the last range that was noted; -1 is none
	ranges map[int64]struct{}
}

func (c *changes) late() late {
	now := c.now()
	return late{began: now, recent: now - lateAfter.Milliseconds(), newest: -1}
}

func (l *late) note(t int64) {
	r := floor(t, changeRange)
	if r == l.newest {
		return
	}
	if l.ranges == nil {
		l.ranges = map[int64]struct{}{}
	}
	l.newest = r
	l.ranges[r] = struct{}{}
}

// commit counts the changes of an appender. Call it after they can be seen.
func (c *changes) commit(l *late) {
	now := c.now()
	slow := now-l.began >= (settledAfter - lateAfter).Milliseconds()
	if len(l.ranges) == 0 && !slow {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	if slow && now-l.recent > 1000*changeRange { // the clock jumped
		c.all = c.last
	} else if slow {
		for r := floor(l.recent, changeRange); r <= now; r += changeRange {
			c.at[r] = c.last
		}
	}
	for r := range l.ranges {
		c.at[r] = c.last
	}
	if len(c.at) > maxChanges {
		c.all = c.last
		clear(c.at)
	}
}

// newest is the number of the last change between two times.
func (c *changes) newest(mint, maxt int64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.all
	first := floor(max(mint, minTime), changeRange)
	if uint64(maxt-first)/uint64(changeRange) > uint64(len(c.at)) {
		for r, at := range c.at {
			if r >= first && r <= maxt {
				n = max(n, at)
			}
		}
		return n
	}
	for r := first; r <= maxt; r += changeRange {
		n = max(n, c.at[r])
	}
	return n
}

// Settled is the time, in milliseconds, before which Version tells about every
// change of samples. It never goes back.
func (s *Store) Settled() int64 { return s.changes.now() - settledAfter.Milliseconds() }

// Version stands for the samples between two times: while it stays the same, so
// do they, as far as they are older than Settled. Take it before reading: a
// change is counted only once it can be seen. It is not known, and ok false,
// while there is no open database.
func (s *Store) Version(mint, maxt int64) (version uint64, ok bool) {
	s.mu.Lock()
	h := s.h
	if h != nil {
		h.users++
	}
	s.mu.Unlock()
	if h == nil {
		return 0, false
	}
	defer s.release(h)
	type state struct {
		opening uint16
		change  uint64
		blocks  uint64
	}
	st := state{opening: h.gen, change: s.changes.newest(mint, maxt), blocks: s.changes.blocks(h.db.Blocks(), mint, maxt)}
	return maphash.Comparable(s.changes.seed, st), true
}

// blocks stands for those blocks that reach between the two times: they come,
// are merged and go.
func (c *changes) blocks(list []*tsdb.Block, mint, maxt int64) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, b := range list {
		m := b.Meta()
		if m.MinTime <= maxt && m.MaxTime >= mint {
			h.Write(m.ULID[:])
		}
	}
	return h.Sum64()
}

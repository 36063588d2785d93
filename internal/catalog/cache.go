package catalog

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"panoptes/internal/model"
)

// entry is one record as it is cached. It is never changed, only replaced.
type entry struct {
	rec    model.Record // secrets in clear
	stored []byte       // as it lies in the store, secrets sealed
	refs   []Ref        // what it needs
}

// table holds the records of one kind.
type table struct {
	byID   map[string]*entry
	byName map[string]*entry
	sorted []model.Record // by name; nil after a change
}

// cache is this server's copy of all records.
type cache struct {
	generation atomic.Int64

	mu       sync.RWMutex // guards all below
	kinds    map[string]*table
	revision int64         // of the store; everything up to it is here
	moved    chan struct{} // closed and replaced when revision rises
}

func newCache() *cache { return &cache{kinds: map[string]*table{}, moved: make(chan struct{})} }

func (c *cache) table(kind string) *table {
	t := c.kinds[kind]
	if t == nil {
		t = &table{byID: map[string]*entry{}, byName: map[string]*entry{}}
		c.kinds[kind] = t
	}
	return t
}

func (t *table) put(e *entry) {
	if old := t.byID[e.rec.ID]; old != nil && t.byName[old.rec.Name] == old {
		delete(t.byName, old.rec.Name)
	}
	t.byID[e.rec.ID] = e
	t.byName[e.rec.Name] = e
	t.sorted = nil
}

func (t *table) remove(id string) {
	if old := t.byID[id]; old != nil {
		delete(t.byID, id)
		if t.byName[old.rec.Name] == old {
			delete(t.byName, old.rec.Name)
		}
		t.sorted = nil
	}
}

func (c *cache) find(kind, idOrName string) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	t := c.kinds[kind]
	if t == nil {
		return nil
	}
	if e := t.byID[idOrName]; e != nil {
		return e
	}
	return t.byName[idOrName]
}

// byID finds a record by id only.
func (c *cache) byID(kind, id string) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.kinds[kind]; t != nil {
		return t.byID[id]
	}
	return nil
}

// byName finds a record by name only.
func (c *cache) byName(kind, name string) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.kinds[kind]; t != nil {
		return t.byName[name]
	}
	return nil
}

func (c *cache) list(kind string) []model.Record {
	c.mu.RLock()
	t := c.kinds[kind]
	if t == nil {
		c.mu.RUnlock()
		return nil
	}
	sorted := t.sorted
	c.mu.RUnlock()
	if sorted != nil {
		return sorted
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.sorted == nil {
		s := make([]model.Record, 0, len(t.byID))
		for _, e := range t.byID {
			s = append(s, e.rec)
		}
		slices.SortFunc(s, func(a, b model.Record) int { return strings.Compare(a.Name, b.Name) })
		t.sorted = s
	}
	return t.sorted
}

func (c *cache) count(kind string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.kinds[kind]; t != nil {
		return len(t.byID)
	}
	return 0
}

// referrers lists up to limit records that need the given one; with byName
// only those that call it by its name.
func (c *cache) referrers(kind, id, name string, byName bool, limit int) (out []*entry) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, t := range c.kinds {
		for _, e := range t.byID {
			if e.rec.Kind == kind && e.rec.ID == id {
				continue
			}
			for _, r := range e.refs {
				if r.Kind == kind && (r.IDOrName == name || r.IDOrName == id && !byName) {
					out = append(out, e)
					break
				}
			}
			if len(out) >= limit {
				return out
			}
		}
	}
	return out
}

// all returns every entry and the revision they belong to.
func (c *cache) all() ([]*entry, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []*entry
	for _, t := range c.kinds {
		for _, e := range t.byID {
			out = append(out, e)
		}
	}
	return out, c.revision
}

// wait returns when everything up to revision rev is here.
func (c *cache) wait(ctx context.Context, rev int64) error {
	for {
		c.mu.RLock()
		at, moved := c.revision, c.moved
		c.mu.RUnlock()
		if at >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitMove returns when the revision rises, or after limit.
func (c *cache) waitMove(ctx context.Context, limit time.Duration) error {
	c.mu.RLock()
	moved := c.moved
	c.mu.RUnlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-moved:
		return nil
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// update carries out changes, then moves to revision rev.
func (c *cache) update(put []*entry, remove []*entry, rev int64) {
	c.mu.Lock()
	for _, e := range remove {
		c.table(e.rec.Kind).remove(e.rec.ID)
	}
	for _, e := range put {
		c.table(e.rec.Kind).put(e)
	}
	c.revision = rev
	if len(put)+len(remove) > 0 {
		c.generation.Add(1)
	}
	close(c.moved)
	c.moved = make(chan struct{})
	c.mu.Unlock()
}

package catalog

import (
	"cmp"
	"slices"

	"panoptes/internal/model"
)

// take brings one batch of the store's watch into the cache and tells the subscribers.
func (c *Catalog) take(b model.KVBatch) {
	var put, remove []*entry
	var changes []Change
	seen := map[string]bool{}
	// Of several changes of one record in a batch each is told, in order; the
	// newest is what the cache gets.
	current := map[string]*entry{}
	before := func(key, kind, id string) *entry {
		if e, ok := current[key]; ok {
			return e
		}
		return c.cache.byID(kind, id)
	}
	for _, ev := range b.Events {
		kind, id, ok := parseKey(ev.Key)
		if !ok {
			continue
		}
		seen[ev.Key] = true
		old := before(ev.Key, kind, id)
		if ev.Deleted {
			if old != nil {
				changes = append(changes, deleted(old))
				current[ev.Key] = nil
				remove = append(remove, old)
				put = slices.DeleteFunc(put, func(e *entry) bool { return e.rec.Kind == kind && e.rec.ID == id })
			}
			continue
		}
		if old != nil && old.rec.Revision == ev.Revision && slices.Equal(old.stored, ev.Value) {
			continue // known from the last seen copy
		}
		e, err := c.decode(ev.KV)
		if err != nil {
			c.met.unreadable.Inc()
			c.log.Error("record cannot be read; the one known before stays in use", "key", ev.Key, "err", err)
			continue
		}
		put = append(put, e)
		current[ev.Key] = e
		ch := Change{Kind: kind, ID: id, Name: e.rec.Name, Op: OpCreate, New: &e.rec}
		if old != nil {
			ch.Op, ch.Old = OpUpdate, &old.rec
		}
		changes = append(changes, ch)
	}
	if b.Reset {
		known, _ := c.cache.all()
		slices.SortFunc(known, func(x, y *entry) int {
			return cmp.Or(cmp.Compare(x.rec.Kind, y.rec.Kind), cmp.Compare(x.rec.Name, y.rec.Name))
		})
		var gone []Change
		for _, e := range known {
			if !seen[recordKey(e.rec.Kind, e.rec.ID)] {
				remove = append(remove, e)
				gone = append(gone, deleted(e))
			}
		}
		changes = append(gone, changes...)
		if len(b.Events) == 0 && len(known) > 0 && !c.live.Load() {
			c.setLastSeenAside(len(known))
		}
	}
	c.cache.update(put, remove, b.Revision)
	c.subs.publish(changes)
	if b.Reset && !c.live.Swap(true) {
		c.log.Info("configuration read", "records", len(b.Events), "revision", b.Revision, "changes", len(changes))
	}
	c.readyOnce.Do(func() { close(c.ready) })
	if len(changes) > 0 || b.Reset {
		c.markDirty()
	}
}

func deleted(e *entry) Change {
	return Change{Kind: e.rec.Kind, ID: e.rec.ID, Name: e.rec.Name, Op: OpDelete, Old: &e.rec}
}

func (c *Catalog) markDirty() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

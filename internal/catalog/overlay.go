package catalog

import (
	"slices"
	"strings"

	"panoptes/internal/model"
)

// overlay is the catalog as it will be: planned records above the cached ones.
type overlay struct {
	cache *cache
	recs  map[string]map[string]model.Record // kind, id
	names map[string]map[string]string       // kind, name to id
	lists map[string][]model.Record          // merged lists, made on demand
	index map[string]map[string]int          // place in lists by id
}

func newOverlay(c *cache) *overlay {
	return &overlay{
		cache: c, recs: map[string]map[string]model.Record{}, names: map[string]map[string]string{},
		lists: map[string][]model.Record{}, index: map[string]map[string]int{},
	}
}

// put lays a record over the cached one.
func (o *overlay) put(rec model.Record) {
	if o.recs[rec.Kind] == nil {
		o.recs[rec.Kind], o.names[rec.Kind] = map[string]model.Record{}, map[string]string{}
	}
	old, had := o.recs[rec.Kind][rec.ID]
	if had && o.names[rec.Kind][old.Name] == rec.ID {
		delete(o.names[rec.Kind], old.Name)
	}
	o.recs[rec.Kind][rec.ID] = rec
	o.names[rec.Kind][rec.Name] = rec.ID
	if i, ok := o.index[rec.Kind][rec.ID]; ok && had && old.Name == rec.Name {
		o.lists[rec.Kind][i] = rec // same place: the list stays good
		return
	}
	delete(o.lists, rec.Kind)
	delete(o.index, rec.Kind)
}

// Get finds a planned or cached record.
func (o *overlay) Get(kind, idOrName string) (model.Record, bool) {
	if rec, ok := o.recs[kind][idOrName]; ok {
		return rec, true
	}
	if id, ok := o.names[kind][idOrName]; ok {
		return o.recs[kind][id], true
	}
	e := o.cache.find(kind, idOrName)
	if e == nil {
		return model.Record{}, false
	}
	if _, planned := o.recs[kind][e.rec.ID]; planned {
		return model.Record{}, false // it had this name before
	}
	return e.rec, true
}

// List returns all records of a kind, sorted by name.
func (o *overlay) List(kind string) []model.Record {
	if len(o.recs[kind]) == 0 {
		return o.cache.list(kind)
	}
	if l, ok := o.lists[kind]; ok {
		return l
	}
	var l []model.Record
	for _, rec := range o.cache.list(kind) {
		if _, planned := o.recs[kind][rec.ID]; !planned {
			l = append(l, rec)
		}
	}
	for _, rec := range o.recs[kind] {
		l = append(l, rec)
	}
	slices.SortFunc(l, func(a, b model.Record) int { return strings.Compare(a.Name, b.Name) })
	index := make(map[string]int, len(l))
	for i, rec := range l {
		index[rec.ID] = i
	}
	o.lists[kind], o.index[kind] = l, index
	return l
}

// view is an overlay as one record's Normalize sees it.
type view struct {
	*overlay
	old *entry
}

// Old implements View.
func (v view) Old() (model.Record, bool) {
	if v.old == nil {
		return model.Record{}, false
	}
	return v.old.rec, true
}

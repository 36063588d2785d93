package selfwatch

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// maxReceivers bounds what is remembered of receivers.
const maxReceivers = 10_000

// deliveries counts failed notifications in a row.
type deliveries struct {
	mu    sync.Mutex // guards the rest
	bad   map[string]*failures
	known map[string]int64 // revisions of receivers; nil before Receivers is called
}

type failures struct {
	name     string
	failures int
	err      string
}

// Delivered is told of each attempt to notify through a receiver; err is nil
// when it was delivered. Tests of receivers that need not be stored are none of
// its business.
func (w *Watch) Delivered(receiver string, err error) {
	d := &w.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.bad, receiver)
		return
	}
	if _, ok := d.known[receiver]; !ok && d.known != nil {
		return // it was removed while this was on its way
	}
	if d.bad == nil {
		d.bad = map[string]*failures{}
	}
	f := d.bad[receiver]
	if f == nil {
		if len(d.bad) >= maxReceivers {
			return
		}
		f = &failures{name: receiver}
		d.bad[receiver] = f
	}
	f.failures++
	f.err = err.Error()
}

// Receivers is told which receivers there are, with a number that rises when one
// is changed. What failed before a change, or by a name that is gone, does not
// count any more.
func (w *Watch) Receivers(revisions map[string]int64) {
	d := &w.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.bad {
		if revision, ok := revisions[name]; !ok || d.known != nil && revision != d.known[name] {
			delete(d.bad, name)
		}
	}
	d.known = maps.Clone(revisions)
	if d.known == nil {
		d.known = map[string]int64{}
	}
}

func (d *deliveries) failing(limit int) []failures {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []failures
	for _, f := range d.bad {
		if f.failures >= max(1, limit) {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b failures) int { return cmp.Compare(a.name, b.name) })
	return out
}

package selfwatch

import (
	"cmp"
	"slices"
	"sync"
)

// maxReceivers bounds what is remembered of receivers.
const maxReceivers = 10_000

// deliveries counts failed notifications in a row.
type deliveries struct {
	mu  sync.Mutex // guards bad
	bad map[string]*failures
}

type failures struct {
	name     string
	failures int
	err      string
}

// Delivered is told of each attempt to notify through a receiver; err is nil
// when it was delivered.
func (w *Watch) Delivered(receiver string, err error) {
	d := &w.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.bad, receiver)
		return
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

// Forget drops what is known of a receiver that was removed.
func (w *Watch) Forget(receiver string) { w.Delivered(receiver, nil) }

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

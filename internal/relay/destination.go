package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"panoptes/internal/model"
)

// destination is another server, as the sending side sees it. Relay.mu guards
// it, except for wake.
type destination struct {
	id     string
	acked  position // it has everything before
	missed *missed  // what was dropped and it was not told of

	alive     bool
	waitFrom  time.Time // when it became alive, or its connection was lost
	connected bool
	behind    bool  // it has a backlog: nobody waits for it
	refusing  error // it stores nothing at the moment
	lastErr   error

	oddPos  position // of a record that it does not understand
	oddness int      // how often it said so

	wake chan struct{} // of size one: there is something to send, or room for it
}

func newDestination(id string, c cursor) *destination {
	return &destination{id: id, acked: c.Pos, missed: c.Missed, waitFrom: time.Now(), wake: make(chan struct{}, 1)}
}

func (d *destination) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// counts reports whether callers wait for its acknowledgement.
func (d *destination) counts(now time.Time, patience time.Duration) bool {
	switch {
	case !d.alive || d.refusing != nil || d.behind:
		return false
	case d.connected:
		return true
	}
	return now.Sub(d.waitFrom) < patience
}

// Destination is another server and what it still lacks.
type Destination struct {
	NodeID    string
	Bytes     int64     // of the log that it has not acknowledged
	Oldest    time.Time // when the first of that was written; zero: it has all
	Alive     bool
	Connected bool
	Behind    bool   // it has a backlog, so that nobody waits for it
	Dropped   bool   // something was dropped that it has not been told to copy from elsewhere yet
	Outside   bool   // it is no server
	LastErr   string // why it takes nothing, or is not connected; empty: all is well
}

// Destinations lists the other servers by their ids.
func (r *Relay) Destinations() []Destination {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Destination, 0, len(r.dests))
	for _, id := range slices.Sorted(maps.Keys(r.dests)) {
		d := r.dests[id]
		o := Destination{NodeID: id, Bytes: r.journal.index.behind(d.acked), Alive: d.alive, Connected: d.connected, Behind: d.behind, Dropped: d.missed != nil}
		if ms, ok := r.journal.index.since(d.acked); ok && o.Bytes > 0 {
			o.Oldest = time.UnixMilli(ms)
		}
		err := firstError(d.refusing, d.lastErr)
		if out := r.deps.Outside[id]; out != nil {
			o.Outside, err = true, firstError(out.Err(), err)
		}
		if err != nil {
			o.LastErr = err.Error()
		}
		list = append(list, o)
	}
	return list
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Lag is the age of the oldest entry that a server that is alive does not have.
func (r *Relay) Lag() time.Duration {
	var lag time.Duration
	for _, d := range r.Destinations() {
		if d.Alive && !d.Oldest.IsZero() {
			lag = max(lag, time.Since(d.Oldest))
		}
	}
	return lag
}

// SetDestinations names all servers but this one. A new one is sent what comes
// from now on; one that is not named any more is forgotten.
func (r *Relay) SetDestinations(ids []string) {
	r.mu.Lock()
	for id := range r.dests {
		if !slices.Contains(ids, id) && r.deps.Outside[id] == nil {
			delete(r.dests, id)
			r.dirty = true
			r.log.Info("destination removed", "node", id)
		}
	}
	for _, id := range ids {
		if id == r.cfg.NodeID || r.dests[id] != nil {
			continue
		}
		c := cursor{Pos: r.journal.index.endPosition()}
		if r.lost {
			c.Pos = 0
		}
		r.dests[id] = newDestination(id, c)
		r.dests[id].alive = slices.Contains(r.aliveIDs, id)
		r.dirty = true
		r.log.Info("destination added", "node", id)
	}
	r.dirty = r.dirty || r.lost
	r.lost = false
	r.addOutside()
	r.alone.Store(len(r.dests) == 0)
	r.releaseLocked(time.Now())
	r.mu.Unlock()
	if err := r.saveCursors(); err != nil {
		r.log.Warn("cursors not saved", "err", err)
	}
	r.poke()
}

// SetAlive names the servers whose acknowledgement is waited for. Callers that
// wait for one that is not alive any more are released.
func (r *Relay) SetAlive(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.aliveIDs = slices.Clone(ids)
	for id, d := range r.dests {
		alive := slices.Contains(ids, id)
		if alive && !d.alive {
			d.waitFrom = now
			d.notify()
		}
		d.alive = alive
	}
	r.releaseLocked(now)
}

// show tells senders of what is in the log now, and has callers wait for it.
func (r *Relay) show(g *group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, g)
	for _, d := range r.dests {
		d.notify()
	}
	r.releaseLocked(g.shown)
}

// hide forgets a group that nobody is sent any more.
func (r *Relay) hide(g *group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = slices.DeleteFunc(r.waiting, func(o *group) bool { return o == g })
}

// releaseLocked lets go callers whose entries are safe.
func (r *Relay) releaseLocked(now time.Time) {
	if len(r.waiting) == 0 {
		return
	}
	limit, nobody := position(0), true
	for _, d := range r.dests {
		if d.counts(now, r.cfg.ConnectTimeout) {
			nobody = false
			limit = max(limit, d.acked)
		}
	}
	n := 0
	for n < len(r.waiting) && (nobody || r.waiting[n].end <= limit) {
		close(r.waiting[n].safe)
		r.waiting[n] = nil
		n++
	}
	r.waiting = r.waiting[n:]
	if nobody && n > 0 {
		r.m.alone.Add(float64(n))
	}
}

// await returns when the group is on this disk and enough servers have it.
func (r *Relay) await(ctx context.Context, g *group) error {
	<-g.synced
	if g.err != nil {
		return g.err
	}
	select {
	case <-g.safe:
		return nil
	default:
	}
	select {
	case <-g.safe:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stored here, not confirmed by another server: %w: %w", model.ErrUnavailable, context.Cause(ctx))
	case <-r.stopped:
		return fmt.Errorf("stored here, not confirmed by another server: %w", errStopped)
	}
}

// review looks at what changes by time alone.
func (r *Relay) review(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return
	}
	oldest := r.waiting[0]
	for _, d := range r.dests {
		if d.connected && d.counts(now, r.cfg.ConnectTimeout) && d.acked < oldest.end && now.Sub(oldest.shown) > r.cfg.AckTimeout {
			d.behind = true
			r.log.Warn("server does not acknowledge in time, nobody waits for it until it has caught up", "node", d.id)
		}
	}
	r.releaseLocked(now)
}

// linked notes that a destination takes entries from pos on.
func (r *Relay) linked(d *destination, told *missed, pos position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.connected, d.refusing, d.lastErr = true, nil, nil
	d.acked = max(d.acked, pos)
	if told != nil && d.missed != nil && *told == *d.missed {
		d.missed = nil
	}
	r.dirty = true
	d.behind = r.journal.index.behind(d.acked) > r.cfg.WindowBytes/2
	r.releaseLocked(time.Now())
}

// toTell reports whether something was dropped that d has to be told of.
func (r *Relay) toTell(d *destination) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.missed != nil
}

// misunderstood ends a segment before a record that a destination cannot
// decode, when it has said so a few times: it must not keep back all others.
func (r *Relay) misunderstood(d *destination, e refusal) error {
	r.mu.Lock()
	if d.oddPos != e.Damaged {
		d.oddPos, d.oddness = e.Damaged, 0
	}
	d.oddness++
	often := d.oddness >= 3
	r.mu.Unlock()
	if often {
		if err := r.unreadable(&damage{e.Damaged, errors.New(e.Text)}); err != nil {
			return err
		}
	}
	return e.err()
}

// unlinked notes that there is no connection any more.
func (r *Relay) unlinked(d *destination, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.connected {
		d.connected, d.waitFrom = false, time.Now()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		d.lastErr = err
	}
}

// acknowledged notes that a destination has everything before pos.
func (r *Relay) acknowledged(d *destination, pos position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.refusing = nil
	if pos <= d.acked {
		return
	}
	d.acked, r.dirty = pos, true
	if d.behind && r.journal.index.behind(pos) <= r.cfg.WindowBytes/8 {
		d.behind = false
		r.log.Info("server has caught up", "node", d.id)
	}
	r.releaseLocked(time.Now())
	least := pos
	for _, o := range r.dests {
		least = min(least, o.acked)
	}
	r.journal.index.passed(least)
}

// refused notes that a destination can store nothing at the moment.
func (r *Relay) refused(d *destination, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.refusing == nil {
		r.log.Warn("server takes nothing at the moment, the log keeps it", "node", d.id, "err", err)
	}
	d.refusing = err
	r.releaseLocked(time.Now())
}

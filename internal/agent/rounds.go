package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// collect measures the host on time until ctx ends.
func (a *Agent) collect(ctx context.Context) {
	if a.deps.Collectors == nil {
		<-ctx.Done()
		return
	}
	var gone vanished
	first := true
	for {
		interval := a.interval()
		wait := untilTurn(time.Now(), interval, a.cfg.NodeID)
		if first {
			wait = 0 // a host that has just begun is seen at once
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-a.changed:
			t.Stop()
			continue
		case <-t.C:
		}
		first = false
		at := a.deps.Now()
		b := a.deps.Collectors.Collect(ctx, at)
		if ctx.Err() != nil && len(b) == 0 {
			return
		}
		b = append(b, a.own(at.UnixMilli())...)
		a.put(gone.mark(b, at.UnixMilli()))
	}
}

// untilTurn is the time until the next turn: the host's own place within the
// interval, so that many hosts do not answer at once. Seconds are not spread.
func untilTurn(now time.Time, interval time.Duration, id string) time.Duration {
	iv := int64(interval)
	var phase int64
	if interval > time.Second {
		h := fnv.New64a()
		_, _ = h.Write([]byte(id))
		phase = int64(h.Sum64() % uint64(iv))
	}
	wait := (phase - now.UnixNano()%iv + iv) % iv
	if wait < iv/20 {
		wait += iv
	}
	return time.Duration(wait)
}

// vanished finds the series that were there in the round before and are not any
// more: their end is told, so that nobody takes the last value for today's.
type vanished struct {
	last map[uint64]labels.Labels
	next map[uint64]labels.Labels
}

func (v *vanished) mark(b model.Batch, at int64) model.Batch {
	if v.next == nil {
		v.next = make(map[uint64]labels.Labels, len(b))
	}
	clear(v.next)
	for i := range b {
		v.next[b[i].Labels.Hash()] = b[i].Labels
	}
	for h, ls := range v.last {
		if _, ok := v.next[h]; !ok {
			b = append(b, model.Sample{Labels: ls, T: at, V: math.Float64frombits(value.StaleNaN)})
		}
	}
	v.last, v.next = v.next, v.last
	return b
}

// stampCheck completes the samples of a check with its key, for which the server puts
// the check's own labels.
func stampCheck(r model.Result, c model.Check) model.Batch {
	key := uplink.CheckKey(c.ID, c.Revision)
	out := make(model.Batch, len(r.Samples))
	b := labels.NewBuilder(labels.EmptyLabels())
	for i, s := range r.Samples {
		b.Reset(s.Labels)
		b.Set(uplink.CheckLabel, key)
		out[i] = model.Sample{Labels: b.Labels(), T: s.T, V: s.V}
	}
	return out
}

// keep writes to disk what no server has acknowledged for some time, and makes
// it durable, until ctx ends. While nothing waits it sleeps: an agent that has
// nothing to do costs its host nothing.
func (a *Agent) keep(ctx context.Context) {
	tick := time.NewTimer(saveTick)
	defer tick.Stop()
	armed := true
	trim := time.NewTicker(time.Minute)
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-trim.C:
			a.disk.Trim()
		case <-a.spoolNow:
			if a.box.full() {
				a.save(saveAfter)
			}
		case <-tick.C:
			armed = false
			age := saveAfter
			if !a.connected.Load() && a.stopping.Load() == nil {
				age = saveTick // there is nobody to wait for
			}
			a.save(age)
		}
		if !armed && (!a.box.empty() || !a.disk.Durable()) {
			tick.Reset(saveTick)
			armed = true
		}
	}
}

// giveUp drops what can be brought nowhere.
func (a *Agent) giveUp(it *item, why error) {
	if lost := a.box.drop(it); lost > 0 {
		a.log.Warn("samples or events given up: they can be neither sent nor kept", "count", lost, "err", why)
	}
}

// save writes what has waited for longer than age to disk. It says when the disk
// begins to refuse and when it takes again, not each time.
func (a *Agent) save(age time.Duration) {
	var failed error
	for _, it := range a.box.due(age) {
		m, err := a.disk.Append(it.samples, it.events)
		if errors.Is(err, spool.ErrRecord) { // what waits behind it must not wait for ever
			a.giveUp(it, err)
			continue
		}
		if err != nil {
			failed = err
			break
		}
		a.box.stored(it, m)
		a.wake()
	}
	failed = errors.Join(failed, a.disk.Sync())
	if failed != nil {
		a.m.bufferErrors.Inc()
	}
	switch was := a.refused; {
	case failed != nil && !was:
		a.log.Warn("what no server has yet cannot be kept on disk; it stays in memory", "err", failed)
	case failed == nil && was:
		a.log.Info("what no server has yet is kept on disk again")
	}
	a.refused = failed != nil
}

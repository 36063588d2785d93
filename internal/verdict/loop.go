package verdict

import (
	"context"
	"slices"
	"time"

	"panoptes/internal/model"
)

// Run decides until ctx ends. Transitions that were made are recorded before it
// returns.
func (e *Engine) Run(ctx context.Context) error {
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		e.out.run(func(t Transition) { e.deliver(ctx, t) })
	}()
	for _, s := range e.shards {
		e.wg.Go(func() { e.runShard(ctx, s) })
	}
	if e.deps.Samples != nil {
		e.wg.Go(func() { e.runSamples(ctx) })
	}
	e.runClock(ctx)
	e.wg.Wait()
	e.out.close()
	<-delivered
	// What the last confirmations decided is recorded too.
	e.asking.Wait()
	e.out.run(func(t Transition) { e.deliver(ctx, t) })
	e.metrics.unregister()
	return nil
}

func (e *Engine) runShard(ctx context.Context, s *shard) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.queue:
			e.take(ctx, s, r)
		}
	}
}

// runClock looks every second at what changes without a result: maintenance
// windows, regions, votes that expire, confirmations that take too long.
func (e *Engine) runClock(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		e.tick(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) tick(ctx context.Context, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	on := make([]bool, len(e.windows))
	for i, w := range e.windows {
		on[i] = w.active(now)
	}
	regions := sorted(e.deps.Regions())
	moved := !slices.Equal(regions, e.regions)
	e.regions = regions
	e.lockAll()
	for i, w := range e.windows {
		w.on = on[i] // read by the machines of all shards
	}
	e.unlockAll()
	for _, s := range e.shards {
		s.mu.Lock()
		for _, m := range s.byID {
			if moved {
				m.setRegions(expand(m.check.Regions, regions), now)
			}
			e.look(ctx, m, now)
		}
		s.mu.Unlock()
	}
}

func (e *Engine) lockAll() {
	for _, s := range e.shards {
		s.mu.Lock()
	}
}

func (e *Engine) unlockAll() {
	for _, s := range e.shards {
		s.mu.Unlock()
	}
}

// look decides again without a new result. The caller holds the shard's lock.
func (e *Engine) look(ctx context.Context, m *machine, now time.Time) {
	if m.round != 0 && !now.Before(m.holdUntil) {
		m.round = 0
		m.step(now, true)
	} else {
		m.step(now, false)
	}
	e.settle(ctx, m, now)
}

// settle tells of a change, unless it has to wait for a parent. The caller
// holds the shard's lock.
func (e *Engine) settle(ctx context.Context, m *machine, now time.Time) {
	to := m.overlay()
	if to == m.visible {
		e.release(m)
		return
	}
	ancestorDown := e.ancestorDown(m.check.ID)
	if to == model.StatusDown && !ancestorDown && e.waits(ctx, m, now) {
		return
	}
	e.release(m)
	t, changed := m.settle(now, ancestorDown)
	if !changed {
		return
	}
	e.setStatus(m.check.ID, m.visible)
	e.metrics.transitions.WithLabelValues(string(t.To)).Inc()
	e.out.put(t)
}

// take counts one result.
func (e *Engine) take(ctx context.Context, s *shard, r model.Result) {
	e.metrics.results.Inc()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[r.CheckID]
	if m == nil || m.check.Paused {
		return
	}
	before := missing
	for i := range m.regions {
		if m.regions[i].name == r.Region {
			before, _ = m.stand(&m.regions[i], now)
		}
	}
	if !m.accept(r, now) {
		e.metrics.stale.Inc()
		return
	}
	reg := m.region(r.Region)
	after, _ := m.stand(reg, now)
	// A region that turns, against the state, is reason to hear the others.
	heard := after != before && reg.counted && m.visible != model.StatusMaintenance
	fails := heard && after == failing && m.decided != model.StatusDown
	heals := heard && before == failing && after != missing && m.decided == model.StatusDown && len(m.countedRegions()) > 1
	if (fails || heals) && m.round == 0 {
		if fails {
			e.askParent(ctx, m, now)
		}
		e.startRound(ctx, s, m, r.Region, now)
	}
	m.step(now, true)
	e.settle(ctx, m, now)
}

// deliver records a transition, tells the subscribers, and looks after the
// children of a parent that is no longer down.
func (e *Engine) deliver(ctx context.Context, t Transition) {
	if e.deps.Record != nil {
		e.deps.Record(t)
	}
	e.out.tell(t)
	if t.From != model.StatusDown || t.To == model.StatusDown || ctx.Err() != nil {
		return
	}
	for _, id := range e.descendants(t.Check.ID) {
		s := e.shard(id)
		s.mu.Lock()
		if m := s.byID[id]; m != nil && m.suppressed && !e.ancestorDown(id) {
			e.startRelease(ctx, s, m)
		}
		s.mu.Unlock()
	}
}

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
		e.out.run(func(n news) { e.deliver(ctx, n) })
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
	e.out.run(func(n news) { e.deliver(ctx, n) })
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
// windows, regions, owners, votes that expire, confirmations that take too long.
func (e *Engine) runClock(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		e.tick(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.owners:
		}
	}
}

func (e *Engine) tick(ctx context.Context) {
	names := sorted(e.deps.Regions())
	var workers map[string]int
	if e.deps.Workers != nil {
		workers = e.deps.Workers()
	}
	isolated := e.deps.Isolated != nil && e.deps.Isolated()

	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	on := make([]bool, len(e.windows))
	for i, w := range e.windows {
		on[i] = w.active(now)
	}
	moved := !slices.Equal(names, e.regions)
	e.regions = names
	views := e.survey(now)
	e.lockAll()
	for i, w := range e.windows {
		w.on = on[i] // read by the machines of all shards
	}
	e.unlockAll()
	e.listen(now, isolated && e.deaf(views))
	e.judgeRegions(now, names, views, workers)
	for _, s := range e.shards {
		s.mu.Lock()
		for id, m := range s.byID {
			if moved {
				m.setRegions(expand(m.check.Regions, names), now)
			}
			e.applyRegions(m, now)
			e.assign(ctx, s, m, e.owns(id), now)
			e.look(ctx, m, now)
		}
		s.mu.Unlock()
	}
	if isolated {
		e.lone = now
	}
	// What a lone server cannot see says more about itself than about others,
	// and the others do not come back all at once.
	if e.lone.IsZero() || now.Sub(e.lone) >= e.cfg.RegionAfter {
		e.tellRegions(now)
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
	ended := m.round != 0 && !now.Before(m.holdUntil)
	if ended {
		m.round = 0
	}
	m.step(now, ended, e.may(m, now))
	e.settle(ctx, m, now)
}

// settle tells of a change, unless it has to wait for a parent. The caller
// holds the shard's lock.
func (e *Engine) settle(ctx context.Context, m *machine, now time.Time) {
	to := m.overlay()
	if to == m.visible || !e.may(m, now) {
		if to == model.StatusMaintenance {
			m.review = 0
		}
		e.release(m)
		return
	}
	if m.visible == model.StatusMaintenance && e.reviews(ctx, m, to, now) {
		return
	}
	to = m.overlay() // as it is after that
	m.review = 0
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
	e.out.put(news{transition: &t})
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
	heard := after != before && reg.counted && !reg.void && m.visible != model.StatusMaintenance && e.may(m, now)
	fails := heard && after == failing && m.decided != model.StatusDown
	heals := heard && before == failing && after != missing && m.decided == model.StatusDown && len(m.askable()) > 1
	if (fails || heals) && m.round == 0 {
		if fails {
			e.askParent(ctx, m, now)
		}
		e.startRound(ctx, s, m, r.Region, now)
	}
	if r.Untried && !r.Confirm && reg.counted && !reg.void && e.may(m, now) {
		e.askAgain(ctx, s, m, r.Region)
	}
	m.step(now, true, e.may(m, now))
	e.settle(ctx, m, now)
}

// deliver hands on what was decided, or learnt from others: it records own
// transitions, tells the subscribers, and looks after the children of a parent
// that is no longer down.
func (e *Engine) deliver(ctx context.Context, n news) {
	if n.region != nil {
		if e.deps.RegionChanged != nil {
			e.deps.RegionChanged(*n.region)
		}
		return
	}
	t := *n.transition
	if e.deps.Record != nil && !n.adopted {
		e.deps.Record(t)
	}
	e.out.tell(t)
	if t.From != model.StatusDown || t.To == model.StatusDown || ctx.Err() != nil {
		return
	}
	for _, id := range e.descendants(t.Check.ID) {
		s := e.shard(id)
		s.mu.Lock()
		if m := s.byID[id]; m != nil && m.suppressed && !e.ancestorDown(id) && e.may(m, time.Now()) {
			e.startRelease(ctx, s, m)
		}
		s.mu.Unlock()
	}
}

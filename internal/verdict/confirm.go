package verdict

import (
	"context"
	"sync"
	"time"

	"panoptes/internal/model"
)

const (
	fastRetries    = 2
	fastRetryPause = time.Second
	roundSlack     = 5 * time.Second // for the way to the worker and back
)

// startRound asks the other regions to probe now, or, when there is no other,
// the same one twice more. One round per check is under way at most. The caller
// holds the shard's lock.
func (e *Engine) startRound(ctx context.Context, s *shard, m *machine, origin string, now time.Time) {
	if e.deps.Prober == nil {
		return
	}
	var others []string
	for _, r := range m.askable() {
		if r != origin {
			others = append(others, r)
		}
	}
	limit := m.check.Timeout.D() + roundSlack
	if len(others) == 0 {
		limit = fastRetries*(fastRetryPause+m.check.Timeout.D()) + roundSlack
	}
	e.begin(ctx, s, m, now, limit, func(rctx context.Context, id string) {
		if len(others) == 0 {
			e.retryHere(ctx, rctx, s, id, origin)
			return
		}
		e.ask(ctx, rctx, s, id, others)
	}, nil)
}

// startRelease asks all regions about a child whose parent came back, and tells
// of the child when it is still in trouble.
func (e *Engine) startRelease(ctx context.Context, s *shard, m *machine) {
	regions := m.askable()
	e.begin(ctx, s, m, time.Now(), m.check.Timeout.D()+roundSlack, func(rctx context.Context, id string) {
		if e.deps.Prober != nil {
			e.ask(ctx, rctx, s, id, regions)
		}
	}, func(m *machine, now time.Time) {
		if !m.suppressed || m.visible == model.StatusUp || e.ancestorDown(m.check.ID) || m.visible != m.decided || !e.may(m, now) {
			return
		}
		m.message = m.describe(now)
		t := m.transition(now, m.visible, false)
		e.out.put(news{transition: &t})
	})
}

// reviews reports whether a check whose maintenance is over has to wait for
// fresh votes. In a window nobody confirms what fails, so that all regions are
// asked before people hear of it, and what works by then has not been down. The
// caller holds the shard's lock.
func (e *Engine) reviews(ctx context.Context, m *machine, to model.Status, now time.Time) bool {
	if to != model.StatusDown && to != model.StatusDegraded && to != model.StatusUnknown || to == m.told || e.deps.Prober == nil {
		return false
	}
	if m.review != 0 && m.review == m.rounds {
		if m.held(now) {
			return true
		}
		if d, _, ok := m.judge(now); ok && d == m.told {
			m.decide(d)
			m.fails, m.goods = 0, 0
		}
		return false
	}
	s, regions := e.shard(m.check.ID), m.askable()
	limit := (fastRetries+1)*m.check.Timeout.D() + fastRetries*fastRetryPause + roundSlack
	if len(regions) > 1 {
		limit = m.check.Timeout.D() + roundSlack
	}
	e.begin(ctx, s, m, now, limit, func(rctx context.Context, id string) {
		e.ask(ctx, rctx, s, id, regions)
		if len(regions) == 1 && e.regionFails(s, id, regions[0]) {
			e.retryHere(ctx, rctx, s, id, regions[0])
		}
	}, nil)
	m.review = m.round
	return true
}

// askAgain asks a region whose worker could not try: another one there may be
// able to. It is no confirmation, what it finds counts as any result does. The
// caller holds the shard's lock.
func (e *Engine) askAgain(ctx context.Context, s *shard, m *machine, region string) {
	if e.deps.Prober == nil {
		return
	}
	id, limit := m.check.ID, m.check.Timeout.D()+roundSlack
	e.asking.Go(func() {
		rctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		e.probe(ctx, rctx, s, id, region)
	})
}

// begin runs ask in the background and decides when it has ended.
func (e *Engine) begin(ctx context.Context, s *shard, m *machine, now time.Time, limit time.Duration, ask func(context.Context, string), then func(*machine, time.Time)) {
	m.rounds++
	number := m.rounds
	id := m.check.ID
	done := make(chan struct{})
	m.round, m.holdUntil, m.answered = number, now.Add(limit), done
	e.metrics.rounds.Inc()
	e.asking.Go(func() {
		defer close(done)
		rctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ask(rctx, id)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		if s.byID[id] != m {
			return
		}
		if m.round == number {
			m.round = 0
			m.step(now, true, e.may(m, now))
			e.settle(ctx, m, now)
		}
		if then != nil {
			then(m, now)
		}
	})
}

// ask probes in several regions at once; each answer counts as it comes. The
// round ends with rctx, what the answers give rise to with ctx.
func (e *Engine) ask(ctx, rctx context.Context, s *shard, id string, regions []string) {
	var wg sync.WaitGroup
	for _, r := range regions {
		wg.Go(func() { e.probe(ctx, rctx, s, id, r) })
	}
	wg.Wait()
}

// retryHere probes twice more, a second apart, and stops at the first success.
func (e *Engine) retryHere(ctx, rctx context.Context, s *shard, id, region string) {
	for range fastRetries {
		select {
		case <-rctx.Done():
			return
		case <-time.After(fastRetryPause):
		}
		e.probe(ctx, rctx, s, id, region)
		if !e.regionFails(s, id, region) {
			return
		}
	}
}

func (e *Engine) regionFails(s *shard, id, region string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[id]
	if m == nil {
		return false
	}
	st, _ := m.stand(m.region(region), time.Now())
	return st == failing
}

func (e *Engine) probe(ctx, rctx context.Context, s *shard, id, region string) {
	select {
	case e.slots <- struct{}{}:
	case <-rctx.Done():
		return
	}
	r, err := e.deps.Prober.ProbeNow(rctx, id, region)
	<-e.slots
	if err != nil {
		// Nobody there to ask: the region keeps the vote it has, if any.
		e.metrics.unasked.Inc()
		e.log.Debug("region not asked", "check", id, "region", region, "err", err)
		return
	}
	r.CheckID, r.Region, r.Confirm = id, region, true
	if e.deps.Share != nil {
		e.deps.Share(r)
	}
	e.take(ctx, s, r)
}

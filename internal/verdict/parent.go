package verdict

import (
	"context"
	"time"

	"panoptes/internal/model"
)

// A parent and its child often fail of one cause, and the child may be heard
// first. So the parent is asked about as soon as a child fails, and the child's
// down is told when the parent has answered: suppressed when it is down too.

// inquiryPause bounds what many children that fail one after another may cost.
const inquiryPause = time.Second

// askParent asks about the parent of a failing check, unless it is known to be
// down. Another server may decide on the parent: it hears the answers. The caller holds the lock of m's shard.
func (e *Engine) askParent(ctx context.Context, m *machine, now time.Time) {
	id := m.check.ID
	e.statusMu.Lock()
	parent := e.parents[id]
	known, owned := e.status[parent]
	if !owned || known == model.StatusDown || e.deps.Prober == nil || ctx.Err() != nil {
		e.statusMu.Unlock()
		return
	}
	e.open[parent]++ // before the child can be settled
	e.statusMu.Unlock()
	m.parentAsked = now
	e.asking.Go(func() {
		e.inquire(ctx, parent)
		e.answered(parent)
		s := e.shard(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.byID[id] == m && ctx.Err() == nil {
			e.settle(ctx, m, time.Now())
		}
	})
}

// inquire confirms a check that has not failed so far and waits for the end. A
// confirmation that is under way is as good as a new one.
func (e *Engine) inquire(ctx context.Context, id string) {
	s := e.shard(id)
	s.mu.Lock()
	m := s.byID[id]
	if m == nil || m.check.Paused {
		s.mu.Unlock()
		return
	}
	// Its maintenance may have ended at the same moment.
	e.look(ctx, m, time.Now())
	if m.decided == model.StatusDown || m.visible == model.StatusMaintenance {
		s.mu.Unlock()
		return
	}
	if now := time.Now(); m.round == 0 {
		if now.Sub(m.inquired) < inquiryPause {
			s.mu.Unlock()
			return // a sibling has just heard that it is well
		}
		m.inquired = now
		e.startInquiry(ctx, s, m)
	}
	ended := m.answered
	s.mu.Unlock()
	select {
	case <-ended:
		e.awaitOwner(ctx, s, id)
	case <-ctx.Done():
	}
}

// awaitOwner waits for the decision of the server that owns a check when the
// votes say that it is down: it has heard the same answers.
func (e *Engine) awaitOwner(ctx context.Context, s *shard, id string) {
	ctx, cancel := context.WithTimeout(ctx, roundSlack)
	defer cancel()
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		s.mu.Lock()
		m := s.byID[id]
		wait := m != nil && !m.owned && m.decided != model.StatusDown && m.visible != model.StatusMaintenance
		if wait {
			d, _, ok := m.judge(time.Now())
			wait = ok && d == model.StatusDown
		}
		s.mu.Unlock()
		if !wait {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// startInquiry asks all regions about a check, and where there is only one,
// twice more when it fails. The caller holds the shard's lock.
func (e *Engine) startInquiry(ctx context.Context, s *shard, m *machine) {
	regions := m.askable()
	timeout := m.check.Timeout.D()
	limit := timeout + roundSlack
	if len(regions) == 1 {
		limit += fastRetries * (fastRetryPause + timeout)
	}
	e.begin(ctx, s, m, time.Now(), limit, func(rctx context.Context, id string) {
		e.ask(ctx, rctx, s, id, regions)
		if len(regions) == 1 && e.regionFails(s, id, regions[0]) {
			e.retryHere(ctx, rctx, s, id, regions[0])
		}
	}, nil)
}

// waits reports whether a check that is about to be down has to wait for an
// ancestor. It waits once, at most the parent's timeout and 5 s. The caller
// holds the shard's lock.
func (e *Engine) waits(ctx context.Context, m *machine, now time.Time) bool {
	if !m.waitUntil.IsZero() {
		return now.Before(m.waitUntil) && e.ancestorOpen(m.check.ID)
	}
	// With retries the first failure, when the parent was asked, is long past.
	if now.Sub(m.parentAsked) >= m.check.Interval.D()*3/4 {
		e.askParent(ctx, m, now)
	}
	if !e.ancestorOpen(m.check.ID) {
		return false
	}
	e.statusMu.Lock()
	e.open[m.check.ID]++ // its own children wait with it
	m.waitUntil = now.Add(e.patience[m.check.ID])
	e.statusMu.Unlock()
	return true
}

// release ends the wait of a check. The caller holds the shard's lock.
func (e *Engine) release(m *machine) {
	if !m.waitUntil.IsZero() {
		m.waitUntil = time.Time{}
		e.answered(m.check.ID)
	}
}

// answered takes back one question about a check.
func (e *Engine) answered(id string) {
	e.statusMu.Lock()
	defer e.statusMu.Unlock()
	if e.open[id]--; e.open[id] <= 0 {
		delete(e.open, id)
	}
}

// ancestorOpen reports whether a question about an ancestor is not answered yet.
func (e *Engine) ancestorOpen(id string) bool {
	e.statusMu.RLock()
	defer e.statusMu.RUnlock()
	for range maxAncestors {
		p, ok := e.parents[id]
		if !ok {
			return false
		}
		if e.open[p] > 0 {
			return true
		}
		id = p
	}
	return false
}

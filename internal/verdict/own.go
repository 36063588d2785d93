package verdict

import (
	"context"
	"time"

	"panoptes/internal/model"
)

// Every server hears every result and holds every check's machine. One decides,
// the others follow: they count the votes, so that they can take over within a
// second, and take its transitions as they arrive.

// early is a transition of a check whose record has not arrived yet.
type early struct {
	t  Transition
	at time.Time // when it came
}

const (
	earlyAge = 10 * time.Minute
	maxEarly = 100_000
	// assertPause bounds how often two servers that both think they decide, and
	// hear different votes, may overrule each other.
	assertPause = 30 * time.Second
)

func (e *Engine) owns(key string) bool { return e.deps.Owns == nil || e.deps.Owns(key) }

// may reports whether this server decides on a check now. The caller holds the
// shard's lock.
func (e *Engine) may(m *machine, now time.Time) bool { return m.owned && !e.quiet.now(now) }

// OwnersChanged has the engine ask Owns again, at once. It never blocks. Checks
// that this server decides on from now are looked at with the votes it has; the
// change itself says nothing to anybody.
func (e *Engine) OwnersChanged() {
	select {
	case e.owners <- struct{}{}:
	default:
	}
}

// assign notes who decides on a check. The caller holds the shard's lock.
func (e *Engine) assign(ctx context.Context, s *shard, m *machine, owned bool, now time.Time) {
	was := m.owned
	m.owned = owned
	switch {
	case was && !owned:
		m.round = 0 // its answers are votes, nothing more
		e.release(m)
	case owned && !was:
		e.takeOver(ctx, s, m, now)
	}
}

// takeOver begins again what the owner before may have begun: it asks the other
// regions when the votes call for it. The caller holds the shard's lock.
func (e *Engine) takeOver(ctx context.Context, s *shard, m *machine, now time.Time) {
	if m.check.Paused || m.visible == model.StatusMaintenance || m.round != 0 || !e.may(m, now) {
		return
	}
	var bad, well string
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted || r.void {
			continue
		}
		switch st, _ := m.stand(r, now); st {
		case failing:
			bad = r.name
		case good, soft:
			well = r.name
		}
	}
	switch {
	case bad != "" && m.decided != model.StatusDown && m.decided != model.StatusDegraded:
		e.askParent(ctx, m, now)
		e.startRound(ctx, s, m, bad, now)
	case well != "" && m.decided == model.StatusDown && len(m.askable()) > 1:
		e.startRound(ctx, s, m, well, now)
	}
}

// Adopt takes a transition that another server decided, in any order and as
// often as it comes, and reports whether it is the state of the check now. It
// tells the subscribers and records nothing. A server that decides on the check
// itself overrules it when its own votes are newer and say something else.
func (e *Engine) Adopt(t Transition) bool {
	if t.Check.ID == "" || t.To.Code() < 0 {
		return false
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.shard(t.Check.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[t.Check.ID]
	if m == nil {
		held, ok := e.restored[t.Check.ID]
		if ok && !held.t.stamp().before(t.stamp()) || !ok && len(e.restored) >= maxEarly {
			return false
		}
		e.restored[t.Check.ID] = early{t, now}
		return false
	}
	if !m.last.before(t.stamp()) {
		return false
	}
	e.metrics.adopted.Inc()
	same := t.To == m.visible && t.decided() == m.decided
	switch {
	case same && m.owned:
		// Both came to the same: this is no second piece of news.
		m.last, m.told = t.stamp(), t.told()
		return false
	case m.owned && e.overrules(m, t, now):
		m.asserted = now
		m.last, m.told = t.stamp(), t.told()
		m.message = m.describe(now)
		own := m.transition(now, t.To, e.ancestorDown(m.check.ID))
		m.since = own.At
		e.metrics.transitions.WithLabelValues(string(own.To)).Inc()
		e.out.put(news{transition: &own})
		return false
	}
	t.Check = m.check // the event knows less
	m.adopt(t, now)
	e.release(m)
	e.setStatus(m.check.ID, m.visible)
	e.out.put(news{transition: &t, adopted: true})
	return true
}

// overrules reports whether the decision made here stands against t: it rests
// on newer votes, they still say so, and those that are missing could not change
// it. The caller holds the shard's lock.
func (e *Engine) overrules(m *machine, t Transition, now time.Time) bool {
	if !e.may(m, now) || m.visible != m.decided || now.Sub(m.asserted) < assertPause {
		return false
	}
	d, tally, ok := m.judge(now)
	return ok && d != model.StatusUnknown && m.settled(tally) && d == m.decided && !m.newestVote(now).Before(t.newestVote())
}

// newestVote is when the youngest vote that counts was made.
func (m *machine) newestVote(now time.Time) (newest time.Time) {
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted || r.void {
			continue
		}
		for j := range r.votes {
			if v := &r.votes[j]; v.votes() && m.fresh(r, v, now) && v.at.After(newest) {
				newest = v.at
			}
		}
	}
	return newest
}

// forgetEarly drops the transitions of checks that never arrived.
func (e *Engine) forgetEarly(now time.Time) {
	for id, x := range e.restored {
		if now.Sub(x.at) > earlyAge {
			delete(e.restored, id)
		}
	}
}

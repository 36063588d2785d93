package verdict

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// machine is the state of one check. Its owner holds the shard's lock.
type machine struct {
	check   model.Check
	policy  Policy
	regions []regionVotes
	windows []*window
	ttl     time.Duration
	series  labels.Labels // of panoptes_check_status

	decided    model.Status // by votes alone
	visible    model.Status // decided, or maintenance, or paused
	told       model.Status
	suppressed bool
	since      time.Time
	message    string
	code       string
	live       bool // decided here, not only restored
	fallen     bool // was down and has not been up since, whatever unknown came between
	graceUntil time.Time

	owned    bool          // this server decides
	last     stamp         // of the newest transition, whoever made it
	from     time.Time     // votes from before count no more
	asserted time.Time     // when a decision of another server was overruled last
	trust    time.Time     // until then what another server decided stands, unless all votes say otherwise
	alone    time.Time     // since when a minority of regions fails; zero when none does
	patience time.Duration // how long that waits for a word about the region as a whole

	fails, goods int
	lastCount    time.Time

	round     int // number of the confirmation in flight, 0 for none
	rounds    int
	holdUntil time.Time
	answered  chan struct{} // closed when that confirmation has ended
	review    int           // number of the round that looks again after maintenance; 0 for none

	inquired    time.Time // when a child had this check asked about last
	parentAsked time.Time // when this child had its parent asked about last
	waitUntil   time.Time // down, but the parent's answer is waited for; zero when it is not
}

func voteAge(c *model.Check) time.Duration {
	return max(c.Interval.D()*3/2, minVoteAge) + c.Timeout.D()
}

func newMachine(now time.Time) *machine {
	return &machine{decided: model.StatusPending, visible: model.StatusPending, told: model.StatusUp, since: now, code: "check.pending", message: "no result yet"}
}

// configure takes over the record. Votes about something else are forgotten.
func (m *machine) configure(c model.Check, p Policy, regions []string, now time.Time) {
	old := m.check
	m.check, m.policy, m.ttl, m.series = c, p, voteAge(&c), series(&c)
	if old.ID != "" && (old.Target != c.Target || old.Type != c.Type || old.Inverted != c.Inverted || string(old.Block) != string(c.Block)) {
		m.regions = nil
		m.live = false
		m.fails, m.goods = 0, 0
	}
	m.setRegions(regions, now)
}

func (m *machine) setRegions(names []string, now time.Time) {
	for _, n := range names {
		if r := m.region(n); !r.counted && len(r.votes) == 0 {
			// A new region must have time to vote before its silence means anything.
			m.graceUntil = now.Add(m.ttl)
		}
	}
	for i := range m.regions {
		r := &m.regions[i]
		r.counted = slices.Contains(names, r.name)
		r.weight = m.policy.Weight(r.name)
	}
}

func (m *machine) region(name string) *regionVotes {
	for i := range m.regions {
		if m.regions[i].name == name {
			return &m.regions[i]
		}
	}
	m.regions = append(m.regions, regionVotes{name: name, weight: m.policy.Weight(name)})
	return &m.regions[len(m.regions)-1]
}

func (m *machine) held(now time.Time) bool { return m.round != 0 && now.Before(m.holdUntil) }

// spaced reports whether a decision may be counted: one per interval, give or
// take a quarter, however many regions report in between.
func (m *machine) spaced(now time.Time, n int) bool {
	return n == 0 || now.Sub(m.lastCount) >= m.check.Interval.D()*3/4
}

// judge says what the votes amount to; false when the state stays as it is:
// because all regions that could tell are impaired, because the check is down
// and still fails in so many that the impaired ones could be what is missing, or
// because another server has just decided and not all have voted here.
func (m *machine) judge(now time.Time) (d model.Status, t Tally, ok bool) {
	t = m.tally(now)
	if t.Impaired > 0 && t.Missing <= 0 && t.voters() <= 0 {
		return "", t, false
	}
	d = m.policy.Decide(t)
	if d == model.StatusDegraded && m.decided == model.StatusDown && m.below(t) {
		return "", t, false
	}
	if d != m.decided && now.Before(m.trust) && !m.settled(t) {
		return "", t, false // the votes it rests on may still be on their way
	}
	return d, t, true
}

// settled reports whether the votes that are not there could change nothing.
func (m *machine) settled(t Tally) bool {
	return m.policy.reached(t.Failing, t.Total) || !m.policy.reached(t.Failing+t.Missing+t.Impaired, t.Total)
}

// below reports whether the failing regions would be enough if the impaired
// ones failed too.
func (m *machine) below(t Tally) bool {
	return t.Failing > 0 && t.Impaired > 0 && m.policy.reached(t.Failing+t.Impaired, t.Total)
}

// step decides again. fresh says that something new was heard, so that the
// decision counts towards retries and recover_after. Without may it counts
// only: another server decides, and this one must know how far it was.
func (m *machine) step(now time.Time, fresh, may bool) {
	if m.check.Paused {
		return
	}
	d, t, ok := m.judge(now)
	if !ok {
		return
	}
	if d != model.StatusDegraded || t.Failing == 0 {
		m.alone = time.Time{}
	}
	switch d {
	case model.StatusUnknown:
		if may && m.decided != d && !m.held(now) && !now.Before(m.graceUntil) {
			m.decide(d)
			m.fails, m.goods = 0, 0
		}
	case model.StatusDown:
		m.goods = 0
		if m.decided == d {
			m.live = m.live || may
			return
		}
		if m.held(now) && len(m.askable()) == 1 {
			return
		}
		if fresh && m.spaced(now, m.fails) {
			m.fails++
			m.lastCount = now
		}
		if may && m.fails > m.check.Retries {
			m.decide(d)
			m.fails = 0
		}
	default:
		m.fails = 0
		if m.fallen {
			if fresh && m.spaced(now, m.goods) {
				m.goods++
				m.lastCount = now
			}
			if m.goods < max(m.check.RecoverAfter, 1) || t.Failing > 0 && m.held(now) {
				return // the answers of the other regions are on their way
			}
		} else if m.decided != d && (m.held(now) || m.tooSoon(d, t, now)) {
			return
		}
		if may {
			m.decide(d)
			m.goods = 0
		}
	}
}

// tooSoon reports whether a failing minority has to wait: it may be the region
// that fails and not the target.
func (m *machine) tooSoon(d model.Status, t Tally, now time.Time) bool {
	if d != model.StatusDegraded || t.Failing == 0 || m.patience == 0 {
		return false
	}
	if m.alone.IsZero() {
		m.alone = now
	}
	return now.Sub(m.alone) < m.patience
}

func (m *machine) decide(s model.Status) {
	m.decided = s
	m.live = true
	m.fallen = s == model.StatusDown || s == model.StatusUnknown && m.fallen
}

// overlay is the state that people see.
func (m *machine) overlay() model.Status {
	if m.check.Paused {
		return model.StatusPaused
	}
	for _, w := range m.windows {
		if w.on {
			return model.StatusMaintenance
		}
	}
	return m.decided
}

// settle compares what is seen with what was seen last and returns the
// transition, if there is one.
func (m *machine) settle(now time.Time, ancestorDown bool) (Transition, bool) {
	to := m.overlay()
	if to == m.visible {
		return Transition{}, false
	}
	from := m.visible
	if from == model.StatusPaused && to != model.StatusMaintenance {
		// The votes from before the pause say nothing about now.
		for i := range m.regions {
			m.regions[i].votes = nil
		}
		m.decided, m.live, m.fallen = model.StatusPending, false, false
		m.graceUntil = now.Add(m.ttl)
		to = m.decided
	}
	m.visible = to
	m.code = "check." + string(to)
	m.message = m.describe(now)
	t := m.transition(now, from, ancestorDown)
	m.since = t.At
	return t, true
}

// transition tells of the visible state. Its time lies after the one before,
// even if that was made by a server whose clock is ahead: the others go by it.
func (m *machine) transition(now time.Time, from model.Status, ancestorDown bool) Transition {
	at := now
	if first := m.last.at.Add(time.Millisecond); at.Before(first) {
		at = first
	}
	t := Transition{
		ID: model.NewID(at), Check: m.check, From: from, To: m.visible, At: at, Message: m.message, Code: m.code,
		Regions: m.regionStates(now), Decided: m.decided,
	}
	m.last = t.stamp()
	decision := slices.Contains(decisions, m.visible)
	t.Suppressed = ancestorDown && decision && m.visible != model.StatusUp
	m.suppressed = t.Suppressed
	if decision && m.visible != m.told {
		t.Notify = true
		if !t.Suppressed {
			m.told = m.visible
		}
	}
	t.Told = m.told
	if m.visible == model.StatusDown || m.visible == model.StatusDegraded {
		t.Evidence = m.evidence(now)
	}
	return t
}

var decisions = []model.Status{model.StatusUp, model.StatusDown, model.StatusDegraded, model.StatusUnknown}

// restore continues from the last state event of the owner before.
func (m *machine) restore(t Transition, now time.Time) {
	if m.live || m.visible != model.StatusPending {
		return
	}
	m.adopt(t, now)
	m.graceUntil = now.Add(m.ttl)
}

// adopt takes over what another server decided.
func (m *machine) adopt(t Transition, now time.Time) {
	if m.visible == model.StatusPaused && t.To != model.StatusPaused {
		m.from = t.At // what was seen before the pause says nothing about now
	}
	m.visible, m.since, m.message, m.code = t.To, t.At, t.Message, t.Code
	m.suppressed, m.last, m.live = t.Suppressed, t.stamp(), false
	m.fails, m.goods, m.alone, m.trust = 0, 0, time.Time{}, now.Add(m.ttl)
	m.decided, m.told = t.decided(), t.told()
	m.fallen = m.decided == model.StatusDown || m.decided == model.StatusUnknown && m.told == model.StatusDown
}

package verdict

import (
	"fmt"
	"math"
	"time"

	"panoptes/internal/model"
)

// A region is impaired as a whole when its workers are gone, when they say
// themselves that they are cut off, or when nearly everything fails only there.
// Then it does not vote, and people hear of the region instead of its checks.

const (
	recentVotes  = 10 * time.Second // in which a region's newest votes are looked at on their own
	regionChecks = 5                // checks that it takes to judge a region
	regionOnset  = 5 * time.Second  // impaired that long, its last votes do not count any more
	regionCalm   = 10 * time.Second // a region must be well that long before it votes again
	maxPatience  = 10 * time.Second // how long a failing minority waits for a word about its region
)

// view is what the votes of all checks say about one region at one moment.
type view struct {
	checks              int // that count the region
	votes               int // fresh ones that do not abstain
	well, alone         int // checks that the others see well, and those of them that fail here
	newWell, newAlone   int // the same of votes made just now
	probers             map[string]*prober
	abstained, returned time.Time // last vote that abstained; last good one after an abstention
}

type prober struct{ abstain, fail, good int }

// cutOff reports whether all workers of the region say that they are.
func (v view) cutOff() bool {
	if len(v.probers) == 0 || !v.abstained.After(v.returned) {
		return false
	}
	for _, p := range v.probers {
		if p.abstain == 0 || p.abstain < 4*p.fail {
			return false
		}
	}
	return true
}

// mute reports whether the region knows nothing about the world.
func (v view) mute() bool { return v.votes == 0 || v.cutOff() }

// deaf reports whether the workers of this server's region know nothing.
func (e *Engine) deaf(views map[string]view) bool {
	if e.cfg.Region != "" {
		return views[e.cfg.Region].mute()
	}
	for _, v := range views {
		if !v.mute() {
			return false
		}
	}
	return true
}

// alien reports whether nearly everything fails here and nowhere else.
func (v view) alien() bool {
	most := func(fails, of int) bool { return of >= regionChecks && fails*5 >= of*4 }
	return most(v.alone, v.well) || most(v.newAlone, v.newWell)
}

// lifted reports whether that is over, with room between the two.
func (v view) lifted() bool { return v.well == 0 && v.votes == 0 || v.well > 0 && v.alone*2 < v.well }

// survey looks at the votes of all checks, as they are and whoever decides.
func (e *Engine) survey(now time.Time) map[string]view {
	views := map[string]*view{}
	for _, s := range e.shards {
		s.mu.Lock()
		for _, m := range s.byID {
			// A heartbeat says nothing about the network of who waits for it.
			if !m.check.Paused && m.check.Type != "push" {
				m.survey(views, now)
			}
		}
		s.mu.Unlock()
	}
	out := make(map[string]view, len(views))
	for name, v := range views {
		out[name] = *v
	}
	return out
}

func (m *machine) survey(views map[string]*view, now time.Time) {
	goods, bads := 0, 0 // among the regions that vote
	for i := range m.regions {
		if r := &m.regions[i]; r.counted && !r.void {
			switch s, _ := m.stand(r, now); s {
			case good, soft:
				goods++
			case failing:
				bads++
			}
		}
	}
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted {
			continue
		}
		v := views[r.name]
		if v == nil {
			v = &view{probers: map[string]*prober{}}
			views[r.name] = v
		}
		v.checks++
		m.countVotes(v, r, now)
		s, newest := m.stand(r, now)
		if s == missing {
			continue
		}
		v.votes++
		g, b := goods, bads
		if !r.void {
			if s == failing {
				b--
			} else {
				g--
			}
		}
		if g == 0 || b > 0 {
			continue // the others do not see it well, or there are none
		}
		recent := now.Sub(newest.at) < recentVotes
		v.well++
		if recent {
			v.newWell++
		}
		if s == failing {
			v.alone++
			if recent {
				v.newAlone++
			}
		}
	}
}

func (m *machine) countVotes(v *view, r *regionVotes, now time.Time) {
	for j := range r.votes {
		x := &r.votes[j]
		if x.untried || !m.fresh(r, x, now) {
			continue
		}
		p := v.probers[x.prober]
		if p == nil {
			p = &prober{}
			v.probers[x.prober] = p
		}
		switch {
		case x.abstain:
			p.abstain++
			if x.at.After(v.abstained) {
				v.abstained = x.at
			}
		case x.fail:
			p.fail++
		default:
			p.good++
			if x.returned && x.at.After(v.returned) {
				v.returned = x.at
			}
		}
	}
}

// place is what this server knows about a region.
type place struct {
	view
	workers  int // -1: nobody counts them
	impaired bool
	void     bool      // impaired long enough that its votes do not count either
	code     string    // why: vanished, cut_off or alone
	reason   string    // why, in words
	since    time.Time // of impaired
	calm     time.Time // since when nothing speaks for impaired any more; zero while something does
	from     time.Time // votes from before do not count

	told  bool      // that it is impaired
	heard time.Time // when another server said otherwise than this one would
	last  stamp
}

// judgeRegions brings the places up to date. A region that is not configured
// any more is forgotten.
func (e *Engine) judgeRegions(now time.Time, names []string, views map[string]view, workers map[string]int) {
	e.placeMu.Lock()
	defer e.placeMu.Unlock()
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
		p := e.places[n]
		if p == nil {
			p = &place{since: now}
			e.places[n] = p
		}
		p.view, p.workers = views[n], -1
		if workers != nil {
			p.workers = workers[n]
		}
		e.judgeRegion(p, n, now)
	}
	for n := range e.places {
		if !known[n] {
			delete(e.places, n)
		}
	}
}

func (e *Engine) judgeRegion(p *place, name string, now time.Time) {
	code, reason := "", ""
	switch {
	case p.checks == 0:
	case p.workers == 0:
		code, reason = "vanished", "no worker there is alive"
	case p.cutOff():
		code, reason = "cut_off", "its workers find themselves cut off"
	case p.alien(), p.impaired && p.code == "alone" && !p.lifted():
		code, reason = "alone", fmt.Sprintf("%d of %d checks that others see well fail only there", p.alone, p.well)
	}
	switch {
	case code != "" && p.impaired:
		p.code, p.reason, p.calm = code, reason, time.Time{}
	case code != "":
		p.impaired, p.code, p.reason, p.since, p.calm = true, code, reason, now, time.Time{}
		e.log.Warn("region impaired, it does not vote", "region", name, "reason", reason)
	case p.impaired && !p.void:
		p.impaired, p.code, p.reason, p.since = false, "", "", now // gossip changed its mind
	case p.impaired && p.calm.IsZero():
		p.calm = now
	case p.impaired && now.Sub(p.calm) >= regionCalm:
		// What it saw before says nothing about the targets.
		p.impaired, p.void, p.code, p.reason, p.since, p.from, p.calm = false, false, "", "", now, p.calm, time.Time{}
		e.log.Info("region votes again", "region", name)
	}
	// When workers are gone or cut off their last votes count a moment longer:
	// the state of a check must not follow every doubt about a worker.
	p.void = p.void || code != "" && (code == "alone" || now.Sub(p.since) >= regionOnset)
}

// applyRegions tells a machine which regions vote. The caller holds the shard's
// lock.
func (e *Engine) applyRegions(m *machine, now time.Time) {
	e.placeMu.RLock()
	defer e.placeMu.RUnlock()
	regions, judged := 0, false
	for i := range m.regions {
		r := &m.regions[i]
		p := e.places[r.name]
		if p == nil {
			r.impaired, r.void = "", false
			continue
		}
		if r.counted {
			regions++
			judged = judged || p.checks >= regionChecks
		}
		if !p.impaired && r.impaired != "" {
			m.graceUntil = later(m.graceUntil, now.Add(m.ttl))
		}
		r.impaired, r.void, r.from = "", p.void, p.from
		if p.impaired {
			r.impaired = p.reason
		}
	}
	m.patience = 0
	if judged && regions > 1 {
		m.patience = min(m.check.Interval.D()/2, maxPatience)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tellRegions makes the transitions of the regions that this server decides on.
func (e *Engine) tellRegions(now time.Time) {
	if e.quiet.now(now) {
		return
	}
	e.placeMu.Lock()
	defer e.placeMu.Unlock()
	for name, p := range e.places {
		if p.impaired == p.told || !e.owns(regionKey(name)) || p.impaired && now.Sub(p.since) < e.cfg.RegionAfter || now.Sub(p.heard) < e.cfg.RegionAfter {
			continue // what was said is right, or another's to say, or may pass
		}
		t := p.transition(name, now)
		p.told, p.last = p.impaired, stamp{t.At, t.ID}
		e.out.put(news{region: &t})
	}
}

func (p *place) transition(name string, now time.Time) RegionTransition {
	at := later(now, p.last.at.Add(time.Millisecond))
	t := RegionTransition{ID: model.NewID(at), Region: name, Impaired: p.impaired, At: at, Since: p.since}
	if !p.impaired {
		t.Code, t.Message = "region.recovered", fmt.Sprintf("region %s votes again", name)
		return t
	}
	t.Code, t.Cause = "region.impaired", p.code
	t.Message = fmt.Sprintf("region %s is impaired: %s; it does not vote", name, p.reason)
	return t
}

// RegionStatus is a region as the pages show it.
type RegionStatus struct {
	Name       string    `json:"name"`
	Impaired   bool      `json:"impaired"`
	Cause      string    `json:"cause,omitempty"`  // vanished, cut_off or alone
	Reason     string    `json:"reason,omitempty"` // the cause in words
	Since      time.Time `json:"since"`
	Workers    int       `json:"workers"`    // live ones; -1 when nobody counts them
	Checks     int       `json:"checks"`     // that count the region
	Voting     int       `json:"voting"`     // checks with a fresh vote from there
	Failing    int       `json:"failing"`    // checks that fail there
	Abstaining int       `json:"abstaining"` // votes that abstain
}

// Regions returns the configured regions as this server sees them, by name.
func (e *Engine) Regions() map[string]RegionStatus {
	e.placeMu.RLock()
	defer e.placeMu.RUnlock()
	out := make(map[string]RegionStatus, len(e.places))
	for name, p := range e.places {
		s := RegionStatus{
			Name: name, Impaired: p.impaired, Cause: p.code, Reason: p.reason, Since: p.since.UTC(),
			Workers: p.workers, Checks: p.checks, Voting: p.votes,
		}
		for _, x := range p.probers {
			s.Failing = int(math.Min(float64(s.Failing+x.fail), float64(p.checks)))
			s.Abstaining += x.abstain
		}
		out[name] = s
	}
	return out
}

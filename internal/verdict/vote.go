package verdict

import (
	"slices"
	"time"

	"panoptes/internal/model"
)

const (
	minVoteAge = 10 * time.Second
	maxProbers = 8  // votes kept per region
	maxRegions = 64 // regions kept per check, beyond the configured ones
)

// vote is the last result of one prober.
type vote struct {
	prober   string
	start    time.Time // by the prober's clock: orders its results
	at       time.Time // by ours, never in the future: makes it expire
	fail     bool
	soft     bool
	abstain  bool
	untried  bool // its prober could not or may not try: it says nothing
	returned bool // well, and the vote before it abstained
	message  string
	duration time.Duration
	evidence []byte
}

// votes reports whether it says something about the target.
func (v *vote) votes() bool { return !v.abstain && !v.untried }

type regionVotes struct {
	name     string
	weight   float64
	counted  bool      // configured, so part of the denominator
	impaired string    // why the region as a whole is impaired; empty when it is not. Then its silence means nothing
	void     bool      // impaired, and its votes do not count either
	from     time.Time // votes from before count no more; zero for none
	votes    []vote
}

// standing is what a region says now.
type standing int

const (
	missing standing = iota
	good
	soft
	failing
)

// accept stores a result as a vote; false when it is older than what is held.
func (m *machine) accept(r model.Result, now time.Time) bool {
	end := r.Start.Add(r.Duration)
	if now.Sub(end) >= m.ttl {
		return false // back-filled: it tells nothing about now
	}
	if end.After(now) {
		end = now
	}
	if len(m.regions) >= maxRegions && !slices.ContainsFunc(m.regions, func(x regionVotes) bool { return x.name == r.Region }) {
		return false
	}
	reg := m.region(r.Region)
	v := vote{
		prober: r.Prober, start: r.Start, at: end, abstain: r.Abstain && !r.Untried, untried: r.Untried,
		fail: !r.Untried && r.Success == m.check.Inverted,
		soft: r.Degraded && !m.check.Inverted, message: r.Message, duration: r.Duration,
	}
	if v.fail && len(r.Evidence) <= maxEvidence {
		v.evidence = r.Evidence
	}
	for i := range reg.votes {
		if reg.votes[i].prober == r.Prober {
			held := &reg.votes[i]
			if !r.Start.After(held.start) && now.Sub(held.at) < m.ttl {
				return false
			}
			v.returned = held.abstain && v.votes() && !v.fail
			reg.votes[i] = v
			return true
		}
	}
	if len(reg.votes) >= maxProbers {
		oldest := 0
		for i := range reg.votes {
			if reg.votes[i].at.Before(reg.votes[oldest].at) {
				oldest = i
			}
		}
		reg.votes[oldest] = v
		return true
	}
	reg.votes = append(reg.votes, v)
	return true
}

// stand tells what a region says: the majority of its newest votes, as many as
// the check has copies. Two that disagree evenly make it degraded. The vote
// returned speaks for the region; it is nil when nobody ever voted.
func (m *machine) stand(r *regionVotes, now time.Time) (standing, *vote) {
	copies := max(m.check.Copies, 1)
	var newest, bad, ok *vote
	n, fails, softs := 0, 0, 0
	if len(r.votes) > 1 {
		slices.SortFunc(r.votes, func(a, b vote) int { return b.at.Compare(a.at) })
	}
	for i := range r.votes {
		v := &r.votes[i]
		if newest == nil {
			newest = v
		}
		if !v.votes() || !m.fresh(r, v, now) || n >= copies {
			continue
		}
		n++
		switch {
		case v.fail:
			fails++
			if bad == nil {
				bad = v
			}
		default:
			if v.soft {
				softs++
			}
			if ok == nil || v.soft && !ok.soft {
				ok = v
			}
		}
	}
	switch {
	case n == 0:
		return missing, newest
	case fails*2 > n:
		return failing, bad
	case fails*2 == n:
		return soft, bad
	case softs > 0:
		return soft, ok
	}
	return good, ok
}

// fresh reports whether a vote is young enough to count.
func (m *machine) fresh(r *regionVotes, v *vote, now time.Time) bool {
	return now.Sub(v.at) < m.ttl && !v.at.Before(m.from) && !v.at.Before(r.from)
}

// excused reports whether a region does not vote because of its own trouble: it
// is impaired, or its worker said of this check that it cannot tell.
func (m *machine) excused(r *regionVotes, s standing, v *vote, now time.Time) bool {
	return r.void || s == missing && (r.impaired != "" || v != nil && v.abstain && m.fresh(r, v, now))
}

func (m *machine) tally(now time.Time) (t Tally) {
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted {
			continue
		}
		t.Total += r.weight
		s, v := m.stand(r, now)
		if m.excused(r, s, v, now) {
			t.Impaired += r.weight
			continue
		}
		switch s {
		case missing:
			t.Missing += r.weight
		case failing:
			t.Failing += r.weight
		case soft:
			t.Soft = true
		}
	}
	return t
}

// askable names the regions that can be asked: impaired ones have no answer.
func (m *machine) askable() (names []string) {
	for i := range m.regions {
		if r := &m.regions[i]; r.counted && r.impaired == "" {
			names = append(names, r.name)
		}
	}
	return names
}

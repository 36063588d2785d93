package verdict

import (
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

const maxReason = 200

// describe says in one sentence why the state is what it is.
func (m *machine) describe(now time.Time) string {
	switch m.visible {
	case model.StatusPaused:
		return "paused"
	case model.StatusPending:
		return "no result yet"
	case model.StatusMaintenance:
		for _, w := range m.windows {
			if w.on {
				return "maintenance: " + w.record.Name
			}
		}
		return "maintenance"
	}
	v := m.listen(now)
	text := v.sentence(m.visible)
	if len(v.impaired) > 0 {
		text += fmt.Sprintf("; %s %s impaired and %s not vote", strings.Join(v.impaired, ", "), plural(len(v.impaired), "is", "are"), plural(len(v.impaired), "does", "do"))
	}
	return text
}

// voices is what the configured regions say, each by its name.
type voices struct {
	n                           int // regions
	good                        int
	first                       string // what the first good one found
	bad, soft, silent, impaired []string
	below                       bool // with the impaired regions the failing ones could be enough
}

func (m *machine) listen(now time.Time) (v voices) {
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted {
			continue
		}
		v.n++
		s, x := m.stand(r, now)
		if m.excused(r, s, x, now) {
			v.impaired = append(v.impaired, r.name)
			continue
		}
		switch s {
		case failing:
			v.bad = append(v.bad, r.name+": "+m.reason(x))
		case soft:
			v.soft = append(v.soft, r.name+": "+m.reason(x))
		case missing:
			name := r.name
			if x != nil && x.untried && m.fresh(r, x, now) {
				name += ": could not try: " + m.reason(x)
			}
			v.silent = append(v.silent, name)
		case good:
			if v.good++; v.first == "" {
				v.first = x.message
			}
		}
	}
	v.below = m.below(m.tally(now))
	return v
}

func (v *voices) sentence(s model.Status) string {
	failing := fmt.Sprintf("%d of %d regions %s (%s)", len(v.bad), v.n, plural(len(v.bad), "fails", "fail"), strings.Join(v.bad, "; "))
	voted := len(v.bad) + len(v.soft) + v.good
	switch {
	case voted+len(v.silent) == 0 && v.n > 0:
		return "no region can tell, the state is the last one known"
	case s == model.StatusDown && v.n == 1 && len(v.bad) == 1:
		return v.bad[0] + " (nobody else could confirm)"
	case s == model.StatusDown && len(v.bad) == 0 && voted > 0:
		return v.again()
	case s == model.StatusDown:
		return failing
	case s == model.StatusDegraded && len(v.bad) > 0 && v.below:
		return failing + ", which is below the quorum"
	case s == model.StatusDegraded && len(v.bad) > 0:
		return failing
	case s == model.StatusDegraded:
		return "works with faults (" + strings.Join(v.soft, "; ") + ")"
	case s == model.StatusUnknown && v.n == 0:
		return "no region is configured to run this check"
	case s == model.StatusUnknown && len(v.silent) == 0:
		return v.again()
	case s == model.StatusUnknown:
		text := fmt.Sprintf("%d of %d regions %s silent (%s)", len(v.silent), v.n, plural(len(v.silent), "is", "are"), strings.Join(v.silent, ", "))
		if len(v.bad) > 0 {
			text += ", " + strings.Join(v.bad, "; ")
		}
		return text
	case v.n == 1 && v.first != "":
		return cut(v.first)
	case len(v.silent) > 0:
		return fmt.Sprintf("%d of %d regions succeed (%s silent)", v.good+len(v.soft), v.n, strings.Join(v.silent, ", "))
	}
	return fmt.Sprintf("%d of %d regions succeed", v.good+len(v.soft), v.n)
}

func (v *voices) again() string {
	return fmt.Sprintf("%d of %d regions succeed again, which has to last before it counts", v.good+len(v.soft), v.n)
}

func (m *machine) reason(v *vote) string {
	if v.message == "" {
		return "no reason given"
	}
	if v.fail && m.check.Inverted {
		return "succeeds, though it should not: " + cut(v.message)
	}
	return cut(v.message)
}

func cut(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (m *machine) regionStates(now time.Time) map[string]model.RegionState {
	out := make(map[string]model.RegionState, len(m.regions))
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted && len(r.votes) == 0 {
			continue
		}
		s, v := m.stand(r, now)
		rs := model.RegionState{Status: model.StatusUnknown}
		if v != nil {
			rs.At, rs.Message, rs.Duration, rs.Prober = v.at.UTC(), v.message, v.duration.Seconds(), v.prober
		}
		if r.void || r.impaired != "" && s == missing {
			rs.Message = "does not vote, the region is impaired: " + r.impaired
			if v != nil {
				rs.Message += "; its last word: " + v.message
			}
			out[r.name] = rs
			continue
		}
		switch s {
		case failing:
			rs.Status = model.StatusDown
		case soft:
			rs.Status = model.StatusDegraded
		case good:
			rs.Status = model.StatusUp
		case missing:
			switch {
			case v == nil:
				rs.Message = "no result yet"
			case v.untried:
				rs.Message = "its worker could not try: " + v.message
			case v.abstain:
				rs.Message = "does not vote, its worker is cut off: " + v.message
			default:
				rs.Message = "no fresh result; the last one: " + v.message
			}
		}
		out[r.name] = rs
	}
	return out
}

// state is what the pages show. The message follows the votes while the state
// stays and they agree with it: what another server decided may rest on votes
// that have not arrived here.
func (m *machine) state(now time.Time) model.CheckState {
	s := model.CheckState{Status: m.visible, Since: m.since.UTC(), Message: m.message, Code: m.code, Regions: m.regionStates(now)}
	if m.live {
		s.Message = m.describe(now)
	} else if d, _, ok := m.judge(now); ok && d == m.visible {
		s.Message = m.describe(now)
	}
	return s
}

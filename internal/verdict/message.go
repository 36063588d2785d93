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
	var bad, softs, silent []string
	n := 0
	first := ""
	for i := range m.regions {
		r := &m.regions[i]
		if !r.counted {
			continue
		}
		n++
		s, v := m.stand(r, now)
		switch s {
		case failing:
			bad = append(bad, r.name+": "+m.reason(v))
		case soft:
			softs = append(softs, r.name+": "+m.reason(v))
		case missing:
			silent = append(silent, r.name)
		case good:
			if first == "" {
				first = v.message
			}
		}
	}
	switch m.visible {
	case model.StatusDown:
		if n == 1 && len(bad) == 1 {
			return bad[0] + " (nobody else could confirm)"
		}
		return fmt.Sprintf("%d of %d regions %s (%s)", len(bad), n, plural(len(bad), "fails", "fail"), strings.Join(bad, "; "))
	case model.StatusDegraded:
		if len(bad) > 0 {
			return fmt.Sprintf("%d of %d regions %s (%s)", len(bad), n, plural(len(bad), "fails", "fail"), strings.Join(bad, "; "))
		}
		return "works with faults (" + strings.Join(softs, "; ") + ")"
	case model.StatusUnknown:
		if n == 0 {
			return "no region is configured to run this check"
		}
		if len(silent) == 0 {
			return fmt.Sprintf("%d of %d regions succeed again, which has to last before it counts", n-len(bad), n)
		}
		s := fmt.Sprintf("%d of %d regions %s silent (%s)", len(silent), n, plural(len(silent), "is", "are"), strings.Join(silent, ", "))
		if len(bad) > 0 {
			s += ", " + strings.Join(bad, "; ")
		}
		return s
	}
	if n == 1 && first != "" {
		return cut(first)
	}
	if len(silent) > 0 {
		return fmt.Sprintf("%d of %d regions succeed (%s silent)", n-len(silent)-len(bad), n, strings.Join(silent, ", "))
	}
	return fmt.Sprintf("%d of %d regions succeed", n-len(bad), n)
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

// state is what the pages show. The message follows the votes while the state stays.
func (m *machine) state(now time.Time) model.CheckState {
	s := model.CheckState{Status: m.visible, Since: m.since.UTC(), Message: m.message, Code: m.code, Regions: m.regionStates(now)}
	if m.live {
		s.Message = m.describe(now)
	}
	return s
}

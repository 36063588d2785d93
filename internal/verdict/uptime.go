package verdict

import (
	"slices"
	"time"

	"panoptes/internal/model"
)

// UptimeShare is how long a check was in each state within a window, in seconds.
type UptimeShare struct {
	Up          float64 `json:"up"`
	Down        float64 `json:"down"`
	Degraded    float64 `json:"degraded"`
	Unknown     float64 `json:"unknown"`
	Maintenance float64 `json:"maintenance"`
	Paused      float64 `json:"paused"`
	Pending     float64 `json:"pending"`
	None        float64 `json:"none"` // before the first state that is known
	// Uptime is (up+degraded)/(up+degraded+down); nil when none of them occurred.
	Uptime *float64 `json:"uptime"`
	// Outages counts the stretches of down, also one that began before the window.
	Outages int `json:"outages"`
}

// StatusNone stands in bars for a time about which nothing is known.
const StatusNone model.Status = "none"

// span is a stretch of one state.
type span struct {
	status   model.Status
	from, to time.Time
}

// spans cuts [from,to) into stretches; neighbours of one state are one stretch.
// The last state goes on to the end: the caller ends the window at now.
func spans(transitions []Transition, from, to time.Time) (out []span) {
	if !slices.IsSortedFunc(transitions, byTime) {
		transitions = slices.Clone(transitions)
		slices.SortStableFunc(transitions, byTime)
	}
	add := func(s model.Status, a, b time.Time) {
		if a.Before(from) {
			a = from
		}
		if b.After(to) {
			b = to
		}
		if !a.Before(b) {
			return
		}
		if n := len(out); n > 0 && out[n-1].status == s {
			out[n-1].to = b
			return
		}
		out = append(out, span{s, a, b})
	}
	status, since := StatusNone, from
	for _, t := range transitions {
		add(status, since, t.At)
		status, since = t.To, t.At
	}
	add(status, since, to)
	return out
}

func byTime(a, b Transition) int { return a.At.Compare(b.At) }

// Uptime weighs the states of [from,to) by time. The transitions should begin
// with the last one before from.
func Uptime(transitions []Transition, from, to time.Time) UptimeShare {
	var u UptimeShare
	for _, s := range spans(transitions, from, to) {
		d := s.to.Sub(s.from).Seconds()
		switch s.status {
		case model.StatusUp:
			u.Up += d
		case model.StatusDown:
			u.Down += d
			u.Outages++
		case model.StatusDegraded:
			u.Degraded += d
		case model.StatusUnknown:
			u.Unknown += d
		case model.StatusMaintenance:
			u.Maintenance += d
		case model.StatusPaused:
			u.Paused += d
		case model.StatusPending:
			u.Pending += d
		default:
			u.None += d
		}
	}
	if decided := u.Up + u.Degraded + u.Down; decided > 0 {
		share := (u.Up + u.Degraded) / decided
		u.Uptime = &share
	}
	return u
}

// BarBucket is one bar of a row of bars.
type BarBucket struct {
	From   time.Time    `json:"from"`
	To     time.Time    `json:"to"`
	Status model.Status `json:"s"`    // the worst state in it, or "none"
	Down   float64      `json:"down"` // seconds
}

// worst lists the states, the worst first.
var worst = []model.Status{model.StatusDown, model.StatusDegraded, model.StatusUnknown, model.StatusMaintenance, model.StatusPaused, model.StatusUp, model.StatusPending, StatusNone}

const maxBars = 1000

// Bars cuts [from,to) into n buckets of equal length, up to 1000.
func Bars(transitions []Transition, from, to time.Time, n int) []BarBucket {
	n = min(n, maxBars)
	if n < 1 || !from.Before(to) {
		return nil
	}
	all := spans(transitions, from, to)
	out := make([]BarBucket, n)
	width := to.Sub(from)
	edge := func(i int) time.Time {
		// Without multiplying first: years times a thousand overflow.
		return from.Add(width/time.Duration(n)*time.Duration(i) + width%time.Duration(n)*time.Duration(i)/time.Duration(n))
	}
	k := 0
	for i := range out {
		b := BarBucket{From: edge(i), To: edge(i + 1), Status: StatusNone}
		rank := len(worst)
		for k < len(all) && !all[k].to.After(b.From) {
			k++
		}
		for j := k; j < len(all) && all[j].from.Before(b.To); j++ {
			s := all[j]
			if r := slices.Index(worst, s.status); r >= 0 && r < rank {
				rank, b.Status = r, s.status
			}
			if s.status == model.StatusDown {
				b.Down += minTime(s.to, b.To).Sub(maxTime(s.from, b.From)).Seconds()
			}
		}
		out[i] = b
	}
	return out
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

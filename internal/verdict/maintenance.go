package verdict

import (
	"slices"
	"time"

	"panoptes/internal/model"
)

// maxWindow is the longest repeated window.
const maxWindow = 31 * 24 * time.Hour

// ValidateMaintenance checks a maintenance record; every fault is named in one
// model.Invalid.
func ValidateMaintenance(m model.Maintenance) error {
	_, err := newWindow(m)
	return err
}

// window is a maintenance record made ready. Only one goroutine uses it.
type window struct {
	record     model.Maintenance
	start, end time.Time // of a single window; an empty end means open
	cron       schedule
	loc        *time.Location

	// The occurrence that is going on or comes next.
	from, to time.Time
	never    bool
	on       bool
}

func newWindow(m model.Maintenance) (*window, error) {
	w := &window{record: m, loc: time.UTC}
	var inv model.Invalid
	inv.AddErr("", model.CheckName(m.Name))
	if m.Timezone != "" {
		loc, err := time.LoadLocation(m.Timezone)
		if err != nil || m.Timezone == "Local" {
			inv.Add("timezone", "%q is not known; write an IANA name such as Europe/Berlin", m.Timezone)
		} else {
			w.loc = loc
		}
	}
	if m.All && (len(m.Checks) > 0 || len(m.Matchers) > 0) {
		inv.Add("all", "leaves no room for checks or matchers; give one of them")
	}
	if !m.All && len(m.Checks) == 0 && len(m.Matchers) == 0 {
		inv.Add("checks", "must name checks, or give matchers, or set all")
	}
	at := func(field, s string) (t time.Time) {
		if s == "" {
			return t
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			inv.Add(field, "%q is not a time; write for example 2026-03-01T22:00:00Z", s)
		}
		return t
	}
	w.start, w.end = at("start", m.Start), at("end", m.End)
	if m.Cron == "" {
		if m.Start == "" && m.End == "" {
			inv.Add("start", "must be given, with end, or else cron and duration")
		}
		if m.Duration != 0 {
			inv.Add("duration", "belongs to cron; a single window has start and end")
		}
		if !w.end.IsZero() && !w.end.After(w.start) {
			inv.Add("end", "must come after start")
		}
		return w, inv.Err()
	}
	var err error
	if w.cron, err = parseCron(m.Cron); err != nil {
		inv.AddErr("cron", err)
	}
	if d := m.Duration.D(); d < time.Minute || d > maxWindow {
		inv.Add("duration", "must lie between 1m and %s", model.Duration(maxWindow))
	}
	if !w.end.IsZero() && !w.end.After(w.start) {
		inv.Add("end", "must come after start")
	}
	return w, inv.Err()
}

// active reports whether the window is open. Start and End limit a repeated
// window too: from the first day to the last.
func (w *window) active(now time.Time) bool {
	if w.record.Paused || now.Before(w.start) || !w.end.IsZero() && !now.Before(w.end) {
		return false
	}
	if w.record.Cron == "" {
		return true
	}
	d := w.record.Duration.D()
	if w.never {
		return false
	}
	// A clock that was set back makes the remembered occurrence useless.
	if w.to.IsZero() || !now.Before(w.to) || now.Before(w.from.Add(-48*time.Hour)) {
		from, ok := w.cron.next(now.Add(-d).In(w.loc))
		if !ok {
			w.never = true
			return false
		}
		w.from, w.to = from, from.Add(d)
	}
	return !now.Before(w.from) && now.Before(w.to)
}

func (w *window) covers(c *model.Check) bool {
	if w.record.All {
		return true
	}
	if slices.Contains(w.record.Checks, c.ID) || slices.Contains(w.record.Checks, c.Name) {
		return true
	}
	if len(w.record.Matchers) == 0 {
		return false
	}
	for k, v := range w.record.Matchers {
		if c.Labels[k] != v {
			return false
		}
	}
	return true
}

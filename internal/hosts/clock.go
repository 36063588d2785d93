package hosts

import (
	"context"
	"fmt"
	"time"

	"panoptes/internal/model"
)

const (
	clockOff   = time.Minute // a clock that differs by more is said to be wrong
	clockAgain = time.Minute // between two words about one clock
)

// skew is how far a clock is ahead that said at when it was between from and to
// here; 0 when that is little, or nothing was said.
func skew(at, from, to time.Time) time.Duration {
	var d time.Duration
	switch {
	case at.IsZero():
	case at.Before(from):
		d = at.Sub(from)
	case at.After(to):
		d = at.Sub(to)
	}
	if d.Abs() <= clockOff {
		return 0
	}
	return d.Round(time.Second)
}

// clock tells the other servers when the clock of the agent has become wrong or
// right, or is wrong by much more or less.
func (s *session) clock(now time.Duration) {
	if (now == 0) == (s.skew == 0) && (now-s.skew).Abs() <= max(clockOff, s.skew.Abs()/10) {
		return
	}
	if !s.skewed.IsZero() && time.Since(s.skewed) < clockAgain {
		return
	}
	h, node := s.h, s.peer.NodeID
	h.mu.Lock()
	e := h.entries[node][h.cfg.NodeID]
	if h.sessions[node] != s || !e.Open {
		h.mu.Unlock()
		return
	}
	s.skew, s.skewed, e.Skew = now, time.Now(), now
	e = h.word(e)
	h.mu.Unlock()
	h.tellOthers(e)
	kick(h.wake)
}

// clockWord is what has to be said of a clock; empty for nothing.
func (h *Hosts) clockWord(skew time.Duration) string {
	switch {
	case skew > 0:
		return fmt.Sprintf("its clock is %s ahead: samples that are more than %s ahead are refused", skew, h.cfg.MaxAhead)
	case skew < 0:
		return fmt.Sprintf("its clock is %s behind: what it sends is too old for alerts and current values", skew.Abs())
	}
	return ""
}

// tellClock makes it part of a host's state whether its clock is right: it is
// online, but what it sends is not seen where people look for it.
func (h *Hosts) tellClock(ctx context.Context, n model.Node, skew time.Duration) {
	h.mu.Lock()
	next := *h.states[n.ID]
	h.mu.Unlock()
	next.Code, next.Message = "host.online", h.clockWord(skew)
	ev := &model.Event{Code: "host.clock_right", Severity: "info", Message: "the clock of host " + n.Name + " is right again"}
	if skew != 0 {
		next.Code = "host.clock"
		ev = &model.Event{Code: "host.clock", Severity: "warning", Message: "host " + n.Name + ": " + next.Message}
	}
	h.decide(ctx, n, next, ev)
}

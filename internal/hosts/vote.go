package hosts

import (
	"encoding/json"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	maxVotes = 1000 // of one message
	maxHeld  = 2000 // of an agent about which nothing is decided yet
)

// results takes what checks found.
func (s *session) results(content []byte) error {
	// Counted before they are made: an empty one is two bytes here and hundreds there.
	parts, err := uplink.Decode[[]json.RawMessage](content, uplink.MaxResults)
	if err != nil {
		return err
	}
	if len(parts) > maxVotes {
		return fmt.Errorf("%w: %d results in a message, %d are allowed", model.ErrLimit, len(parts), maxVotes)
	}
	list := make([]model.Result, 0, len(parts))
	for _, b := range parts {
		r, err := uplink.Decode[model.Result](b, uplink.MaxResults)
		if err != nil {
			return err
		}
		if !s.found.Allow() {
			s.h.m.results.WithLabelValues("limit").Inc()
			continue
		}
		r.Samples, r.Confirm = nil, false
		list = append(list, r)
	}
	if runs, known := s.runsChecks(); !runs && known { // who runs none has found nothing
		s.h.m.results.WithLabelValues("unknown").Add(float64(len(list)))
		return nil
	}
	s.mu.Lock()
	hold := !s.decided
	if hold {
		room := max(maxHeld-len(s.held), 0)
		s.held = append(s.held, list[:min(len(list), room)]...)
	}
	s.mu.Unlock()
	if !hold {
		s.vote(list)
	}
	return nil
}

// decide lets the results count that came before it was known which checks the
// agent runs.
func (s *session) decide() {
	s.mu.Lock()
	held := s.held
	s.decided, s.held = true, nil
	s.mu.Unlock()
	s.vote(held)
}

// vote hands results to the verdict, each as this agent's own, as far as the
// checks were given to it.
func (s *session) vote(list []model.Result) {
	if runs, _ := s.runsChecks(); !runs {
		s.h.m.results.WithLabelValues("unknown").Add(float64(len(list)))
		return
	}
	for _, r := range list {
		c, ok := s.h.deps.Check(s.peer.NodeID, r.CheckID)
		if !ok || !s.h.deps.Given(s.peer.NodeID, r.CheckID) {
			s.h.m.results.WithLabelValues("unknown").Inc()
			continue
		}
		if age := s.h.deps.Now().Sub(r.Start); age < -s.h.cfg.MaxAhead || age > 2*c.Interval.D()+time.Minute {
			s.h.m.results.WithLabelValues("late").Inc()
			continue
		}
		s.claim(&r)
		s.h.m.results.WithLabelValues("ok").Inc()
		s.h.deps.Result(r)
	}
}

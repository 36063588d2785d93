package hosts

import (
	"fmt"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// runsChecks is the one place that decides whether an agent runs checks: it
// offers to, and the servers have allowed it on its record. Who is not allowed
// hears of no check and its secrets, and has no vote. known is false while the
// record of one that offers has not come here: a server may just have begun.
func (h *Hosts) runsChecks(node string, hello *uplink.Hello) (runs, known bool) {
	if hello == nil || !hello.Checks {
		return false, true
	}
	n, known := h.deps.Node(node)
	return known && n.MayCheck(), known
}

// runsChecks is whether the agent of this stream runs checks now.
func (s *session) runsChecks() (runs, known bool) { return s.h.runsChecks(s.peer.NodeID, &s.hello) }

// consent says why an agent is not asked to run a check.
func (h *Hosts) consent(node string) error {
	if n, ok := h.deps.Node(node); !ok || !n.MayCheck() {
		return fmt.Errorf("%w: agent %s is not allowed to run checks; 'panoptes host checks %s on' allows it", model.ErrForbidden, h.nameOf(node), h.nameOf(node))
	}
	return nil
}

// tellWork sends which checks the agent is to run, none when it is not allowed to.
func (s *session) tellWork() error {
	if !s.hello.Checks {
		return nil
	}
	switch runs, known := s.runsChecks(); {
	case !known: // it goes on with what it has, until the record says whether it may
		return s.tellChecks(nil)
	case !runs:
		s.decide() // what waited is dropped
		return s.tellChecks([]model.Check{})
	}
	if s.barred.Swap(false) { // series that were refused are described again
		if err := s.stream.Send([]byte{byte(uplink.KindRestart)}); err != nil {
			return err
		}
	}
	checks := s.h.deps.Checks(s.peer.NodeID)
	if checks != nil {
		s.decide()
	}
	return s.tellChecks(checks)
}

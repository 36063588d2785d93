package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	baselineEvery = 6 * time.Hour // between two looks whether others can reach a host that is there
	doubtAfter    = 2 * deadAfter // before it is believed that they cannot any more
	probeTimeout  = 3 * time.Second
	probeAddrs    = 3 // of one host at most
)

// reach has other workers look whether a host answers and decides with what
// they found, without holding anything up meanwhile.
func (h *Hosts) reach(ctx context.Context, n model.Node, st *state, reg region) {
	h.mu.Lock()
	if h.probing[n.ID] {
		h.mu.Unlock()
		return
	}
	h.probing[n.ID] = true
	st.probed = time.Now()
	if st.Status == model.HostOnline {
		st.baseline = st.probed
	}
	h.mu.Unlock()
	h.wg.Go(func() {
		defer func() {
			h.mu.Lock()
			delete(h.probing, n.ID)
			h.mu.Unlock()
		}()
		found := h.evidence(ctx, n, st)
		if ctx.Err() == nil {
			h.judge(ctx, n, reg, found)
		}
	})
}

// evidence asks others to reach the host.
func (h *Hosts) evidence(ctx context.Context, n model.Node, st *state) (out []model.HostEvidence) {
	if h.deps.Probe == nil || st.Hello == nil {
		return nil
	}
	addrs := h.owned(n.ID, st.Hello.Addresses)
	var checks []model.Check
	for _, a := range addrs[:min(len(addrs), probeAddrs)] {
		checks = append(checks, model.Check{Type: "icmp", Target: a})
		for _, p := range h.cfg.ProbePorts {
			checks = append(checks, model.Check{Type: "tcp", Target: net.JoinHostPort(a, strconv.Itoa(p)), Block: json.RawMessage(`{}`)})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 4*probeTimeout)
	defer cancel()
	answers := make(chan []model.HostEvidence, len(checks))
	for _, c := range checks {
		c.Name = "host " + n.Name
		c.Timeout, c.Interval = model.Duration(probeTimeout), model.Duration(time.Minute)
		go func() {
			var list []model.HostEvidence
			for _, r := range h.deps.Probe(ctx, c, n.ID) {
				if e, ok := judgement(c, r); ok {
					list = append(list, e)
				}
			}
			answers <- list
		}()
	}
	for range checks {
		out = append(out, <-answers...)
	}
	return out
}

// judgement is what a result proves about a host, if anything. That a port is
// closed proves that somebody is there who closes it.
func judgement(c model.Check, r model.Result) (model.HostEvidence, bool) {
	e := model.HostEvidence{Region: r.Region, Prober: r.Prober, Target: c.Type + " " + c.Target, Message: clip(r.Message, 200), At: r.Start.UTC()}
	e.Answers = r.Success || strings.Contains(r.Message, "connection refused") || strings.Contains(r.Message, "connection reset")
	if e.Answers {
		return e, true
	}
	// What the worker could not or would not do says nothing.
	for _, s := range []string{"is refused:", "cannot run", "internal error", "network unreachable", "not permitted", "permission denied", "cancelled"} {
		if strings.Contains(r.Message, s) {
			return e, false
		}
	}
	return e, !r.Abstain && !r.Untried
}

// judge decides about a host with what others found.
func (h *Hosts) judge(ctx context.Context, n model.Node, reg region, found []model.HostEvidence) {
	alive := h.deps.Alive()
	h.mu.Lock()
	st := h.states[n.ID]
	_, open := h.holderLocked(n.ID, alive)
	if st == nil || st.Status == model.HostStopped {
		h.mu.Unlock()
		return
	}
	cur := *st
	h.mu.Unlock()

	answers, near := "", false
	for _, e := range found {
		if e.Answers {
			answers = fmt.Sprintf("%s from %s", e.Target, e.Prober)
		}
		near = near || e.Region == n.Region
	}
	next := cur
	next.Evidence = found[:min(len(found), 20)]
	switch {
	case open || cur.Status == model.HostOnline:
		// Only whether others can reach it at all.
		reachable := answers != ""
		if !h.believe(n.ID, reachable || len(found) == 0 || !cur.Reachable) {
			return
		}
		if reachable != cur.Reachable && len(found) > 0 {
			next = cur
			next.Reachable, next.Evidence = reachable, nil
			h.decide(ctx, n, next, nil)
		}
		return
	case answers != "":
		next.Status, next.Code, next.Message = model.HostUnknown, "host.agent_silent", "its agent is silent, the host answers: "+answers
	case len(found) == 0:
		next.Status, next.Code, next.Message = model.HostUnknown, "host.silent", "its agent is silent; no other worker could look"
	case reg.cutOff() && !near:
		next.Status, next.Code, next.Message = model.HostUnknown, "host.region", fmt.Sprintf("all %d hosts of region %s are silent, and nobody there could look: the region may be cut off", reg.hosts, n.Region)
	case !cur.Reachable && time.Since(cur.Since) < h.cfg.SilentDown && cur.Status != model.HostDown:
		next.Status, next.Code, next.Message = model.HostUnknown, "host.silent", "its agent is silent; nobody could reach the host before either"
	default:
		next.Status, next.Code, next.Message = model.HostDown, "host.down", fmt.Sprintf("its agent is silent and it does not answer: tried %d ways from %d workers", len(found), probers(found))
	}
	if next.Status == cur.Status && next.Code == cur.Code && (len(cur.Evidence) > 0 || len(found) == 0) {
		return
	}
	var ev *model.Event
	if next.Status != cur.Status || next.Code != cur.Code && (next.Code == "host.agent_silent" || next.Code == "host.region") {
		ev = &model.Event{Code: next.Code, Severity: "warning", Message: "host " + n.Name + ": " + next.Message}
		if next.Status == model.HostDown {
			ev.Severity = "critical"
		}
		if b, err := json.Marshal(map[string]any{"evidence": next.Evidence}); err == nil {
			ev.Data = b
		}
	}
	if next.Status != cur.Status {
		next.Since = h.deps.Now().UTC()
	}
	h.decide(ctx, n, next, ev)
}

// believe reports whether it is true that others cannot reach a host that is
// there: it may have been dying while they looked. They look again, after the
// end of its stream would have been noticed.
func (h *Hosts) believe(id string, well bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.states[id]
	if st == nil {
		return false
	}
	if well || st.doubted {
		st.doubted = false
		return true
	}
	st.doubted = true
	st.baseline = time.Now().Add(doubtAfter - baselineEvery)
	return false
}

func probers(found []model.HostEvidence) int {
	set := map[string]bool{}
	for _, e := range found {
		set[e.Prober] = true
	}
	return len(set)
}

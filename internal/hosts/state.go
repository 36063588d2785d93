package hosts

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// state is what was decided about a host, and what is remembered of its agent.
// The newest version holds on all servers.
type state struct {
	ID        string               `json:"id"`
	Version   int64                `json:"v"` // ns
	Status    model.HostStatus     `json:"status"`
	Since     time.Time            `json:"since"`
	Message   string               `json:"message,omitempty"`
	Code      string               `json:"code,omitempty"`
	Evidence  []model.HostEvidence `json:"evidence,omitempty"`
	Reachable bool                 `json:"reachable,omitempty"`
	LastSeen  time.Time            `json:"last_seen,omitzero"`
	Bye       string               `json:"bye,omitempty"`
	Hello     *uplink.Hello        `json:"hello,omitempty"` // the last one

	probed   time.Time // last probe, on this server
	baseline time.Time // last time it was looked whether others reach it
	doubted  bool      // that look did not
}

// adopt takes the word of another server. h.mu is held.
func (h *Hosts) adopt(s *state) (changed bool) {
	old := h.states[s.ID]
	if old != nil && old.Version >= s.Version {
		return false
	}
	if old != nil {
		s.probed, s.baseline = old.probed, old.baseline
	}
	h.states[s.ID] = s
	return old == nil || old.Status != s.Status || old.Message != s.Message
}

// tick looks at all hosts that this server decides about.
func (h *Hosts) tick(ctx context.Context) {
	now := time.Now()
	h.endLives(now)
	h.meshTick(now)
	settled := now.Sub(h.began) >= h.cfg.Settle
	alive := h.deps.Alive()
	nodes := h.deps.Nodes()
	h.absent(nodes, alive, now)
	regions := h.regions(nodes, alive)
	for _, n := range nodes {
		if h.deps.Owns("host/" + n.ID) {
			h.look(ctx, n, alive, settled, regions[n.Region])
		}
	}
	h.forget(nodes, now)
}

// absent notes since when hosts have no stream: all servers do, since any may
// have to decide next. The numbers of words are no times: those of a server whose
// clock was ahead lie in the future.
func (h *Hosts) absent(nodes []model.Node, alive []string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range nodes {
		if _, open := h.holderLocked(n.ID, alive); open {
			delete(h.missed, n.ID)
		} else if h.missed[n.ID].IsZero() {
			h.missed[n.ID] = now
		}
	}
}

// region counts the hosts of a region, for telling a host that is gone from a
// region that is cut off.
type region struct{ hosts, silent int }

func (h *Hosts) regions(nodes []model.Node, alive []string) map[string]region {
	out := map[string]region{}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range nodes {
		st := h.states[n.ID]
		if st == nil || st.Status == model.HostStopped {
			continue
		}
		r := out[n.Region]
		r.hosts++
		if _, ok := h.holderLocked(n.ID, alive); !ok {
			r.silent++
		}
		out[n.Region] = r
	}
	return out
}

func (r region) cutOff() bool { return r.hosts >= 2 && r.silent == r.hosts }

// forget drops what is known of nodes that are not on record any more.
func (h *Hosts) forget(nodes []model.Node, now time.Time) {
	on := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		on[n.ID] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.missed, func(id string, _ time.Time) bool { return !on[id] })
	for id, st := range h.states {
		if !on[id] && now.UnixNano()-st.Version > int64(time.Minute) {
			delete(h.states, id)
		}
	}
	for run, until := range h.refused {
		if now.After(until) {
			delete(h.refused, run)
		}
	}
	for id, at := range h.copied {
		if now.Sub(at) > cloneWait {
			delete(h.copied, id)
		}
	}
	for id, a := range h.allowed {
		if h.sessions[id] == nil && a.rested() {
			delete(h.allowed, id)
		}
	}
	for id, at := range h.shots {
		if now.Sub(at) > h.cfg.SnapshotGap {
			delete(h.shots, id)
		}
	}
}

// look decides about one host.
func (h *Hosts) look(ctx context.Context, n model.Node, alive []string, settled bool, reg region) {
	now := h.deps.Now().UTC()
	h.mu.Lock()
	st := h.states[n.ID]
	e, open := h.holderLocked(n.ID, alive)
	last, missed := h.lastWord(n.ID), h.missed[n.ID]
	h.mu.Unlock()
	switch {
	case open:
		h.there(ctx, n, st, e, now)
	case st == nil && last.Version == 0:
		return // it joined and never came
	case last.Bye != "" && !last.Open && last.Bye != uplink.ByeMove:
		if st == nil || st.Status != model.HostStopped {
			h.stopped(ctx, n, st, last, now)
		}
	case !settled:
	case st == nil || st.Status == model.HostOnline:
		if missed.IsZero() || time.Since(missed) < h.cfg.Grace {
			return
		}
		h.missing(ctx, n, st, last, now)
	case st.Status == model.HostStopped:
		// It took leave, and nobody heard of it since.
	default:
		if time.Since(st.probed) >= h.cfg.ProbeEvery {
			h.reach(ctx, n, st, reg)
		}
	}
}

// decide makes st the newest state of its host, tells all and records an event.
func (h *Hosts) decide(ctx context.Context, n model.Node, st state, e *model.Event) {
	h.mu.Lock()
	old := h.states[n.ID]
	st.ID, st.Version = n.ID, time.Now().UnixNano()
	if old != nil {
		st.Version = max(st.Version, old.Version+1)
		st.probed, st.baseline = cmp.Or(st.probed, old.probed), cmp.Or(st.baseline, old.baseline)
	}
	h.states[n.ID] = &st
	host := h.hostLocked(n.ID)
	h.mu.Unlock()
	h.broadcast(shared{States: []*state{&st}})
	h.deps.HostChanged(host)
	if e != nil {
		at := h.deps.Now().UTC()
		e.ID, e.Time, e.Kind, e.Subject, e.Name, e.Actor = model.NewID(at), at, model.EventNode, "node/"+n.ID, n.Name, "system"
		if e.Labels == nil {
			e.Labels = map[string]string{}
		}
		e.Labels["host"], e.Labels["region"] = n.Name, n.Region
		ev := *e
		h.wg.Go(func() { h.record(ctx, ev) })
	}
}

// there is a host whose agent sends.
func (h *Hosts) there(ctx context.Context, n model.Node, st *state, e entry, now time.Time) {
	if st != nil && st.Status == model.HostOnline && st.Hello != nil && e.Hello != nil && st.Hello.Run == e.Hello.Run {
		if h.clockWord(e.Skew) != st.Message {
			h.tellClock(ctx, n, e.Skew)
			return
		}
		if len(h.deps.Alive()) > 0 && time.Since(st.baseline) > baselineEvery {
			h.reach(ctx, n, st, region{})
		}
		return
	}
	next := state{Status: model.HostOnline, Since: now, Hello: e.Hello, LastSeen: now, Code: "host.online"}
	var ev *model.Event
	switch {
	case st == nil:
		ev = &model.Event{Code: "host.online", Severity: "info", Message: "host " + n.Name + " sends"}
	default:
		next.Reachable = st.Reachable
		if st.Status == model.HostOnline {
			next.Since, next.Code, next.Message = st.Since, st.Code, st.Message
		}
		ev = h.back(n, st, e, now)
	}
	h.decide(ctx, n, next, ev)
}

// back tells what happened to a host while its agent was away.
func (h *Hosts) back(n model.Node, st *state, e entry, now time.Time) *model.Event {
	if st.Hello != nil && e.Hello != nil {
		a, b := st.Hello, e.Hello
		if a.Machine != "" && b.Machine != "" && a.Machine != b.Machine {
			return &model.Event{Code: "host.moved", Severity: "warning", Message: fmt.Sprintf("the identity of host %s is on another machine now (%s, before %s)", n.Name, clip(b.Hostname, 100), clip(a.Hostname, 100))}
		}
		if a.Boot != "" && b.Boot != "" && a.Boot != b.Boot {
			ev := &model.Event{Code: "host.rebooted", Severity: "info", Message: "host " + n.Name + " was started anew", Labels: map[string]string{"boot_time": b.BootTime.Format(time.RFC3339)}}
			if st.Status != model.HostStopped && st.Bye == "" {
				ev.Message += ", without having taken leave"
				ev.Labels["planned"] = "false"
			}
			return ev
		}
	}
	if st.Status == model.HostOnline {
		return nil // the agent was started anew
	}
	return &model.Event{Code: "host.online", Severity: "info", Message: fmt.Sprintf("host %s is back after %s", n.Name, now.Sub(st.Since).Round(time.Second))}
}

// stopped is a host whose agent has taken leave.
func (h *Hosts) stopped(ctx context.Context, n model.Node, st *state, last entry, now time.Time) {
	next := state{Status: model.HostStopped, Since: now, Bye: last.Bye, Code: "host.stopped", Message: "its agent was stopped", LastSeen: last.Since}
	switch last.Bye {
	case uplink.ByeShutdown:
		next.Message = "the machine was shut down"
	case uplink.ByeReboot:
		next.Message = "the machine is being started anew"
	}
	if st != nil {
		next.Hello, next.Reachable = st.Hello, st.Reachable
	}
	h.decide(ctx, n, next, &model.Event{Code: "host.stopped", Severity: "info", Message: "host " + n.Name + ": " + next.Message, Labels: map[string]string{"reason": last.Bye}})
}

// missing is a host that was there and has had no stream for the grace time.
func (h *Hosts) missing(ctx context.Context, n model.Node, st *state, last entry, now time.Time) {
	next := state{Status: model.HostUnknown, Since: now, Code: "host.silent", Message: "its agent is silent; others look whether the host answers", LastSeen: last.Since}
	if st != nil {
		next.Hello, next.Reachable = st.Hello, st.Reachable
	}
	h.decide(ctx, n, next, &model.Event{Code: "host.silent", Severity: "warning", Message: "the agent of host " + n.Name + " is silent"})
}

// Hosts lists all hosts that ever sent, sorted by name.
func (h *Hosts) Hosts() []model.Host {
	h.mu.Lock()
	ids := make([]string, 0, len(h.states))
	for id := range h.states {
		ids = append(ids, id)
	}
	out := make([]model.Host, 0, len(ids))
	for _, id := range ids {
		out = append(out, h.hostLocked(id))
	}
	h.mu.Unlock()
	alive := h.deps.Alive()
	for i := range out {
		h.complete(&out[i], alive)
	}
	slices.SortFunc(out, func(a, b model.Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Host returns one host by the id of its node.
func (h *Hosts) Host(id string) (model.Host, error) {
	h.mu.Lock()
	_, ok := h.states[id]
	var out model.Host
	if ok {
		out = h.hostLocked(id)
	}
	h.mu.Unlock()
	if !ok {
		return out, fmt.Errorf("host %s: %w", id, model.ErrNotFound)
	}
	h.complete(&out, h.deps.Alive())
	return out, nil
}

// hostLocked is what the state alone says. h.mu is held.
func (h *Hosts) hostLocked(id string) model.Host {
	st := h.states[id]
	out := model.Host{ID: id, Status: st.Status, Since: st.Since, Message: st.Message, Code: st.Code, Evidence: st.Evidence, LastSeen: st.LastSeen, Reachable: st.Reachable}
	if st.Hello != nil {
		out.Version, out.OS, out.Arch, out.Hostname, out.Addresses, out.BootTime, out.ChecksOffered = st.Hello.Version, st.Hello.OS, st.Hello.Arch, st.Hello.Hostname, st.Hello.Addresses, st.Hello.BootTime, st.Hello.Checks
		out.Labels = st.Hello.Labels
	}
	if n, ok := h.deps.Node(id); ok {
		n = withOwnLabels(n, out.Labels)
		out.Name, out.Region, out.Labels, out.ChecksAllowed = n.Name, n.Region, n.Labels, n.MayCheck()
	}
	out.Checks, _ = h.runsChecks(id, st.Hello)
	return out
}

// complete adds who talks to it.
func (h *Hosts) complete(out *model.Host, alive []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, open := h.holderLocked(out.ID, alive)
	if !open {
		return
	}
	out.Server, out.Connected, out.LastSeen = e.Server, e.Since, h.deps.Now().UTC()
	if s := h.sessions[out.ID]; s != nil {
		out.LastSeen = h.deps.Now().Add(-time.Since(s.lastHeard())).UTC()
	}
}

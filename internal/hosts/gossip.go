package hosts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// entry is the word of one server about one agent that talks to it. The newest
// word of a server holds.
type entry struct {
	Server  string            `json:"s"`
	Node    string            `json:"n"`
	Version int64             `json:"v"` // rises with each word of the server; ns, or more: no time to count from
	Open    bool              `json:"o,omitempty"`
	Run     string            `json:"r,omitempty"` // of the agent's process
	Since   time.Time         `json:"t,omitzero"`
	Bye     string            `json:"b,omitempty"` // how it took leave
	Hello   *uplink.Hello     `json:"h,omitempty"` // of an open one
	Copy    string            `json:"c,omitempty"` // a run that is a copy of this node
	Labels  map[string]string `json:"l,omitempty"`
	Skew    time.Duration     `json:"k,omitempty"` // of the agent's clock; 0: it is right enough
}

// shared is what servers tell each other.
type shared struct {
	Entries []entry  `json:"entries,omitempty"`
	States  []*state `json:"states,omitempty"`
}

// admit makes the stream the one of its agent, unless it comes from a copy.
func (h *Hosts) admit(ctx context.Context, s *session) error {
	node := s.peer.NodeID
	s.name = s.node().Name
	h.mu.Lock()
	until, copied := h.refused[s.hello.Run]
	old := h.sessions[node]
	h.mu.Unlock()
	if copied && time.Now().Before(until) {
		return &refusedError{uplink.Bye{Reason: uplink.ByeClone, Text: errClone.Error(), Wait: model.Duration(cloneWait)}}
	}
	if old != nil && old.hello.Run != s.hello.Run && h.breathes(ctx, old) {
		h.denounce(node, s.hello.Run, s.hello.Hostname)
		return &refusedError{uplink.Bye{Reason: uplink.ByeClone, Text: errClone.Error(), Wait: model.Duration(cloneWait)}}
	}
	h.mu.Lock()
	if h.stopping {
		h.mu.Unlock()
		return &refusedError{uplink.Bye{Reason: uplink.ByeMove, Text: "this server is stopping"}}
	}
	if ctx.Err() != nil {
		h.mu.Unlock()
		return context.Cause(ctx)
	}
	if old = h.sessions[node]; old != nil {
		old.cancel(errReplaced)
	}
	h.sessions[node] = s
	e := h.word(entry{Node: node, Open: true, Run: s.hello.Run, Since: h.deps.Now().UTC(), Hello: &s.hello, Labels: s.hello.Labels, Skew: s.skew})
	h.mu.Unlock()
	h.tellOthers(e)
	h.log.Info("agent connected", "node", node, "name", s.name, "region", s.peer.Region, "version", s.hello.Version, "backlog", s.hello.Backlog)
	h.deps.SessionsChanged()
	kick(h.wake)
	return nil
}

// breathes reports whether an agent says something within a moment: its
// connection may be that of a machine that was just switched off.
func (h *Hosts) breathes(ctx context.Context, s *session) bool {
	before := s.heard.Load()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	limit := time.After(uplink.BeatEvery + 300*time.Millisecond)
	for {
		select {
		case <-t.C:
			if s.heard.Load() != before {
				return true
			}
		case <-limit:
			return false
		case <-ctx.Done():
			return false
		case <-s.stream.Context().Done():
			return false
		}
	}
}

// denounce tells everybody that a process is a copy.
func (h *Hosts) denounce(node, run, hostname string) {
	h.mu.Lock()
	_, known := h.refused[run]
	h.refused[run] = time.Now().Add(10 * time.Minute)
	cur := h.entries[node][h.cfg.NodeID]
	cur.Copy = run
	e := h.word(cur)
	ctx := h.ctx
	known = known || time.Since(h.copied[node]) < cloneWait // another one of the same says nothing new
	if !known {
		h.copied[node] = time.Now()
	}
	h.mu.Unlock()
	h.tellOthers(e)
	if known || ctx == nil {
		return
	}
	h.m.clones.Inc()
	now := h.deps.Now().UTC()
	name := h.nameOf(node)
	h.log.Warn("two machines have the identity of one agent", "node", node, "name", name, "hostname", hostname)
	h.wg.Go(func() {
		h.record(ctx, model.Event{
			ID: model.NewID(now), Time: now, Kind: model.EventNode, Subject: "node/" + node, Name: name, Severity: "warning", Actor: "system", Code: "host.clone",
			Message: fmt.Sprintf("a second machine (%s) runs with the identity of %s; it is kept out: empty its data directory and join it with a token of its own", clip(hostname, 100), name),
			Labels:  map[string]string{"hostname": clip(hostname, 100)},
		})
	})
}

// release ends the registration of a stream.
func (h *Hosts) release(s *session, err error) {
	node := s.peer.NodeID
	h.mu.Lock()
	if h.sessions[node] != s {
		h.mu.Unlock()
		return // another one has taken its place
	}
	delete(h.sessions, node)
	e := entry{Node: node, Run: s.hello.Run, Since: h.deps.Now().UTC()}
	if r := s.goodby.Load(); r != nil {
		e.Bye = clip(*r, 32)
	}
	e = h.word(e)
	h.mu.Unlock()
	h.tellOthers(e)
	h.log.Info("agent gone", "node", node, "name", s.called(), "bye", e.Bye, "why", err)
	h.deps.SessionsChanged()
	kick(h.wake)
}

// word makes e the newest word about its agent that this server knows of, also
// where another one numbered its own by a clock that was ahead. h.mu is held.
func (h *Hosts) word(e entry) entry {
	e.Server = h.cfg.NodeID
	for _, x := range h.entries[e.Node] {
		h.version = max(h.version, x.Version)
	}
	h.version = max(h.version+1, time.Now().UnixNano())
	e.Version = h.version
	h.put(e)
	return e
}

// put takes a word if it is news. h.mu is held.
func (h *Hosts) put(e entry) bool {
	m := h.entries[e.Node]
	if m == nil {
		m = map[string]entry{}
		h.entries[e.Node] = m
	}
	if m[e.Server].Version >= e.Version {
		return false
	}
	m[e.Server] = e
	return true
}

func (h *Hosts) tellOthers(e entry) { h.broadcast(shared{Entries: []entry{e}}) }

func (h *Hosts) broadcast(v shared) {
	b, err := json.Marshal(v)
	if err != nil {
		h.log.Error("news of hosts not told", "err", err)
		return
	}
	h.deps.Broadcast(b)
}

// Name is that of the part under which servers share who talks to whom.
const Part = "hosts"

// State returns all that this server knows; see cluster.Part.
func (h *Hosts) State() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var v shared
	old := time.Now().Add(-time.Hour).UnixNano()
	for node, m := range h.entries {
		for server, e := range m {
			if !e.Open && e.Version < old && len(m) > 1 {
				delete(m, server)
				continue
			}
			v.Entries = append(v.Entries, e)
		}
		if len(m) == 0 {
			delete(h.entries, node)
		}
	}
	for _, s := range h.states {
		v.States = append(v.States, s)
	}
	return json.Marshal(v)
}

// Merge takes what another server knows; see cluster.Part.
func (h *Hosts) Merge(b []byte) error {
	var v shared
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("news of hosts: %w", model.DecodeError(err))
	}
	var answers []entry
	var moved []entry
	changed := false
	var news []model.Host
	h.mu.Lock()
	for _, e := range v.Entries {
		if e.Node == "" || e.Server == "" {
			continue
		}
		if e.Server == h.cfg.NodeID {
			if word, ok := h.recant(e); ok {
				answers = append(answers, word)
			}
			continue
		}
		if !h.put(e) {
			continue
		}
		changed = true
		if e.Copy != "" {
			h.refused[e.Copy] = time.Now().Add(10 * time.Minute)
			if s := h.sessions[e.Node]; s != nil && s.hello.Run == e.Copy {
				s.cancel(errClone)
			}
		}
		if e.Open && h.sessions[e.Node] != nil {
			moved = append(moved, e)
		}
	}
	for _, s := range v.States {
		if s != nil && s.ID != "" && h.adopt(s) {
			changed = true
			news = append(news, h.hostLocked(s.ID))
		}
	}
	ctx := h.ctx
	h.mu.Unlock()
	for _, e := range answers {
		h.tellOthers(e)
	}
	for _, n := range news {
		h.deps.HostChanged(n)
	}
	if ctx != nil {
		for _, e := range moved {
			h.wg.Go(func() { h.twice(ctx, e) })
		}
	}
	if changed {
		h.deps.SessionsChanged()
		kick(h.wake)
	}
	return nil
}

// recant answers what this server said of an agent before it was started anew:
// no stream of that time is there any more. What it has said since holds, even
// if its clock was ahead then. h.mu is held.
func (h *Hosts) recant(e entry) (word entry, ok bool) {
	said, spoken := h.entries[e.Node][h.cfg.NodeID]
	if e.Version <= said.Version {
		return entry{}, false
	}
	h.version = max(h.version, e.Version)
	switch {
	case spoken:
		return h.word(said), true
	case e.Open:
		return h.word(entry{Node: e.Node, Run: e.Run, Since: h.deps.Now().UTC()}), true
	}
	h.put(e) // that it is gone, and how it took leave, is still true
	return entry{}, false
}

// twice settles who is right when an agent of ours talks to another server as
// well: it has moved, it was started anew, or there are two machines.
func (h *Hosts) twice(ctx context.Context, e entry) {
	s := h.here(e.Node)
	if s == nil || e.Hello == nil {
		return
	}
	if s.hello.Run == e.Run {
		if e.Since.After(h.wall(s)) {
			s.cancel(errReplaced)
		}
		return
	}
	if !e.Since.After(h.wall(s)) {
		return // ours is the newer one: the other server looks
	}
	if h.breathes(ctx, s) {
		h.denounce(e.Node, e.Run, e.Hello.Hostname)
		return
	}
	s.cancel(errReplaced)
}

// wall is when a stream began, by the wall clock.
func (h *Hosts) wall(s *session) time.Time { return h.deps.Now().Add(-time.Since(s.since)) }

// lastWord is the newest word of any server about an agent.
func (h *Hosts) lastWord(node string) (e entry) {
	for _, x := range h.entries[node] {
		if cmp.Compare(x.Version, e.Version) > 0 {
			e = x
		}
	}
	return e
}

package hosts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// routed is a question about an agent that another server talks to.
type routed struct {
	Node  string       `json:"node"`
	Check uplink.Check `json:"check,omitzero"`

	Action *uplink.ActionRequest `json:"action,omitempty"`
}

type looked struct {
	Value json.RawMessage `json:"value"`
}

const (
	askTimeout  = 35 * time.Second
	maxQuestion = 64  // on the way to one agent
	maxLive     = 200 // hosts of one server that send each second
)

// request sends a question and waits for the answer.
func (s *session) request(ctx context.Context, kind uplink.Kind, check uplink.Check) (json.RawMessage, error) {
	return s.requestWith(ctx, kind, askTimeout, func(r uplink.Request) any { return uplink.ProbeRequest{Request: r, Check: check} })
}

func (s *session) requestWith(ctx context.Context, kind uplink.Kind, patience time.Duration, message func(uplink.Request) any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan uplink.Answer, 1)
	s.mu.Lock()
	if len(s.waiting) >= maxQuestion {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: agent %s is asked too much at once", model.ErrLimit, s.name)
	}
	s.next++
	id := s.next
	s.waiting[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
	}()
	b, err := uplink.Encode(kind, message(uplink.Request{ID: id}))
	if err != nil {
		return nil, err
	}
	s.put(b)
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: agent %s has not answered", model.ErrUnavailable, s.called())
	case <-s.stream.Context().Done():
		return nil, fmt.Errorf("%w: agent %s is gone", model.ErrUnavailable, s.called())
	case a := <-answer:
		if a.Error != "" {
			return nil, fmt.Errorf("agent %s: %s", s.called(), clip(a.Error, 500))
		}
		return a.Value, nil
	}
}

func (s *session) answered(a uplink.Answer) {
	s.mu.Lock()
	ch := s.waiting[a.ID]
	delete(s.waiting, a.ID)
	s.mu.Unlock()
	if ch != nil {
		ch <- a
	}
}

// here returns the stream of an agent that talks to this server.
func (h *Hosts) here(node string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[node]
}

// route asks the server that an agent talks to.
func route[T any](ctx context.Context, h *Hosts, method string, r routed, here func() (T, error)) (T, error) {
	if h.here(r.Node) != nil {
		return here()
	}
	var none T
	e, ok := h.holder(r.Node)
	if !ok || e.Server == h.cfg.NodeID || h.deps.Dial == nil {
		return none, fmt.Errorf("%w: agent %s talks to no server", model.ErrUnavailable, h.nameOf(r.Node))
	}
	conn, err := h.deps.Dial(e.Server)
	if err != nil {
		return none, err
	}
	return wire.Call[T](ctx, conn, method, r)
}

// Probe has an agent run a check now, wherever it is connected.
func (h *Hosts) Probe(ctx context.Context, nodeID string, c model.Check) (model.Result, error) {
	if err := h.consent(nodeID); err != nil {
		return model.Result{}, err
	}
	r := routed{Node: nodeID, Check: uplink.Of(c)}
	return route(ctx, h, methodProbe, r, func() (model.Result, error) { return h.probeHere(ctx, r) })
}

func (h *Hosts) probeHere(ctx context.Context, r routed) (model.Result, error) {
	s := h.here(r.Node)
	if s == nil {
		return model.Result{}, fmt.Errorf("%w: agent %s does not talk to this server any more", model.ErrUnavailable, h.nameOf(r.Node))
	}
	if err := h.consent(r.Node); err != nil {
		return model.Result{}, err
	}
	if !s.hello.Checks {
		return model.Result{}, fmt.Errorf("%w: checks are switched off on agent %s", model.ErrForbidden, s.called())
	}
	b, err := s.request(ctx, uplink.KindProbe, r.Check)
	if err != nil {
		return model.Result{}, err
	}
	var res model.Result
	if err := json.Unmarshal(b, &res); err != nil {
		return model.Result{}, fmt.Errorf("result of agent %s: %w", s.called(), model.DecodeError(err))
	}
	if err := h.consent(r.Node); err != nil { // it was asked while it was
		return model.Result{}, err
	}
	s.claim(&res)
	res.CheckID, res.Confirm = r.Check.ID, true
	if now := h.deps.Now(); now.Sub(res.Start).Abs() > time.Hour {
		res.Start = now
	}
	return res, nil
}

// Snapshot asks an agent what its host does now: top processes, units, connections.
func (h *Hosts) Snapshot(ctx context.Context, nodeID string) (json.RawMessage, error) {
	r := routed{Node: nodeID}
	l, err := route(ctx, h, methodLook, r, func() (looked, error) { return h.lookHere(ctx, r) })
	return l.Value, err
}

func (h *Hosts) lookHere(ctx context.Context, r routed) (looked, error) {
	s := h.here(r.Node)
	if s == nil {
		return looked{}, fmt.Errorf("%w: agent %s does not talk to this server any more", model.ErrUnavailable, h.nameOf(r.Node))
	}
	b, err := s.request(ctx, uplink.KindLook, uplink.Check{})
	return looked{b}, err
}

// KeepLive has an agent send each second for a while; whoever looks calls it
// again and again, more often than Config.LiveFor.
func (h *Hosts) KeepLive(ctx context.Context, nodeID string) error {
	r := routed{Node: nodeID}
	_, err := route(ctx, h, methodLive, r, func() (struct{}, error) { return struct{}{}, h.liveHere(r) })
	return err
}

func (h *Hosts) liveHere(r routed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[r.Node]
	if s == nil {
		return fmt.Errorf("%w: the agent does not talk to this server any more", model.ErrUnavailable)
	}
	before := time.Now().Before(h.lives[r.Node])
	if !before && len(h.lives) >= maxLive {
		return fmt.Errorf("%w: %d hosts are looked at each second already; try again in a moment", model.ErrLimit, maxLive)
	}
	h.lives[r.Node] = time.Now().Add(h.cfg.LiveFor)
	if !before {
		s.kick()
	}
	return nil
}

// endLives ends live mode where nobody looks any more.
func (h *Hosts) endLives(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for node, until := range h.lives {
		if now.After(until) {
			delete(h.lives, node)
			if s := h.sessions[node]; s != nil {
				s.kick()
			}
		}
	}
}

// settingsOf unites the groups of a host.
func (h *Hosts) settingsOf(n model.Node) uplink.Settings {
	var out uplink.Settings
	if h.deps.Groups == nil {
		return out
	}
	var mesh *model.HostMesh
	groups := slices.Clone(h.deps.Groups())
	slices.SortStableFunc(groups, func(a, b model.HostGroup) int {
		if a.Priority != b.Priority {
			return a.Priority - b.Priority
		}
		return strings.Compare(a.Name, b.Name)
	})
	for i := range groups {
		g := &groups[i]
		if !g.Covers(n) {
			continue
		}
		if g.Interval > 0 {
			out.Interval = g.Interval
		}
		for k, v := range g.Collectors {
			if out.Collectors == nil {
				out.Collectors = map[string]bool{}
			}
			out.Collectors[k] = v
		}
		for k, v := range g.Labels {
			if out.Labels == nil {
				out.Labels = map[string]string{}
			}
			out.Labels[k] = v
		}
		for _, p := range g.Processes {
			if !slices.Contains(out.Processes, p) {
				out.Processes = append(out.Processes, p)
			}
		}
		if g.Mesh != nil {
			mesh = g.Mesh
		}
		for _, v := range g.Services {
			same := func(o model.HostService) bool { return o.Kind == v.Kind && o.Name == v.Name }
			if len(out.Services) < model.MaxServices && !slices.ContainsFunc(out.Services, same) {
				out.Services = append(out.Services, v)
			}
		}
	}
	out.Mesh = h.meshOf(n, mesh)
	return out
}

// AlertFired has a snapshot of the host taken that an alert is about, and
// recorded under the alert's subject. It does not block. The host is found by
// the labels "host" or "instance".
func (h *Hosts) AlertFired(e model.Event) {
	node := h.nodeOf(e.Labels)
	if node == "" || h.here(node) == nil {
		return // the server that it talks to does it
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.shots[node]) < h.cfg.SnapshotGap {
		return
	}
	select {
	case h.alerts <- alertRef{e, node}:
		h.shots[node] = time.Now()
	default:
	}
}

// nodeOf finds the agent of an alert's host.
func (h *Hosts) nodeOf(l map[string]string) string {
	names := []string{l["host"], l["instance"]}
	if host, _, ok := strings.Cut(l["instance"], ":"); ok {
		names = append(names, host)
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		for _, n := range h.deps.Nodes() {
			if n.Name == name {
				return n.ID
			}
		}
	}
	return ""
}

// snapshots takes those for alerts until ctx ends.
func (h *Hosts) snapshots(ctx context.Context) {
	for {
		var a alertRef
		select {
		case <-ctx.Done():
			return
		case a = <-h.alerts:
		}
		h.wg.Go(func() {
			sctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			v, err := h.Snapshot(sctx, a.node)
			if err != nil {
				h.log.Info("no snapshot for an alert", "node", a.node, "alert", a.event.Name, "err", err)
				return
			}
			now := h.deps.Now().UTC()
			name := h.nameOf(a.node)
			e := model.Event{
				ID: model.NewID(now), Time: now, Kind: model.EventAlert, Subject: a.event.Subject, Name: a.event.Name, Severity: "info", Actor: "agent/" + name,
				Code: "alert.snapshot", Message: "what " + name + " did when the alert began", Labels: map[string]string{"host": name, "event": a.event.ID}, Data: v,
			}
			h.record(ctx, e)
		})
	}
}

// record stores an event, for as long as that takes.
func (h *Hosts) record(ctx context.Context, e model.Event) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := h.deps.AppendEvents(sctx, e)
		cancel()
		var inv model.Invalid
		if err == nil || errors.As(err, &inv) {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			h.log.Warn("event of a host not stored", "code", e.Code, "node", e.Subject, "err", err)
			return
		}
	}
}

// nameOf names an agent for people.
func (h *Hosts) nameOf(node string) string {
	if n, ok := h.deps.Node(node); ok && n.Name != "" {
		return n.Name
	}
	return node
}

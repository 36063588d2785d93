package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// methodAction is the call between servers.
const methodAction = "hosts.action"

// actionPatience is how long the end of an action is waited for; a unit may
// take its time to start.
const actionPatience = 65 * time.Second

// registerActions serves other servers that ask for the restart of something
// on a host whose agent talks to this one.
func (h *Hosts) registerActions(s *wire.Server) {
	wire.HandleJSON(s, methodAction, []model.NodeRole{model.RoleServer}, func(ctx context.Context, _ model.Peer, r routed) (uplink.ActionResult, error) {
		return h.actHere(ctx, r)
	})
}

// ActionKey is the public key that hosts must trust (actions.keys in the
// agent's file) for restarts from here to be done.
func (h *Hosts) ActionKey() (string, error) {
	if h.deps.ActionKey == nil {
		return "", fmt.Errorf("%w: this server signs no actions", model.ErrUnavailable)
	}
	key, err := h.deps.ActionKey()
	if err != nil {
		return "", err
	}
	r, err := uplink.Action{}.Sign(key)
	return uplink.KeyText(r.Key), err
}

// Restart has a service of a host restarted, wherever its agent is connected.
// The result is done, refused or failed; err says besides what kind of refusal
// it is: model.ErrForbidden when the host's file does not allow it,
// model.ErrLimit when it was done too often. What was asked for and what became
// of it is an event.
func (h *Hosts) Restart(ctx context.Context, nodeID, actor, kind, name string) (result, message string, err error) {
	n, ok := h.deps.Node(nodeID)
	if !ok {
		return uplink.ActionRefused, "there is no such host", fmt.Errorf("host %s: %w", nodeID, model.ErrNotFound)
	}
	svc := model.HostService{Kind: kind, Name: name}
	if err := svc.Validate(); err != nil {
		return uplink.ActionRefused, err.Error(), err
	}
	if kind != model.ServiceUnit && kind != model.ServiceContainer {
		err := model.Invalid{{Field: "kind", Msg: "a " + kind + " has no manager that could restart it; name the unit or the container that it belongs to"}}
		return uplink.ActionRefused, err.Error(), err
	}
	res, err := h.act(ctx, n.ID, actor, svc)
	if err != nil {
		res = uplink.ActionResult{Result: uplink.ActionFailed, Message: err.Error()}
	}
	h.recordAction(ctx, n, actor, svc, res)
	switch {
	case err != nil:
	case res.Code == uplink.RefusedOff:
		err = fmt.Errorf("%w: %s", model.ErrForbidden, res.Message)
	case res.Code == uplink.RefusedLimit:
		err = fmt.Errorf("%w: %s", model.ErrLimit, res.Message)
	}
	return res.Result, res.Message, err
}

func (h *Hosts) act(ctx context.Context, nodeID, actor string, svc model.HostService) (uplink.ActionResult, error) {
	var none uplink.ActionResult
	if h.deps.ActionKey == nil {
		return none, fmt.Errorf("%w: this server signs no actions", model.ErrUnavailable)
	}
	key, err := h.deps.ActionKey()
	if err != nil {
		return none, fmt.Errorf("key of actions: %w", err)
	}
	now := h.deps.Now()
	req, err := uplink.Action{
		Nonce: model.NewID(now), Node: nodeID, Action: uplink.ActionRestart, Kind: svc.Kind, Name: svc.Name, Actor: clip(actor, 200),
		Issued: now.UnixMilli(), Expires: now.Add(uplink.ActionLife).UnixMilli(),
	}.Sign(key)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	r := routed{Node: nodeID, Action: &req}
	return route(ctx, h, methodAction, r, func() (uplink.ActionResult, error) { return h.actHere(ctx, r) })
}

func (h *Hosts) actHere(ctx context.Context, r routed) (res uplink.ActionResult, err error) {
	s := h.here(r.Node)
	if s == nil || r.Action == nil {
		return res, fmt.Errorf("%w: agent %s does not talk to this server any more", model.ErrUnavailable, h.nameOf(r.Node))
	}
	b, err := s.requestWith(ctx, uplink.KindAction, actionPatience, func(q uplink.Request) any {
		r.Action.Request = q
		return r.Action
	})
	if err != nil {
		return res, err
	}
	if err := json.Unmarshal(b, &res); err != nil {
		return res, fmt.Errorf("answer of agent %s: %w", s.called(), model.DecodeError(err))
	}
	res.Message, res.Code = clip(res.Message, 500), clip(res.Code, 32)
	switch res.Result {
	case uplink.ActionDone, uplink.ActionRefused, uplink.ActionFailed:
	default:
		return res, fmt.Errorf("agent %s has answered %q: %w", s.called(), clip(res.Result, 32), model.ErrUnavailable)
	}
	return res, nil
}

// recordAction writes down who wanted what, and what came of it. Who asked does
// not wait for that.
func (h *Hosts) recordAction(ctx context.Context, n model.Node, actor string, svc model.HostService, res uplink.ActionResult) {
	data, err := json.Marshal(map[string]string{"action": uplink.ActionRestart, "kind": svc.Kind, "name": svc.Name, "result": res.Result, "message": res.Message})
	if err != nil {
		data = nil
	}
	now := h.deps.Now().UTC()
	h.mu.Lock()
	if h.ctx != nil {
		ctx = h.ctx // it is stored also when who asked has gone
	}
	h.mu.Unlock()
	e := model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventAudit, Subject: "node/" + n.ID, Name: n.Name, Severity: "info", Actor: actor, Code: "host.restart",
		Message: fmt.Sprintf("restart of %s %s on %s: %s", svc.Kind, svc.Name, n.Name, res.Result), Labels: map[string]string{"host": n.Name, "region": n.Region}, Data: data,
	}
	h.wg.Go(func() { h.record(ctx, e) })
}

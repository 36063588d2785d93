package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

func (c clusterForAPI) patch(ctx context.Context, actor, id string, change map[string]any) error {
	patch, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = c.catalog.Patch(ctx, actor, model.KindNode, id, patch, 0)
	return err
}

func (c clusterForAPI) Drain(ctx context.Context, actor, id string, draining bool) error {
	return c.patch(ctx, actor, id, map[string]any{"draining": draining})
}

// AllowChecks changes whether an agent may run checks. Its stream learns it from
// the record.
func (c clusterForAPI) AllowChecks(ctx context.Context, actor, id string, allow bool) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	if err := n.ValidateChecks(); err != nil {
		return err
	}
	if err := c.patch(ctx, actor, id, map[string]any{"checks": allow}); err != nil {
		return err
	}
	if allow {
		c.auditNode(ctx, actor, n, "node.checks_allowed", "allowed to run checks of region "+n.Region)
	} else {
		c.auditNode(ctx, actor, n, "node.checks_forbidden", "forbidden to run checks")
	}
	return nil
}

// labelTries is how often labels are set when the record changes meanwhile.
const labelTries = 5

// SetLabels replaces all labels of a node.
func (c clusterForAPI) SetLabels(ctx context.Context, actor, id string, labels map[string]string) error {
	if err := model.ValidateLabels(labels); err != nil {
		var inv model.Invalid
		inv.AddErr("labels", err)
		return inv
	}
	for try := 1; ; try++ {
		n, err := c.node(id)
		if err != nil {
			return err
		}
		// A patch leaves alone what it does not name.
		change := map[string]any{}
		for k := range n.Labels {
			change[k] = nil
		}
		for k, v := range labels {
			change[k] = v
		}
		patch, err := json.Marshal(map[string]any{"labels": change})
		if err != nil {
			return err
		}
		_, err = c.catalog.Patch(ctx, actor, model.KindNode, id, patch, n.Revision)
		if !errors.Is(err, model.ErrRevision) || try == labelTries {
			return err
		}
	}
}

func (c clusterForAPI) store() (*control.Control, error) {
	if c.control == nil {
		return nil, fmt.Errorf("%w: the configuration store of this server is damaged; ask another server", model.ErrUnavailable)
	}
	return c.control, nil
}

func (c clusterForAPI) Promote(ctx context.Context, actor, id string) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	s, err := c.store()
	if err != nil {
		return err
	}
	if _, err := c.member(ctx, n); err != nil {
		return err
	}
	if err := s.Promote(ctx, id); err != nil {
		return fmt.Errorf("promote %s: %w", n.Name, err)
	}
	c.auditNode(ctx, actor, n, "node.promoted", "made a voter of the configuration store")
	return nil
}

// member finds a node among the members of the configuration store.
func (c clusterForAPI) member(ctx context.Context, n model.Node) (control.ControlMember, error) {
	members, err := c.control.Members(ctx)
	if err != nil {
		return control.ControlMember{}, fmt.Errorf("list the members of the configuration store: %w", err)
	}
	for _, m := range members {
		if m.NodeID == n.ID {
			return m, nil
		}
	}
	why := "others keep it"
	if n.Revoked {
		why = "it was removed from the cluster"
	}
	return control.ControlMember{}, fmt.Errorf("%w: %s is no member of the configuration store: %s", model.ErrConflict, n.Name, why)
}

func (c clusterForAPI) MoveLeader(ctx context.Context, actor, id string) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	s, err := c.store()
	if err != nil {
		return err
	}
	m, err := c.member(ctx, n)
	if err != nil {
		return err
	}
	if m.Learner {
		return fmt.Errorf("%w: %s has no vote yet; wait until it has, or give it one with `panoptes node promote %s`", model.ErrConflict, n.Name, n.Name)
	}
	if err := s.MoveLeader(ctx, id); err != nil {
		return fmt.Errorf("make %s the leader: %w", n.Name, err)
	}
	c.auditNode(ctx, actor, n, "node.leader", "made the leader of the configuration store")
	return nil
}

func (c clusterForAPI) Remove(ctx context.Context, actor, id string, force bool) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	s, err := c.store()
	if err != nil {
		return err
	}
	if !n.Revoked {
		if err := c.removable(ctx, n, force); err != nil {
			return err
		}
	}
	// The record first: a revoked node is shut out even when the rest fails,
	// and removing it again finishes the work.
	if !n.Revoked {
		if err := c.patch(ctx, actor, id, map[string]any{"revoked": true}); err != nil {
			return fmt.Errorf("revoke %s: %w", n.Name, err)
		}
	}
	if n.Role != model.RoleAgent {
		// Those beyond the fifth server are no members.
		if err := s.Remove(ctx, id); err != nil && !errors.Is(err, model.ErrNotFound) {
			return fmt.Errorf("remove %s from the configuration store: %w", n.Name, err)
		}
	}
	if n.Revoked {
		return nil
	}
	c.auditNode(ctx, actor, n, "node.removed", "removed from the cluster, its certificate revoked")
	return nil
}

// removable says why a node should not be removed now.
func (c clusterForAPI) removable(ctx context.Context, n model.Node, force bool) error {
	if n.ID == c.pki.NodeID() {
		return fmt.Errorf("%w: a server does not remove itself; ask another one for it (--server URL)", model.ErrConflict)
	}
	for _, m := range c.cluster.Members() {
		if m.ID == n.ID && (m.State == model.MemberAlive || m.State == model.MemberSuspect) && !force {
			return fmt.Errorf("%w: %s is alive; drain and stop it first, or use force", model.ErrConflict, n.Name)
		}
	}
	if n.Role == model.RoleAgent {
		if c.online(n.ID) && !force {
			return fmt.Errorf("%w: the agent of %s sends; stop it first, or use force", model.ErrConflict, n.Name)
		}
		return nil
	}
	// Without this, a removal that cannot be finished would cost the majority.
	members, err := c.control.Members(ctx)
	if err != nil {
		return fmt.Errorf("list the members of the configuration store: %w", err)
	}
	votes, well, voter := 0, 0, false
	var ill []string
	for _, m := range members {
		switch {
		case m.Learner:
		case m.NodeID == n.ID:
			voter = true
		default:
			votes++
			if m.Healthy {
				well++
			} else {
				ill = append(ill, c.nodeName(m.NodeID))
			}
		}
	}
	if voter && votes == 0 {
		return fmt.Errorf("%w: %s is the only voter of the configuration store; promote another server first (panoptes node promote NAME)", model.ErrConflict, n.Name)
	}
	if voter && well < votes/2+1 {
		return fmt.Errorf("%w: without %s only %d of %d voters of the configuration store would be left, no majority; bring %s back first, or remove what is lost for good",
			model.ErrConflict, n.Name, well, votes, strings.Join(ill, ", "))
	}
	return nil
}

func (c clusterForAPI) auditNode(ctx context.Context, actor string, n model.Node, code, what string) {
	now := time.Now().UTC()
	c.audit(ctx, model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventAudit, Subject: "node/" + n.ID, Name: n.Name, Severity: "info", Actor: actor,
		Code: code, Message: n.Name + " was " + what,
	})
}

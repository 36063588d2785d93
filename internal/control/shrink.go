package control

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

func find(list []member, nodeID string) (member, error) {
	for _, m := range list {
		if m.node == nodeID {
			return m, nil
		}
	}
	return member{}, fmt.Errorf("member %s: %w", nodeID, model.ErrNotFound)
}

// Remove takes the node out of the cluster, which may be this one and may be
// dead. A leader hands over first. What is not there is model.ErrNotFound; a
// removal that would leave too few running members is model.ErrUnavailable.
func (c *Control) Remove(ctx context.Context, nodeID string) error {
	err := c.change(ctx, "remove member "+nodeID, func(ctx context.Context, eng *engine) error {
		list, err := c.current(ctx, eng)
		if err != nil {
			return err
		}
		m, err := find(list, nodeID)
		if err != nil {
			return err
		}
		if m.id == c.leaderID(eng) {
			c.handOver(ctx, eng, list, m.id)
		}
		if _, err := eng.client.MemberRemove(ctx, m.id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
			return err
		}
		c.log.Info("member removed", "node", nodeID)
		if nodeID == c.cfg.NodeID {
			return nil // it writes nothing any more
		}
		// Only now: a member without its name could not be removed once more. What is
		// left of a name harms nobody, the number of a member does not come back.
		if _, err := eng.client.Delete(ctx, memberKey(m.id)); err != nil {
			c.log.Debug("name of a removed member stays", "node", nodeID, "err", err)
		}
		return nil
	})
	if nodeID == c.cfg.NodeID && c.removed.Load() {
		return nil // the answer may get lost with the membership
	}
	return err
}

// handOver tries to make another voter the leader.
func (c *Control) handOver(ctx context.Context, eng *engine, list []member, from uint64) {
	for _, to := range list {
		if to.id == from || to.learner || c.peers.of(to.id) != "" {
			continue
		}
		if err := c.transfer(ctx, eng, list, from, to.id); err == nil {
			return
		}
	}
}

// transfer makes a member the leader. A follower passes the wish on to the leader.
func (c *Control) transfer(ctx context.Context, eng *engine, list []member, from, to uint64) error {
	if eng.etcd != nil {
		if err := eng.etcd.Server.MoveLeader(ctx, from, to); err != nil {
			return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
		}
		return nil
	}
	return c.leaderClient(list, from, func(cl *clientv3.Client) error {
		_, err := cl.MoveLeader(ctx, to)
		return err
	})
}

// Promote gives a learner its vote, also when that makes the number of voters
// even. It waits up to 30 s for one that is still catching up. One that votes
// already is not an error.
func (c *Control) Promote(ctx context.Context, nodeID string) error {
	return c.change(ctx, "promote member "+nodeID, func(ctx context.Context, eng *engine) error {
		list, err := c.current(ctx, eng)
		if err != nil {
			return err
		}
		m, err := find(list, nodeID)
		if err != nil || !m.learner {
			return err
		}
		if _, err := eng.client.MemberPromote(ctx, m.id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return err
		}
		return nil
	})
}

// MoveLeader makes the node the leader. It must have a vote.
func (c *Control) MoveLeader(ctx context.Context, nodeID string) error {
	return c.change(ctx, "make "+nodeID+" the leader", func(ctx context.Context, eng *engine) error {
		list, err := c.current(ctx, eng)
		if err != nil {
			return err
		}
		m, err := find(list, nodeID)
		if err != nil {
			return err
		}
		if m.learner {
			return fmt.Errorf("%w: member %s has no vote yet", model.ErrConflict, nodeID)
		}
		from := c.leaderID(eng)
		if from == m.id {
			return nil
		}
		return c.transfer(ctx, eng, list, from, m.id)
	})
}

package control

import (
	"context"
	"fmt"
	"time"
)

// lead looks after the membership until ctx ends: this member's own address,
// the health of the others and, on the leader, the promotion of learners.
func (c *Control) lead(ctx context.Context, eng *engine) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	corrected, swept := false, false
	for {
		cctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		if !corrected {
			if err := c.correct(cctx, eng); err != nil {
				c.log.Warn("own address not corrected yet", "err", err)
			} else {
				corrected = true
			}
		}
		if !swept && corrected {
			swept = c.sweep(cctx, eng) == nil
		}
		if list, err := c.raw(cctx, eng); err == nil && c.state() == nil {
			if len(list) > 1 {
				c.probe(cctx, eng, list)
			}
			if eng.etcd.Server.Leader() == eng.etcd.Server.MemberID() {
				c.promoteReady(cctx, eng, list)
			}
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// correct tells the cluster the address of this member when it has another on
// record: that of an earlier start, or of the time when it was alone.
func (c *Control) correct(ctx context.Context, eng *engine) error {
	self := eng.etcd.Server.MemberID()
	m := eng.etcd.Server.Cluster().Member(self)
	if m == nil {
		return nil // removed
	}
	cfg := c.address()
	want := cfg.scheme() + "://" + cfg.PeerAdvertise
	if len(m.PeerURLs) == 1 && m.PeerURLs[0] == want {
		return nil
	}
	if _, err := eng.client.MemberUpdate(ctx, uint64(self), []string{want}); err != nil {
		return err
	}
	c.log.Info("own address corrected", "was", m.PeerURLs, "is", want)
	return nil
}

// hold says why the learner has no vote yet, "" when nothing speaks against it.
func hold(list []member, m member, health string) string {
	n := voters(list)
	switch {
	case !m.started:
		return "has not started yet"
	case health != "":
		return health
	case n >= maxVoters:
		return fmt.Sprintf("%d servers vote already, more would only make it slower", n)
	case n%2 == 1:
		return fmt.Sprintf("with %d votes no more failures are survived than with %d; votes as soon as another server joins", n+1, n)
	}
	return "is catching up"
}

// promoteReady gives learners their votes as long as the number of voters stays odd.
func (c *Control) promoteReady(ctx context.Context, eng *engine, list []member) {
	var ready []member
	for _, m := range list {
		if m.learner && m.started && c.peers.of(m.id) == "" {
			ready = append(ready, m)
		}
	}
	n := voters(list)
	want := 1 + n%2 // an even number of voters needs one more, an odd one two
	if len(ready) < want || n+want > maxVoters {
		return
	}
	for _, m := range ready[:want] {
		if _, err := eng.client.MemberPromote(ctx, m.id); err != nil {
			c.log.Debug("learner not promoted yet", "node", m.node, "err", err)
			return // the next round makes the number odd again
		}
		c.log.Info("learner promoted, it votes now", "node", m.node)
	}
}

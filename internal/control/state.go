package control

import (
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// use returns the engine, or why there is none.
func (c *Control) use() (*engine, error) {
	if err := c.state(); err != nil {
		return nil, err
	}
	if eng := c.eng.Load(); eng != nil {
		return eng, nil
	}
	return nil, fmt.Errorf("%w: the configuration store is restarting", model.ErrUnavailable)
}

// state says why the store cannot be used at all.
func (c *Control) state() error {
	reason := ""
	switch {
	case c.closed.Load():
		reason = "the configuration store is shutting down"
	case c.removed.Load():
		reason = "this server was removed from the cluster; to use it again, stop it, empty its data directory and join anew"
	case c.fatal.Load() != nil:
		reason = fmt.Sprintf("the configuration store has stopped (%s); restart this server", *c.fatal.Load())
	case c.eng.Load() != nil:
		return nil
	case c.away.Load():
		reason = "the configuration store is restarting"
	case c.waiting.Load() != nil:
		reason = "the configuration store is not started yet: " + *c.waiting.Load()
	case c.late.Load():
		reason = fmt.Sprintf("the configuration store did not get ready in %s: no majority of servers%s, or its log is damaged", c.cfg.StartTimeout, c.without())
	default:
		reason = "the configuration store is starting" + c.without()
	}
	return fmt.Errorf("%w: %s", model.ErrUnavailable, reason)
}

// Writable says why a write would be refused now, nil when it would not. A
// leader that has just been lost is not worth mentioning for some seconds:
// writes wait for the next one.
func (c *Control) Writable() error {
	if err := c.state(); err != nil {
		return err
	}
	if err := c.leaderless(leaderPatience); err != nil {
		return err
	}
	if c.full.Load() {
		return fmt.Errorf("%w: the configuration store has reached its size limit of %d bytes", model.ErrNoSpace, c.cfg.QuotaBytes)
	}
	return c.writableDisk()
}

func (c *Control) writableDisk() error {
	if c.cfg.Endpoints != nil {
		return nil // no files of ours
	}
	return c.space.writable()
}

// leaderless returns an error when there has been no leader for longer than patience.
func (c *Control) leaderless(patience time.Duration) error {
	lost := c.lost.Load()
	if lost == 0 || time.Since(time.Unix(0, lost)) < patience {
		return nil
	}
	if eng := c.eng.Load(); eng != nil && eng.etcd != nil && eng.etcd.Server.Leader() != 0 {
		return nil // this process stood still, and nobody has looked since
	}
	return fmt.Errorf("%w: the configuration store has no leader: too few servers are reachable%s", model.ErrUnavailable, c.without())
}

// without names the members that do not answer, for the end of a sentence.
func (c *Control) without() string {
	ids := c.peers.silent()
	if len(ids) == 0 {
		return ""
	}
	for i, id := range ids {
		if name := c.name(id); name != "" {
			ids[i] = name
		}
	}
	return " (no answer from " + strings.Join(ids, ", ") + ")"
}

// look notes whether there is a leader now.
func (c *Control) look(leader bool) {
	if leader {
		c.lost.Store(0)
	} else {
		c.lost.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// Revivable reports whether the store has died, as etcd does when it meets a
// full disk, and would run again in a new process: there is space now. Within
// this one it cannot, what is left of it never ends.
func (c *Control) Revivable() bool {
	return c.fatal.Load() != nil && !c.closed.Load() && !c.removed.Load() && c.space.writable() == nil
}

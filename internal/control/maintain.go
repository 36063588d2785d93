package control

import (
	"context"
	"fmt"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Status is how the store does, for health pages.
type Status struct {
	Ready     bool
	Leader    bool   // there is a leader, so a majority
	IsLeader  bool   // it is this server
	Err       string // why writes are refused now; empty when they are not
	Revision  int64  // of the data of this server
	DBBytes   int64  // size of etcd's database
	UsedBytes int64  // of it in use
	FreeBytes int64  // free on its disk
	Reserve   bool   // the reserve is in place
	Members   int
	PeerAddr  string
}

// Status answers from what this server knows; it does not ask others.
func (c *Control) Status(context.Context) Status {
	st := Status{Reserve: c.space.held.Load()}
	st.FreeBytes, _ = c.space.free(c.cfg.Dir) // 0 when unknown
	if err := c.Writable(); err != nil {
		st.Err = err.Error()
	}
	e := c.eng.Load()
	if e == nil || c.closed.Load() {
		return st
	}
	s := e.etcd.Server
	st.Ready = true
	st.Leader = s.Leader() != 0
	st.IsLeader = s.Leader() == s.MemberID()
	st.Revision = s.KV().Rev()
	st.DBBytes = s.Backend().Size()
	st.UsedBytes = s.Backend().SizeInUse()
	st.Members = len(s.Cluster().Members())
	st.PeerAddr = e.peer
	return st
}

// Defragment gives space of etcd's database back to the disk. Reads and writes
// of this server wait meanwhile.
func (c *Control) Defragment(context.Context) error {
	if _, err := c.client(); err != nil {
		return err
	}
	if err := c.eng.Load().etcd.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment configuration store: %w", err)
	}
	return nil
}

// Snapshot writes a consistent copy of etcd's database to w and returns its revision.
func (c *Control) Snapshot(ctx context.Context, w io.Writer) (int64, error) {
	cl, err := c.client()
	if err != nil {
		return 0, err
	}
	rev := c.eng.Load().etcd.Server.KV().Rev()
	rc, err := cl.Snapshot(ctx)
	if err != nil {
		return 0, c.mapErr(ctx, "snapshot", err)
	}
	defer rc.Close()
	if _, err := io.Copy(w, rc); err != nil {
		return 0, fmt.Errorf("copy snapshot: %w", err)
	}
	return rev, nil
}

// Compact forgets the history up to revision rev. etcd does so by itself after
// an hour; watches that are further behind begin anew.
func (c *Control) Compact(ctx context.Context, rev int64) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	ctx, done := c.deadline(ctx)
	defer done()
	if _, err := cl.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		return c.mapErr(ctx, "compact", err)
	}
	return nil
}

// monitor looks after the disk and etcd's alarm until ctx ends.
func (c *Control) monitor(ctx context.Context, eng *engine) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.slim:
			c.recover(ctx)
		case <-tick.C:
			c.space.check()
			if c.eng.Load() == nil && time.Since(eng.started) > c.cfg.StartTimeout && !c.late.Swap(true) {
				c.log.Error("configuration store not ready; no majority of servers, or its log is damaged", "after", c.cfg.StartTimeout)
			}
			if c.full.Load() {
				c.recover(ctx)
			}
		}
	}
}

// recover lifts etcd's NOSPACE alarm: compact, defragment, disarm. When the
// data themselves have outgrown the quota the next write raises it again.
func (c *Control) recover(ctx context.Context) {
	cl, err := c.client()
	if err != nil {
		return
	}
	rev := c.eng.Load().etcd.Server.KV().Rev()
	if err := c.Compact(ctx, rev); err != nil {
		c.log.Debug("compaction after alarm", "err", err) // already compacted to here
	}
	if err := c.Defragment(ctx); err != nil {
		c.log.Warn("space alarm stays", "err", err)
		return
	}
	if c.eng.Load().etcd.Server.Backend().Size() > c.cfg.QuotaBytes*9/10 {
		return
	}
	actx, done := c.deadline(ctx)
	defer done()
	alarms, err := cl.AlarmList(actx)
	if err != nil {
		c.log.Warn("space alarm stays", "err", err)
		return
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := cl.AlarmDisarm(actx, &clientv3.AlarmMember{MemberID: a.MemberID, Alarm: a.Alarm}); err != nil {
			c.log.Warn("space alarm stays", "err", err)
			return
		}
	}
	c.full.Store(false)
	c.log.Info("space alarm lifted")
}

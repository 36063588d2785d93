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
	PeerAddr  string // advertised

	ClientAddr  string   // advertised; empty when there is none
	Learner     bool     // this server has no vote yet
	Removed     bool     // this server is no member any more
	Unreachable []string // node ids of members that do not answer this one
}

// Removed reports whether this server is no member any more.
func (c *Control) Removed() bool { return c.removed.Load() }

// Status answers from what this server knows; it does not ask others.
func (c *Control) Status(context.Context) Status {
	st := Status{Reserve: c.space.held.Load()}
	st.FreeBytes, _ = c.space.free(c.cfg.Dir) // 0 when unknown
	if err := c.Writable(); err != nil {
		st.Err = err.Error()
	}
	st.Removed = c.removed.Load()
	e := c.eng.Load()
	if e == nil || c.closed.Load() {
		return st
	}
	st.Unreachable = c.peers.silent()
	if e.etcd == nil {
		c.remoteStatus(&st)
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
	if m := s.Cluster().Member(s.MemberID()); m != nil { // etcd's own question panics when it was removed
		st.Learner = m.IsLearner
	}
	st.PeerAddr = c.address().PeerAdvertise
	st.ClientAddr = c.address().ClientAdvertise
	return st
}

// Defragment gives space of etcd's database back to the disk. Reads and writes
// of this server wait meanwhile. A client has nothing to do.
func (c *Control) Defragment(ctx context.Context) error {
	eng, err := c.use()
	if err != nil || eng.etcd == nil {
		return err
	}
	_, release, err := eng.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := eng.etcd.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment configuration store: %w", err)
	}
	return nil
}

// Snapshot writes a consistent copy of etcd's database to w and returns its revision.
func (c *Control) Snapshot(ctx context.Context, w io.Writer) (int64, error) {
	eng, err := c.use()
	if err != nil {
		return 0, err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	rev, err := c.revision(ctx, eng)
	if err != nil {
		return 0, c.mapErr(ctx, "snapshot", err)
	}
	rc, err := eng.client.Snapshot(ctx)
	if err != nil {
		return 0, c.mapErr(ctx, "snapshot", err)
	}
	defer rc.Close()
	if _, err := io.Copy(w, rc); err != nil {
		return 0, fmt.Errorf("copy snapshot: %w", err)
	}
	return rev, nil
}

// revision of the data of this server; a client's is that of the majority.
func (c *Control) revision(ctx context.Context, eng *engine) (int64, error) {
	if eng.etcd != nil {
		return eng.etcd.Server.KV().Rev(), nil
	}
	ctx, done := c.deadline(ctx)
	defer done()
	res, err := c.readRemote(ctx, ownPrefix, []clientv3.OpOption{clientv3.WithCountOnly()})
	if err != nil {
		return 0, err
	}
	return res.Header.Revision, nil
}

// Compact forgets the history up to revision rev. etcd does so by itself after
// an hour; watches that are further behind begin anew.
func (c *Control) Compact(ctx context.Context, rev int64) error {
	eng, err := c.use()
	if err != nil {
		return err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, done := c.deadline(ctx)
	defer done()
	if _, err := eng.client.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		return c.mapErr(ctx, "compact", err)
	}
	return nil
}

// monitor looks after the disk and etcd's alarm until ctx ends.
func (c *Control) monitor(ctx context.Context, eng *engine) {
	tick, quick := time.NewTicker(time.Second), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	defer quick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.slim:
			c.unalarm(ctx, eng)
		case <-quick.C:
			c.look(eng.etcd.Server.Leader() != 0)
		case <-tick.C:
			c.space.check()
			if c.eng.Load() == nil && !c.removed.Load() && time.Since(eng.started) > c.cfg.StartTimeout && !c.late.Swap(true) {
				c.log.Error("configuration store not ready; no majority of servers, or its log is damaged", "after", c.cfg.StartTimeout)
			}
			if c.full.Load() {
				c.unalarm(ctx, eng)
			}
		}
	}
}

// unalarm lifts etcd's NOSPACE alarm: compact, defragment, disarm. When the
// data themselves have outgrown the quota the next write raises it again.
func (c *Control) unalarm(ctx context.Context, eng *engine) {
	if c.state() != nil {
		return
	}
	rev := eng.etcd.Server.KV().Rev()
	if err := c.Compact(ctx, rev); err != nil {
		c.log.Debug("compaction after alarm", "err", err) // already compacted to here
	}
	if err := c.Defragment(ctx); err != nil {
		c.log.Warn("space alarm stays", "err", err)
		return
	}
	if eng.etcd.Server.Backend().Size() > c.cfg.QuotaBytes*9/10 {
		return
	}
	actx, done := c.deadline(ctx)
	defer done()
	alarms, err := eng.client.AlarmList(actx)
	if err != nil {
		c.log.Warn("space alarm stays", "err", err)
		return
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := eng.client.AlarmDisarm(actx, &clientv3.AlarmMember{MemberID: a.MemberID, Alarm: a.Alarm}); err != nil {
			c.log.Warn("space alarm stays", "err", err)
			return
		}
	}
	c.full.Store(false)
	c.log.Info("space alarm lifted")
}

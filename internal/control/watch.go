package control

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// Watch delivers every change of the keys that begin with prefix, after
// revision rev; with rev 0 a Reset with all that exists comes first. It waits
// for the store to be ready, goes on by itself after errors, and begins anew
// with a Reset when the changes it missed were compacted away. The channel is
// closed when ctx ends or the store closes.
func (c *Control) Watch(ctx context.Context, prefix string, rev int64) <-chan WatchBatch {
	out := make(chan WatchBatch)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	c.watches.Go(func() {
		defer close(out)
		defer cancel()
		defer stop()
		select {
		case <-c.ready:
		case <-ctx.Done():
			return
		}
		for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 500*time.Millisecond) {
			next, err := c.watch(ctx, out, prefix, rev)
			if next > rev {
				pause = 50 * time.Millisecond
			}
			rev = next
			if errors.Is(err, rpctypes.ErrCompacted) {
				rev = 0 // what was missed is gone: read everything again
			}
			if err != nil && ctx.Err() == nil {
				c.log.Debug("configuration watch begins again", "prefix", prefix, "revision", rev, "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	})
	return out
}

// watch delivers until something fails. It returns the last revision delivered.
func (c *Control) watch(ctx context.Context, out chan<- WatchBatch, prefix string, rev int64) (int64, error) {
	eng, err := c.use()
	if err != nil {
		return rev, err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return rev, err
	}
	defer release()
	now, err := c.revision(ctx, eng)
	if err != nil {
		return rev, err
	}
	if rev > now {
		c.log.Warn("configuration is older than what was seen before; reading all of it again", "seen", rev, "revision", now)
		rev = 0 // a restored backup; etcd would wait for the seen revision to come
	}
	if rev == 0 {
		kvs, at, err := c.List(ctx, prefix)
		if err != nil {
			return 0, err
		}
		b := WatchBatch{Reset: true, Revision: at, Events: make([]model.KVEvent, len(kvs))}
		for i, kv := range kvs {
			b.Events[i].KV = kv
		}
		if !send(ctx, out, b) {
			return 0, ctx.Err()
		}
		rev = at
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for res := range eng.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(rev+1)) {
		if err := res.Err(); err != nil {
			return rev, err
		}
		if len(res.Events) == 0 {
			continue
		}
		b := WatchBatch{Events: make([]model.KVEvent, len(res.Events))}
		for i, ev := range res.Events {
			b.Events[i].KV = KV{Key: string(ev.Kv.Key), Value: ev.Kv.Value, Revision: ev.Kv.ModRevision}
			b.Events[i].Deleted = ev.Type == clientv3.EventTypeDelete
			b.Revision = ev.Kv.ModRevision
		}
		if !send(ctx, out, b) {
			return rev, ctx.Err()
		}
		rev = b.Revision
	}
	return rev, errors.New("the watch ended")
}

func send(ctx context.Context, out chan<- WatchBatch, b WatchBatch) bool {
	select {
	case out <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

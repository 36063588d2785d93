package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// listPage is how many keys are read at a time.
const listPage = 1000

// Get reads one key; model.ErrNotFound when there is none. It reads what this
// server has, which works without a majority too; a server that is cut off may
// answer what was true before.
func (c *Control) Get(ctx context.Context, key string) (KV, error) {
	cl, err := c.client()
	if err != nil {
		return KV{}, err
	}
	ctx, done := c.deadline(ctx)
	defer done()
	res, err := cl.Get(ctx, key, clientv3.WithSerializable())
	if err != nil {
		return KV{}, c.mapErr(ctx, "read "+key, err)
	}
	if len(res.Kvs) == 0 {
		return KV{}, fmt.Errorf("read %s: %w", key, model.ErrNotFound)
	}
	return KV{Key: string(res.Kvs[0].Key), Value: res.Kvs[0].Value, Revision: res.Kvs[0].ModRevision}, nil
}

// List reads all keys that begin with prefix, sorted, and the revision at
// which all of them held together. It works without a majority, as Get does.
func (c *Control) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	cl, err := c.client()
	if err != nil {
		return nil, 0, err
	}
	for {
		kvs, rev, err := c.list(ctx, cl, prefix)
		if errors.Is(err, rpctypes.ErrCompacted) && ctx.Err() == nil {
			continue // the pages' revision was compacted away meanwhile
		}
		if err != nil {
			return nil, 0, c.mapErr(ctx, "list "+prefix, err)
		}
		return kvs, rev, nil
	}
}

func (c *Control) list(ctx context.Context, cl *clientv3.Client, prefix string) (kvs []KV, rev int64, err error) {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		page, done := c.deadline(ctx)
		res, err := cl.Get(page, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(rev), clientv3.WithSerializable())
		done()
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = res.Header.Revision
		}
		for _, kv := range res.Kvs {
			kvs = append(kvs, KV{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision})
		}
		if !res.More {
			return kvs, rev, nil
		}
		from = kvs[len(kvs)-1].Key + "\x00"
	}
}

// Put writes a key and returns the new revision. expect is the revision that
// the key must have: model.KVAny, model.KVAbsent or the one seen.
func (c *Control) Put(ctx context.Context, key string, value []byte, expect int64) (int64, error) {
	return c.Txn(ctx, expected(key, expect), []Op{{Key: key, Value: value}})
}

// Delete removes a key; expect as in Put. Removing what is not there, with
// model.KVAny, is not an error.
func (c *Control) Delete(ctx context.Context, key string, expect int64) (int64, error) {
	return c.Txn(ctx, expected(key, expect), []Op{{Key: key, Delete: true}})
}

func expected(key string, rev int64) []Cond {
	if rev == model.KVAny {
		return nil
	}
	return []Cond{{Key: key, Revision: rev}}
}

// Txn carries out all operations or none: when all conditions hold. A
// condition that does not gives a *model.KVCondError (model.ErrConflict or
// model.ErrRevision). After model.ErrUnavailable the write may have happened
// or may yet happen; repeating it with conditions is safe. At most 1024
// conditions and as many operations, 1.5 MB together.
func (c *Control) Txn(ctx context.Context, conds []Cond, ops []Op) (rev int64, err error) {
	start := time.Now()
	defer func() { c.met.wrote(time.Since(start), err) }()
	cl, err := c.client()
	if err != nil {
		return 0, err
	}
	if err := c.space.writable(); err != nil {
		return 0, err
	}
	cmps := make([]clientv3.Cmp, len(conds))
	gets := make([]clientv3.Op, len(conds))
	for i, cond := range conds {
		if cond.Revision == model.KVAny {
			cmps[i] = clientv3.Compare(clientv3.ModRevision(cond.Key), ">", 0)
		} else {
			cmps[i] = clientv3.Compare(clientv3.ModRevision(cond.Key), "=", cond.Revision)
		}
		gets[i] = clientv3.OpGet(cond.Key, clientv3.WithKeysOnly())
	}
	writes := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		if op.Delete {
			writes[i] = clientv3.OpDelete(op.Key)
		} else {
			writes[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	ctx, done := c.deadline(ctx)
	defer done()
	res, err := cl.Txn(ctx).If(cmps...).Then(writes...).Else(gets...).Commit()
	if err != nil {
		return 0, c.mapErr(ctx, "write", err)
	}
	if res.Succeeded {
		return res.Header.Revision, nil
	}
	for i, cond := range conds {
		ce := &model.KVCondError{Key: cond.Key, Revision: res.Header.Revision, Err: model.ErrRevision}
		if kvs := res.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			ce.Found = kvs[0].ModRevision
		}
		switch {
		case cond.Revision == model.KVAny && ce.Found != 0, cond.Revision == ce.Found:
			continue
		case cond.Revision == model.KVAbsent:
			ce.Err = model.ErrConflict
		}
		return 0, ce
	}
	return 0, fmt.Errorf("write: a condition did not hold, none of them differs now: %w", model.ErrRevision)
}

// deadline bounds a call: without one it would hang while there is no majority.
func (c *Control) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// mapErr turns etcd's errors into those of model.
func (c *Control) mapErr(ctx context.Context, what string, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, rpctypes.ErrGRPCNoSpace):
		c.full.Store(true)
		select {
		case c.slim <- struct{}{}:
		default:
		}
		return fmt.Errorf("%s: %w: the configuration store has reached its size limit of %d bytes", what, model.ErrNoSpace, c.cfg.QuotaBytes)
	case errors.Is(err, rpctypes.ErrRequestTooLarge) || errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%s: %w: %w", what, model.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%s: %w: %w", what, model.ErrLimit, err)
	case errors.Is(err, context.Canceled) && c.ctx.Err() == nil:
		return fmt.Errorf("%s: %w", what, err) // the caller's own doing
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: no answer in time; are most servers reachable?", what, model.ErrUnavailable)
	case ctx.Err() != nil || isUnavailable(err):
		return fmt.Errorf("%s: %w: %w", what, model.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isUnavailable(err error) bool {
	for _, e := range []error{
		rpctypes.ErrNoLeader, rpctypes.ErrNotLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrStopped, rpctypes.ErrTimeout,
		rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex,
		rpctypes.ErrUnhealthy, rpctypes.ErrCorrupt,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

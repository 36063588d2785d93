package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/raft/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"panoptes/internal/model"
)

// listPage is how many keys are read at a time.
const listPage = 1000

// Get reads one key; model.ErrNotFound when there is none. It reads what this
// server has, which works without a majority too; a server that is cut off may
// answer what was true before.
func (c *Control) Get(ctx context.Context, key string) (KV, error) {
	res, err := c.read(ctx, key)
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
	for {
		kvs, rev, err := c.list(ctx, prefix)
		if errors.Is(err, rpctypes.ErrCompacted) && ctx.Err() == nil {
			continue // the pages' revision was compacted away meanwhile
		}
		if err != nil {
			return nil, 0, c.mapErr(ctx, "list "+prefix, err)
		}
		return kvs, rev, nil
	}
}

func (c *Control) list(ctx context.Context, prefix string) (kvs []KV, rev int64, err error) {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		res, err := c.read(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(rev))
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

// read asks this server's own copy. A client asks for what the majority has,
// since each of its calls may meet another member, and takes what one member
// has when there is no majority.
func (c *Control) read(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, done := c.deadline(ctx)
	defer done()
	if c.cfg.Endpoints != nil {
		return c.readRemote(ctx, key, opts)
	}
	return c.readOnce(ctx, key, opts, true)
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

// deadline bounds a call: without one it would hang while there is no majority.
func (c *Control) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// mapErr turns etcd's errors into those of model.
func (c *Control) mapErr(ctx context.Context, what string, err error) error {
	switch {
	case errors.Is(err, model.ErrUnavailable):
		return fmt.Errorf("%s: %w", what, err)
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
		return fmt.Errorf("%s: %w: no answer in time; are most servers reachable?%s", what, model.ErrUnavailable, c.without())
	case ctx.Err() != nil || isUnavailable(err):
		return fmt.Errorf("%s: %w: %w", what, model.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isUnavailable says whether the cluster, not the call, is at fault: the same
// call may succeed a moment later.
func isUnavailable(err error) bool {
	for _, e := range []error{
		rpctypes.ErrNoLeader, rpctypes.ErrNotLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrStopped, rpctypes.ErrTimeout,
		rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex,
		rpctypes.ErrUnhealthy, rpctypes.ErrCorrupt, rpctypes.ErrGRPCNotSupportedForLearner, model.ErrUnavailable,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return strings.Contains(err.Error(), raft.ErrProposalDropped.Error()) || errors.Is(err, clientv3.ErrNoAvailableEndpoints)
}

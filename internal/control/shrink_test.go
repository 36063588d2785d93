package control

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// failing is a cluster that refuses to remove members.
type failing struct{ clientv3.Cluster }

func (failing) MemberRemove(context.Context, uint64) (*clientv3.MemberRemoveResponse, error) {
	return nil, rpctypes.ErrUnhealthy
}

// A removal that failed can be tried again, also of a member that never started.
func TestRemoveAgainAfterAFailure(t *testing.T) {
	c, err := New(Config{Dir: t.TempDir(), NodeID: "n1", ClusterID: "test", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20}, Deps{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	select {
	case <-c.Ready():
	case <-time.After(time.Minute):
		require.FailNow(t, "not ready")
	}
	_, err = c.AddLearner(ctx, "n2", "127.0.0.1:1")
	require.NoError(t, err)
	good := c.eng.Load()
	bad := newEngine()
	defer bad.cancel()
	bad.etcd, bad.client = good.etcd, &clientv3.Client{Cluster: failing{good.client.Cluster}, KV: good.client.KV}
	c.eng.Store(bad)
	short, end := context.WithTimeout(ctx, time.Second)
	defer end()
	err = c.Remove(short, "n2")
	require.Error(t, err)
	require.NotErrorIs(t, err, model.ErrNotFound)

	c.eng.Store(good)
	require.NoError(t, c.Remove(ctx, "n2"))
	ms, err := c.Members(ctx)
	require.NoError(t, err)
	require.Len(t, ms, 1)
}

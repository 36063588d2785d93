package control

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (c *Control) runClient(ctx context.Context) error { <-ctx.Done(); return nil }

func (c *Control) readRemote(ctx context.Context, eng *engine, key string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	return eng.client.Get(ctx, key, opts...)
}

func (c *Control) remoteStatus(st *Status) {}

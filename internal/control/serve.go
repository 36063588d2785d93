package control

import (
	"context"
	"net"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// serveClients answers servers that are no members on ln, until the engine
// closes. Who they are is decided in the handshake, before anything is decoded.
func (c *Control) serveClients(eng *engine, ln net.Listener) *grpc.Server {
	id := c.identity()
	id.verify = c.verify
	srv := v3rpc.Server(eng.etcd.Server, id.server(), nil,
		grpc.ConnectionTimeout(5*time.Second), // of the handshake
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 500 * time.Millisecond, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Second, Timeout: 2 * time.Second}),
	)
	eng.users.Go(func() {
		select {
		case <-eng.etcd.Server.ReadyNotify():
		case <-eng.ctx.Done():
			_ = ln.Close()
			return
		}
		stop := context.AfterFunc(eng.ctx, srv.Stop) // at once: clients go on elsewhere
		defer stop()
		if err := srv.Serve(ln); err != nil {
			c.log.Error("clients of the configuration store are not served", "err", err)
		}
	})
	return srv
}

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// servers are the nodes that may ask for what servers do among themselves.
var servers = []model.NodeRole{model.RoleServer}

// handle registers what other servers ask of this one.
func (a *App) handle() error {
	s := a.wireServer
	a.relay.Register(s)
	a.replica.Register(s)
	a.authority.Register(s)
	s.Handle(methodObserve, servers, func(_ context.Context, _ model.Peer, request []byte) ([]byte, error) {
		var list []model.Result
		if err := json.Unmarshal(request, &list); err != nil {
			return nil, fmt.Errorf("read results: %w", model.DecodeError(err))
		}
		for _, r := range list {
			a.verdict.Observe(r)
		}
		return nil, nil
	})
	s.Handle(methodSessions, servers, func(_ context.Context, _ model.Peer, request []byte) ([]byte, error) {
		return nil, a.auth.Merge(request)
	})
	wire.HandleJSON(s, methodProbe, servers, func(ctx context.Context, _ model.Peer, id string) (model.Result, error) {
		r, err := a.checks.runHere(ctx, id)
		r.Samples = nil
		return r, err
	})
	wire.HandleJSON(s, methodStates, servers, func(ctx context.Context, _ model.Peer, _ struct{}) (map[string]model.Event, error) {
		return a.history.LastStates(ctx)
	})
	a.handlePlatform(s)
	a.handleQueries(s)
	a.handleHosts(s)
	a.release.Register(s)
	s.HandleStream(methodQuery, servers, a.forward.serve)
	wire.HandleJSON(s, methodNode, servers, func(ctx context.Context, _ model.Peer, _ struct{}) (nodeInfo, error) {
		return a.ownInfo(ctx), nil
	})
	return nil
}

// waitSettled returns when the other servers' state has arrived, or nobody is
// there to send any.
func (a *App) waitSettled(ctx context.Context, limit time.Duration) {
	select {
	case <-a.cluster.Settled():
	case <-time.After(limit):
	case <-ctx.Done():
	}
}

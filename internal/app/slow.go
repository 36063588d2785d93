package app

import (
	"context"
	"slices"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/query"
	"panoptes/internal/wire"
)

// methodSlow asks for the slow queries of a server.
const methodSlow = "query.slow"

// handleQueries registers what other servers ask about queries.
func (a *App) handleQueries(s *wire.Server) {
	wire.HandleJSON(s, methodSlow, servers, func(context.Context, model.Peer, struct{}) ([]query.Slow, error) {
		return a.query.SlowQueries(), nil
	})
}

// otherSlow are the slow queries of the other servers.
func (a *App) otherSlow(ctx context.Context) []query.Slow {
	return slices.Concat(askOthers[[]query.Slow](ctx, a, methodSlow)...)
}

// seesAll reports whether who asks may see what others asked.
func seesAll(ctx context.Context) bool {
	id := api.Identity(ctx)
	return id != nil && id.Role == model.RoleAdmin && id.Bound.IsEmpty()
}

package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// tellEvery is the time between two looks whether others take this server for removed.
const tellEvery = 10 * time.Second

// untilTold ends the server when another one says that it was removed. A member
// of the configuration store learns that from the store; one that only asks
// others for the configuration, and was off meanwhile, is refused everywhere and
// would never see it in the records.
func (a *App) untilTold(ctx context.Context) error {
	t := time.NewTicker(tellEvery)
	defer t.Stop()
	for {
		if a.catalog.Writable() != nil && a.isToldRemoved(ctx) {
			return a.removedError()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// isToldRemoved asks the others. Each has proven to be a server of this cluster
// before its answer counts.
func (a *App) isToldRemoved(ctx context.Context) bool {
	addrs := a.wireAddrs.Load()
	if addrs == nil {
		return false
	}
	for id, addr := range *addrs {
		ctx, cancel := context.WithTimeout(ctx, askPatience)
		_, err := wire.Call[nodeInfo](ctx, a.wireClient.Conn(id, addr), methodNode, struct{}{})
		cancel()
		if errors.Is(err, model.ErrUnauthorized) && strings.Contains(err.Error(), "was removed from the cluster") {
			return true
		}
	}
	return false
}

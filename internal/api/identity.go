package api

import (
	"context"

	"panoptes/internal/model"
)

// Identity returns who sent the request whose context this is; nil for
// anonymous.
func Identity(ctx context.Context) *model.Identity {
	id, _ := ctx.Value(ctxIdentity).(*model.Identity)
	return id
}

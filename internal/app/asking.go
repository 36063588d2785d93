package app

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/api"
)

// asking is who asks a query that another server passed on.
type asking struct {
	user  string
	bound labels.Labels
}

// askingKey finds an asking in a context.
type askingKey struct{}

// userOf names who asks, for limits per user.
func userOf(ctx context.Context) string {
	if a, ok := ctx.Value(askingKey{}).(asking); ok {
		return a.user
	}
	if id := api.Identity(ctx); id != nil {
		return id.Actor()
	}
	return ""
}

// boundOf returns the labels that who asks or writes is bound to.
func boundOf(ctx context.Context) labels.Labels {
	if a, ok := ctx.Value(askingKey{}).(asking); ok {
		return a.bound
	}
	if id := api.Identity(ctx); id != nil {
		return id.Bound
	}
	return labels.EmptyLabels()
}

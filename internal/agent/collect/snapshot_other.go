//go:build !linux

package collect

import (
	"context"

	"panoptes/internal/agent/collect/metric"
)

// look has nothing to add on this system.
func look(metric.Collector) func(context.Context, *Snapshot) error { return nil }

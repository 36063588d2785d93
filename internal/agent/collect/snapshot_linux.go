package collect

import (
	"context"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/network"
	"panoptes/internal/agent/collect/process"
	"panoptes/internal/agent/collect/systemd"
)

// look returns what a collector adds to a snapshot, nil for nothing.
func look(c metric.Collector) func(context.Context, *Snapshot) error {
	switch c := c.(type) {
	case *process.Processes:
		return func(ctx context.Context, s *Snapshot) (err error) {
			s.Processes, err = c.Top(ctx, snapshotTop)
			return err
		}
	case *systemd.Units:
		return func(_ context.Context, s *Snapshot) error {
			s.FailedUnits = c.Failed()
			return nil
		}
	case *network.TCP:
		return func(ctx context.Context, s *Snapshot) error {
			conns, err := network.Look(ctx)
			s.Connections = &conns
			return err
		}
	}
	return nil
}

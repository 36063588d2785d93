package app

import (
	"log/slog"

	"panoptes/internal/sample"
)

// SampleTargets are targets and an inbox that several servers watch together.
type SampleTargets struct{ *sample.Targets }

// NewSampleTargets binds their ports; nothing is served before Run. Their
// certificate is kept in dir.
func NewSampleTargets(dir string, portOffset int, log *slog.Logger) (*SampleTargets, error) {
	t, err := sample.New(sample.BasePort+portOffset, dir, log)
	if err != nil {
		return nil, err
	}
	return &SampleTargets{t}, nil
}

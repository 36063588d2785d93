package collect

import (
	"time"

	"panoptes/internal/agent/collect/metric"
)

// Info describes a collector.
type Info struct {
	Name    string        `json:"name"`
	Default bool          `json:"default"`         // on unless switched off
	Every   time.Duration `json:"every,omitempty"` // slow ones run in the background and keep their last result
	EN      string        `json:"en"`
	ZH      string        `json:"zh"`
}

// entry is a collector that this system can have.
type entry struct {
	Info
	make func(Config, patterns) metric.Collector // nil: not with this configuration
}

func infos(known []entry) []Info {
	out := make([]Info, len(known))
	for i, e := range known {
		out[i] = e.Info
	}
	return out
}

// Names lists the collectors of this system, in the order in which they are reported.
func Names() []Info { return infos(registry()) }

package collect

import (
	"context"
	"time"

	"panoptes/internal/agent/collect/network"
	"panoptes/internal/agent/collect/process"
	"panoptes/internal/agent/collect/systemd"
)

// Snapshot is what is worth knowing of a host at the moment of an alert. It
// holds no arguments of processes and no environment: they may be secrets.
type Snapshot struct {
	At          time.Time            `json:"at"`
	Processes   []process.Process    `json:"processes,omitempty"`    // most processor time first, then most memory
	FailedUnits []systemd.Unit       `json:"failed_units,omitempty"` // as of the last listing
	Connections *network.Connections `json:"connections,omitempty"`
	Errors      []string             `json:"errors,omitempty"` // what could not be read
}

// snapshotTop is how many processes a snapshot has by processor time and by memory.
const snapshotTop = 15

// Snapshot looks at the host now. It may be called during a round; what does
// not answer until ctx or the configured timeout ends is left out.
func (s *Set) Snapshot(ctx context.Context) Snapshot {
	s.mu.Lock()
	timeout := s.cfg.Timeout.D()
	var looks []func(context.Context, *Snapshot) error
	for _, sl := range s.slots {
		if f := look(sl.current); f != nil {
			looks = append(looks, f)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	snap := Snapshot{At: time.Now()}
	type part struct {
		s   Snapshot
		err error
	}
	parts := make(chan part, len(looks))
	for _, f := range looks {
		go func() {
			var p part
			p.err = f(ctx, &p.s)
			parts <- p
		}()
	}
	for range looks {
		select {
		case p := <-parts:
			snap.take(p.s)
			if p.err != nil {
				snap.Errors = append(snap.Errors, p.err.Error())
			}
		case <-ctx.Done():
			snap.Errors = append(snap.Errors, "not everything answered in time")
			return snap
		}
	}
	return snap
}

func (s *Snapshot) take(p Snapshot) {
	if p.Processes != nil {
		s.Processes = p.Processes
	}
	if p.FailedUnits != nil {
		s.FailedUnits = p.FailedUnits
	}
	if p.Connections != nil {
		s.Connections = p.Connections
	}
}

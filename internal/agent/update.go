package agent

import (
	"sync/atomic"

	"panoptes/internal/wire/uplink"
)

// renewal is what an agent tells of updates of its own program.
type renewal struct {
	news         atomic.Pointer[[]byte] // a message for the server that is talked to
	acknowledged atomic.Bool
}

// TellUpdate says to the server that is talked to how an update goes. Who is
// talked to later is told by the hello.
func (a *Agent) TellUpdate(s uplink.UpdateState) {
	b, err := uplink.Encode(uplink.KindUpdate, s)
	if err != nil {
		return
	}
	a.renewal.news.Store(&b)
	a.wake()
}

// Acknowledged reports whether a server has taken anything that this process
// measured.
func (a *Agent) Acknowledged() bool { return a.renewal.acknowledged.Load() }

// Servers are those that are known, the one that this agent prefers first.
func (a *Agent) Servers() []uplink.Server { return a.servers.all() }

func (a *Agent) updateState() *uplink.UpdateState {
	if a.deps.Update == nil {
		return nil
	}
	return a.deps.Update()
}

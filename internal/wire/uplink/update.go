package uplink

import (
	"time"

	"panoptes/internal/model"
)

// KindUpdate is said by an agent: UpdateState, when it has changed.
const KindUpdate Kind = 'u'

// Calls of agents that update themselves, beside the stream.
const (
	MethodUpdateManifest = "agent.update.manifest" // nothing → UpdateManifest
	MethodUpdateRead     = "agent.update.read"     // UpdateRead → bytes, none at the end
	UpdateChunk          = 256 << 10               // bytes of one answer at most
)

// UpdateWanted says which version an agent should run. What it believes of that
// is decided by the key in its own file.
type UpdateWanted struct {
	Version string `json:"version"`
	Rollout string `json:"rollout,omitempty"` // an attempt that failed is not made again in the same one
}

// UpdateManifest is what the servers offer, and its signature.
type UpdateManifest struct {
	Manifest  []byte `json:"manifest"`
	Signature []byte `json:"signature"`
}

// UpdateRead asks for a piece of a program.
type UpdateRead struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	SHA256 string `json:"sha256"` // of the whole; another one is refused
	Offset int64  `json:"offset"`
}

// The states of an update.
const (
	UpdateIdle     = "idle"     // nothing to do
	UpdateFetching = "fetching" // the program is on its way
	UpdateWaiting  = "waiting"  // it could not be had now; it is tried again
	UpdateReady    = "ready"    // it is there, the agent begins anew with it
	UpdateTrying   = "trying"   // this process is the new one, and not confirmed yet
	UpdateFailed   = "failed"   // it was refused, or did not work: the old one goes on
)

// UpdateState is what an agent says of its update; an agent without one does not
// update itself.
type UpdateState struct {
	State   string    `json:"state"`
	Version string    `json:"version,omitempty"` // that it is about
	Rollout string    `json:"rollout,omitempty"`
	Error   string    `json:"error,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// Validate bounds what a stranger may say.
func (u *UpdateState) Validate() error {
	var inv model.Invalid
	if u == nil {
		return nil
	}
	if len(u.State) > 16 || len(u.Version) > 64 || len(u.Rollout) > 64 || len(u.Error) > 1024 {
		inv.Add("update", "must have a state of 16, version and rollout of 64, and an error of 1024 bytes at most")
	}
	return inv.Err()
}

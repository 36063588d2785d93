package ingest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
)

const maxState = 32 << 20 // unpacked

// state is what servers tell each other.
type state struct {
	Elections map[string]vote        `json:"elections,omitempty"`
	Metadata  map[string]Description `json:"metadata,omitempty"`
}

// State returns which replicas are elected and what is known of metrics.
func (g *Ingest) State() ([]byte, error) {
	return packState(&state{Elections: g.elections.votes(), Metadata: g.descriptions.all()})
}

// Merge takes the State, or news, of another server.
func (g *Ingest) Merge(b []byte) error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxState))
	if err != nil {
		return fmt.Errorf("unpack state of writers: %w", err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(b, nil)
	if err != nil {
		return fmt.Errorf("unpack state of writers: %w", err)
	}
	var s state
	if err := json.Unmarshal(plain, &s); err != nil {
		return fmt.Errorf("decode state of writers: %w", err)
	}
	now := time.Now()
	g.elections.merge(s.Elections, now)
	g.descriptions.merge(s.Metadata, now)
	return nil
}

func packState(s *state) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode state of writers: %w", err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compress state of writers: %w", err)
	}
	return z.EncodeAll(plain, nil), nil
}

// tell brings votes to the other servers; what does not arrive comes with the
// next State.
func (x *elections) tell(votes map[string]vote) {
	if x.broadcast == nil {
		return
	}
	if b, err := packState(&state{Elections: votes}); err == nil {
		x.broadcast(b)
	}
}

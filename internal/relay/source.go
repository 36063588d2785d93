package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// sources are the servers that send to this one.
type sources struct {
	mu   sync.Mutex // guards byID
	byID map[string]*source
}

// source is a server that sends. The stream that holds turn alone uses the
// fields below it.
type source struct {
	id   string
	turn chan struct{}

	logID   string
	decoder *wire.Decoder
	pos     position // of the next record the decoder understands; 0: it has no session
	skip    position // what is before is stored already
	clock   clock

	mu      sync.Mutex // guards the fields below
	replace context.CancelCauseFunc
	heard   time.Time
	lag     lag
	lagAt   time.Time
}

// Source is a server that sends to this one.
type Source struct {
	NodeID    string
	LastHeard time.Time
	Lag       time.Duration // age of the oldest entry that it still holds for us
	Bytes     int64         // that it still holds for us
}

// Sources lists the servers that have sent something since the start.
func (r *Relay) Sources() []Source {
	r.sources.mu.Lock()
	defer r.sources.mu.Unlock()
	list := make([]Source, 0, len(r.sources.byID))
	for id, s := range r.sources.byID {
		s.mu.Lock()
		o := Source{NodeID: id, LastHeard: s.heard, Bytes: s.lag.Bytes}
		if s.lag.Bytes > 0 {
			o.Lag = time.Duration(s.lag.Millis)*time.Millisecond + time.Since(s.lagAt)
		}
		s.mu.Unlock()
		list = append(list, o)
	}
	sortSources(list)
	return list
}

func (s *sources) get(id string) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.byID[id]
	if src == nil {
		src = &source{id: id, turn: make(chan struct{}, 1)}
		s.byID[id] = src
	}
	return src
}

func (s *source) hear() {
	s.mu.Lock()
	s.heard = time.Now()
	s.mu.Unlock()
}

// setLag takes what the source says of itself.
func (s *source) setLag(b []byte) {
	var l lag
	if json.Unmarshal(b, &l) != nil {
		return
	}
	s.mu.Lock()
	s.lag, s.lagAt = l, time.Now()
	s.mu.Unlock()
}

var errReplaced = fmt.Errorf("the source has connected anew: %w", model.ErrUnavailable)

// take waits until an older stream of the same source has ended. The function
// it returns ends the turn.
func (s *source) take(ctx context.Context, cancel context.CancelCauseFunc) (func(), error) {
	s.mu.Lock()
	if s.replace != nil {
		s.replace(errReplaced)
	}
	s.replace = cancel
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

package relay

import (
	"context"
	"time"
)

// Accepting returns why nothing is taken now.
func (r *Relay) Accepting() error { return r.journal.accepting() }

// CheckOld and Trim are what Run does beside each other.
func (r *Relay) CheckOld(ctx context.Context) { r.checkOld(ctx) }

// Trim drops what is too old or too much.
func (r *Relay) Trim(now time.Time) { r.trim(now) }

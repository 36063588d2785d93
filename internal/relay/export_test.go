package relay

// Accepting returns why nothing is taken now.
func (r *Relay) Accepting() error { return r.journal.accepting() }

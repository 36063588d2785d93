package selfwatch

import (
	"time"

	"panoptes/internal/model"
)

// Facts is what the parts of this server know. What is left out raises nothing.
type Facts struct {
	Servers  []Server                 // on record, this one included
	Members  []model.Member           // as gossip sees them
	Isolated bool                     // nobody answers though there should be somebody
	Skew     map[string]time.Duration // by how much the clocks of others are ahead, by ID
	Relay    []Destination
	Control  error // why configuration cannot be changed; nil: it can
	// Mismatches are windows in which the stores differ and that could not be repaired.
	Mismatches int
	// Incomplete says what this server lacks: it is still being copied, or was
	// damaged. Empty: nothing.
	Incomplete   string
	Certificates []Certificate
	// Unwell says why this server is not well (its process, ports or functions);
	// nil while it is. The dead man's switch is called only then. What selfwatch
	// itself reports in Parts must not be counted, nor what data lack.
	Unwell error
}

// Server is the record of a server.
type Server struct{ ID, Name string }

// Destination is another server that this one has to deliver samples to.
type Destination struct {
	Server  string        // its name
	Lag     time.Duration // age of the oldest that it has not got
	Dropped bool          // it has missed something for good
}

// Certificate is one that this server needs.
type Certificate struct {
	Name    string // "server" or "ca"
	Expires time.Time
}

// nameOf returns the name of a server by its ID.
func (f *Facts) nameOf(id string) string {
	for _, s := range f.Servers {
		if s.ID == id && s.Name != "" {
			return s.Name
		}
	}
	for _, m := range f.Members {
		if m.ID == id && m.Name != "" {
			return m.Name
		}
	}
	return id
}

// missing returns the servers that are on record, or were heard of, and do not
// answer. self is not among them.
func (f *Facts) missing(self string) []Server {
	alive := map[string]bool{self: true}
	recorded := map[string]bool{}
	var out []Server
	for _, s := range f.Servers {
		recorded[s.ID] = true
	}
	for _, m := range f.Members {
		// A suspect is not missing yet: most come back.
		if m.State == model.MemberAlive || m.State == model.MemberSuspect {
			alive[m.ID] = true
		}
	}
	for _, s := range f.Servers {
		if !alive[s.ID] {
			out = append(out, Server{s.ID, f.nameOf(s.ID)})
		}
	}
	if len(f.Servers) > 0 {
		return out // who is on no record any more was removed on purpose
	}
	for _, m := range f.Members {
		if !alive[m.ID] && !recorded[m.ID] && m.State == model.MemberDead {
			out = append(out, Server{m.ID, f.nameOf(m.ID)})
		}
	}
	return out
}

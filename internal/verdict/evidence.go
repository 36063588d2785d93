package verdict

import (
	"encoding/json"
	"time"
)

const (
	maxEvidence = 64 << 10  // of one result; a longer one is left out
	maxKept     = 256 << 10 // of one transition: it must stay an event that can be stored
)

// evidence returns what the failing regions found, by region.
func (m *machine) evidence(now time.Time) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	size := 0
	for i := range m.regions {
		r := &m.regions[i]
		s, v := m.stand(r, now)
		if s == failing && !r.void && len(v.evidence) > 0 && size+len(v.evidence) <= maxKept && json.Valid(v.evidence) {
			size += len(v.evidence)
			if out == nil {
				out = map[string]json.RawMessage{}
			}
			out[r.name] = v.evidence
		}
	}
	return out
}

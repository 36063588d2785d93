package verdict

import (
	"time"

	"panoptes/internal/model"
)

// setFamily resolves parents, which are named by id or name.
func (e *Engine) setFamily(checks []model.Check) {
	ids := make(map[string]string, 2*len(checks))
	timeouts := make(map[string]time.Duration, len(checks))
	for _, c := range checks {
		ids[c.Name] = c.ID
		timeouts[c.ID] = c.Timeout.D()
	}
	for _, c := range checks {
		ids[c.ID] = c.ID
	}
	parents, children, patience := map[string]string{}, map[string][]string{}, map[string]time.Duration{}
	for _, c := range checks {
		if p := ids[c.Parent]; c.Parent != "" && p != "" && p != c.ID {
			parents[c.ID] = p
			patience[c.ID] = timeouts[p] + roundSlack
			children[p] = append(children[p], c.ID)
		}
	}
	e.statusMu.Lock()
	e.parents, e.children, e.patience = parents, children, patience
	e.statusMu.Unlock()
}

func (e *Engine) setStatus(id string, s model.Status) {
	e.statusMu.Lock()
	e.status[id] = s
	e.statusMu.Unlock()
}

func (e *Engine) dropStatus(id string) {
	e.statusMu.Lock()
	delete(e.status, id)
	delete(e.open, id)
	e.statusMu.Unlock()
}

// ancestorDown reports whether a parent, or its parent, is down. Records that
// name each other in a circle end at maxAncestors.
func (e *Engine) ancestorDown(id string) bool {
	e.statusMu.RLock()
	defer e.statusMu.RUnlock()
	for range maxAncestors {
		p, ok := e.parents[id]
		if !ok {
			return false
		}
		if e.status[p] == model.StatusDown {
			return true
		}
		id = p
	}
	return false
}

// descendants lists all below a check, each once.
func (e *Engine) descendants(id string) (out []string) {
	e.statusMu.RLock()
	defer e.statusMu.RUnlock()
	seen := map[string]bool{id: true}
	queue := []string{id}
	for len(queue) > 0 {
		next := e.children[queue[0]]
		queue = queue[1:]
		for _, c := range next {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
				queue = append(queue, c)
			}
		}
	}
	return out
}

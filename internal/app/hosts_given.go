package app

import (
	"slices"
	"sync"
	"time"
)

// givenGrace is how long an agent may still bring results of a check that was
// taken from it: those that were on their way, and those of an outage.
const givenGrace = 5 * time.Minute

// given remembers which checks were taken from a worker a moment ago.
type given struct {
	mu    sync.Mutex // guards until
	until map[workCheck]time.Time
}

type workCheck struct{ worker, check string }

// take notes what workers lose by a new plan.
func (g *given) take(old, plan map[string][]string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil {
		g.until = map[workCheck]time.Time{}
	}
	for k, until := range g.until {
		if now.After(until) {
			delete(g.until, k)
		}
	}
	for worker, checks := range old {
		has := make(map[string]bool, len(plan[worker]))
		for _, id := range plan[worker] {
			has[id] = true
		}
		for _, id := range checks {
			if !has[id] {
				g.until[workCheck{worker, id}] = now.Add(givenGrace)
			}
		}
	}
}

func (g *given) lately(worker, check string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.until[workCheck{worker, check}]
	return ok && now.Before(until)
}

// gaveCheck reports whether a check is, or was a moment ago, one that an agent
// is to run. Whoever may run a check has no vote about it for that alone.
func (a *App) gaveCheck(nodeID, checkID string) bool {
	return slices.Contains((*a.plan.Load())[nodeID], checkID) || a.placement.given.lately(nodeID, checkID, time.Now())
}

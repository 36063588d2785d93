package app

import (
	"fmt"
	"maps"
	"slices"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
)

// onRecord are all workers that there are, alive or not: what may run checks is
// decided by them, so that silence does not shrink a quorum.
func (a *App) onRecord() []schedule.Worker {
	nodes, byID := a.nodesNow()
	var out []schedule.Worker
	if _, ok := byID[a.placement.self]; !ok {
		out = append(out, schedule.Worker{ID: a.placement.self, Region: a.cfg.Region, Roles: serverRoles})
	}
	for _, n := range nodes {
		if n.Role == model.RoleServer && !n.Revoked {
			out = append(out, schedule.Worker{ID: n.ID, Region: n.Region, Labels: n.Labels, Roles: serverRoles})
		}
	}
	for _, id := range a.fleet.Checkers() {
		if n := byID[id]; n.ID != "" && !n.Revoked {
			hello, _ := a.fleet.Hello(id)
			out = append(out, schedule.Worker{ID: id, Region: n.Region, Labels: n.Labels, Roles: agentRoles, Kinds: hello.Kinds})
		}
	}
	return out
}

// votable are the checks as the verdict needs them: who can never run a check
// has no vote about it.
func (a *App) votable(list []model.Check) []model.Check {
	narrowed := narrow(list, a.regionNames(), a.onRecord())
	a.placement.narrowed.Store(&narrowed)
	out := slices.Clone(list)
	for i := range out {
		c := &out[i]
		regions, ok := narrowed[narrowKey(c)]
		if !ok || !everywhere(c) {
			continue
		}
		named := slices.DeleteFunc(slices.Clone(c.Regions), func(r string) bool { return r == "*" })
		c.Regions = append(named, regions...)
	}
	return out
}

// watchVotable has the checks handed to the verdict again when agents came with
// which other regions can run them.
func (a *App) watchVotable() {
	now := narrow(*a.results.list.Load(), a.regionNames(), a.onRecord())
	if maps.EqualFunc(now, *a.placement.narrowed.Load(), slices.Equal) {
		return
	}
	select {
	case a.placement.renarrow <- struct{}{}:
	default:
	}
}

// everywhere reports whether a check is to run in all regions.
func everywhere(c *model.Check) bool {
	return len(c.Regions) == 0 || slices.Contains(c.Regions, "*")
}

// narrowKey is the same for checks that the same workers can run.
func narrowKey(c *model.Check) string { return fmt.Sprint(c.Type, c.Workers) }

// narrow says what "*" stands for where that is not all regions: those with a
// worker on record that can run the check. Without one anywhere it stays all:
// then the check is unknown. A region on record that has no worker yet counts,
// unless the check asks for labels, or is a heartbeat, of which servers alone
// hear.
func narrow(list []model.Check, all []string, workers []schedule.Worker) map[string][]string {
	out := map[string][]string{}
	seen := map[string]bool{}
	peopled := map[string]bool{}
	for _, w := range workers {
		peopled[w.Region] = true
	}
	for i := range list {
		c := &list[i]
		key := narrowKey(c)
		if !everywhere(c) || seen[key] {
			continue
		}
		seen[key] = true
		k := constraint(c)
		k.Regions = nil
		fits := map[string]bool{}
		for _, w := range workers {
			if !fits[w.Region] && k.Allows(w) {
				fits[w.Region] = true
			}
		}
		var keep []string
		for _, r := range all {
			if fits[r] || !peopled[r] && len(c.Workers) == 0 && k.Role != roleHeartbeat {
				keep = append(keep, r)
			}
		}
		if len(fits) > 0 && len(keep) < len(all) {
			out[key] = keep
		}
	}
	return out
}

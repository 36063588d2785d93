package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
	"panoptes/internal/wire"
)

// methodProbe runs a check now, for the owner of its verdict.
const methodProbe = "probe.now"

// placement is who does what, as it follows from the live servers. Every server
// computes it alike.
type placement struct {
	self    string
	servers atomic.Pointer[[]schedule.Worker] // that decide, warn and store
	workers atomic.Pointer[[]schedule.Worker] // that run checks
}

func newPlacement(self string) *placement {
	p := &placement{self: self}
	p.servers.Store(&[]schedule.Worker{})
	p.workers.Store(&[]schedule.Worker{})
	return p
}

// take computes the lists from what gossip says and reports whether they
// changed. A suspect loses its work at once: to watch twice is harmless. One
// that does not serve yet gets none.
func (p *placement) take(members []model.Member) bool {
	var servers, workers []schedule.Worker
	for _, m := range members {
		if m.Role != model.RoleServer || !m.Serving || m.State != model.MemberAlive && !m.Self {
			continue
		}
		w := schedule.Worker{ID: m.ID, Region: m.Region, Labels: m.Labels, Roles: []string{"probe"}}
		if m.Draining {
			w.Weight = -1
		}
		workers = append(workers, w)
		servers = append(servers, schedule.Worker{ID: m.ID, Region: m.Region, Weight: w.Weight})
	}
	for _, list := range [][]schedule.Worker{workers, servers} {
		if allDraining(list) { // somebody has to do it
			for i := range list {
				list[i].Weight = 0
			}
		}
	}
	changed := !sameWorkers(*p.servers.Load(), servers) || !sameWorkers(*p.workers.Load(), workers)
	p.servers.Store(&servers)
	p.workers.Store(&workers)
	return changed
}

func allDraining(ws []schedule.Worker) bool {
	return !slices.ContainsFunc(ws, func(w schedule.Worker) bool { return w.Weight >= 0 })
}

func sameWorkers(a, b []schedule.Worker) bool {
	return slices.EqualFunc(a, b, func(x, y schedule.Worker) bool {
		return x.ID == y.ID && x.Region == y.Region && x.Weight == y.Weight && maps.Equal(x.Labels, y.Labels)
	})
}

// others lists the live servers but this one.
func (p *placement) others() []string {
	var out []string
	for _, w := range *p.servers.Load() {
		if w.ID != p.self {
			out = append(out, w.ID)
		}
	}
	return out
}

// owns reports whether this server is responsible for key: the verdict of a
// check ("check/<id>"), a region, a rule group.
func (p *placement) owns(key string) bool {
	w, ok := schedule.Owner(key, *p.servers.Load())
	return ok && w.ID == p.self
}

// position is this server's place in the order in which servers notify: those
// that drain come last.
func (p *placement) position() int {
	servers := *p.servers.Load()
	i := slices.IndexFunc(servers, func(w schedule.Worker) bool { return w.ID == p.self })
	if i < 0 {
		return len(servers)
	}
	n := 0
	for _, w := range servers {
		if w.Weight > servers[i].Weight || w.Weight == servers[i].Weight && w.ID < p.self {
			n++
		}
	}
	return n
}

func constraint(c *model.Check) schedule.Constraint {
	return schedule.Constraint{Regions: c.Regions, Labels: c.Workers, Role: "probe"}
}

// mine selects the checks that this server's worker runs.
func (p *placement) mine(checks []model.Check) []model.Check {
	workers := *p.workers.Load()
	var region string
	for _, w := range workers {
		if w.ID == p.self {
			region = w.Region
		}
	}
	out := make([]model.Check, 0, len(checks))
	for i := range checks {
		chosen := schedule.Place(checks[i].ID, workers, constraint(&checks[i]), checks[i].Copies)[region]
		if slices.ContainsFunc(chosen, func(w schedule.Worker) bool { return w.ID == p.self }) {
			out = append(out, checks[i])
		}
	}
	return out
}

// regionWorkers counts the live workers of each region.
func (p *placement) regionWorkers() map[string]int {
	out := map[string]int{}
	for _, w := range *p.workers.Load() {
		out[w.Region]++
	}
	return out
}

// prober asks a worker of a region to run a check now.
type prober struct {
	placement *placement
	local     func(ctx context.Context, checkID string) (model.Result, error)
	dial      func(nodeID string) (wire.Conn, error)
}

// probeAttempts is how many workers of a region are asked before it counts as
// silent, and how long each but the last may take.
const (
	probeAttempts = 2
	probePatience = 15 * time.Second
)

func (p *prober) ProbeNow(ctx context.Context, checkID, region string) (model.Result, error) {
	var there []schedule.Worker
	for _, w := range *p.placement.workers.Load() {
		if w.Region == region {
			there = append(there, w)
		}
	}
	err := fmt.Errorf("probe in region %s: %w: no worker lives there", region, model.ErrUnavailable)
	for _, w := range schedule.Top(checkID, there, probeAttempts) {
		var r model.Result
		if r, err = p.ask(ctx, w.ID, checkID); err == nil || ctx.Err() != nil {
			return r, err
		}
	}
	return model.Result{}, err
}

func (p *prober) ask(ctx context.Context, nodeID, checkID string) (model.Result, error) {
	if nodeID == p.placement.self {
		return p.local(ctx, checkID)
	}
	conn, err := p.dial(nodeID)
	if err != nil {
		return model.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	return wire.Call[model.Result](ctx, conn, methodProbe, checkID)
}

// everywhere runs a check now in all regions that are configured for it and
// have a worker, and returns what they found.
func (p *prober) everywhere(ctx context.Context, c model.Check) ([]model.Result, error) {
	chosen := schedule.Place(c.ID, *p.placement.workers.Load(), constraint(&c), 1)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%w: no worker lives in the regions of check %s", model.ErrUnavailable, c.Name)
	}
	type answer struct {
		result model.Result
		err    error
	}
	answers := make(chan answer, len(chosen))
	for _, ws := range chosen {
		go func() {
			r, err := p.ask(ctx, ws[0].ID, c.ID)
			answers <- answer{r, err}
		}()
	}
	var out []model.Result
	var errs []error
	for range chosen {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		out = append(out, a.result)
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(out, func(a, b model.Result) int { return cmp.Compare(a.Region, b.Region) })
	return out, nil
}

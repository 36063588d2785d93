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
	workers atomic.Pointer[[]schedule.Worker] // servers that run checks and scrape
	agents  atomic.Pointer[[]schedule.Worker] // that run checks
	judges  atomic.Pointer[[]schedule.Worker] // servers that evaluate rules: those that lack nothing
	given   given

	narrowed atomic.Pointer[map[string][]string] // what narrow said last
	renarrow chan struct{}                       // it says something else now
}

func newPlacement(self string) *placement {
	p := &placement{self: self, renarrow: make(chan struct{}, 1)}
	p.narrowed.Store(&map[string][]string{})
	p.servers.Store(&[]schedule.Worker{})
	p.workers.Store(&[]schedule.Worker{})
	p.agents.Store(&[]schedule.Worker{})
	p.judges.Store(&[]schedule.Worker{})
	return p
}

// What workers may be chosen for. Heartbeats arrive at servers, and servers
// alone scrape by assignment.
const (
	roleProbe     = "probe"
	roleHeartbeat = "heartbeat"
	roleScrape    = "scrape"
)

var serverRoles = []string{roleProbe, roleHeartbeat, roleScrape}

// take computes the lists from what gossip says and reports whether they
// changed. A suspect loses its work at once: to watch twice is harmless. One
// that does not serve yet gets none, and one that lacks samples evaluates no
// rules while another has them all.
func (p *placement) take(members []model.Member) bool {
	var servers, workers, judges []schedule.Worker
	for _, m := range members {
		if m.Role != model.RoleServer || !m.Serving || m.State != model.MemberAlive && !m.Self {
			continue
		}
		w := schedule.Worker{ID: m.ID, Region: m.Region, Labels: m.Labels, Roles: serverRoles}
		if m.Draining {
			w.Weight = -1
		}
		workers = append(workers, w)
		servers = append(servers, schedule.Worker{ID: m.ID, Region: m.Region, Weight: w.Weight})
		if !m.Behind {
			judges = append(judges, schedule.Worker{ID: m.ID, Region: m.Region, Weight: w.Weight})
		}
	}
	if len(judges) == 0 {
		judges = slices.Clone(servers)
	}
	for _, list := range [][]schedule.Worker{workers, servers, judges} {
		if allDraining(list) { // somebody has to do it
			for i := range list {
				list[i].Weight = 0
			}
		}
	}
	changed := !sameWorkers(*p.servers.Load(), servers) || !sameWorkers(*p.workers.Load(), workers) || !sameWorkers(*p.judges.Load(), judges)
	p.judges.Store(&judges)
	p.servers.Store(&servers)
	p.workers.Store(&workers)
	return changed
}

// setAgents takes the agents that may run checks, and reports whether that is news.
func (p *placement) setAgents(list []schedule.Worker) bool {
	changed := !sameWorkers(*p.agents.Load(), list)
	p.agents.Store(&list)
	return changed
}

// agent finds a live agent among the workers. They are sorted by id.
func (p *placement) agent(id string) (schedule.Worker, bool) {
	list := *p.agents.Load()
	i, ok := slices.BinarySearchFunc(list, id, func(w schedule.Worker, id string) int { return cmp.Compare(w.ID, id) })
	if !ok {
		return schedule.Worker{}, false
	}
	return list[i], true
}

// all lists the workers that may be given checks, servers first.
func (p *placement) all() []schedule.Worker {
	return slices.Concat(*p.workers.Load(), *p.agents.Load())
}

func allDraining(ws []schedule.Worker) bool {
	return !slices.ContainsFunc(ws, func(w schedule.Worker) bool { return w.Weight >= 0 })
}

func sameWorkers(a, b []schedule.Worker) bool {
	return slices.EqualFunc(a, b, func(x, y schedule.Worker) bool {
		return x.ID == y.ID && x.Region == y.Region && x.Weight == y.Weight && maps.Equal(x.Labels, y.Labels) && slices.Equal(x.Kinds, y.Kinds)
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
// check ("check/<id>"), a region.
func (p *placement) owns(key string) bool {
	w, ok := schedule.Owner(key, *p.servers.Load())
	return ok && w.ID == p.self
}

// judgesRules reports whether this server evaluates the rule group of that key.
func (p *placement) judgesRules(key string) bool {
	w, ok := schedule.Owner(key, *p.judges.Load())
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
	role := roleProbe
	if c.Type == "push" {
		role = roleHeartbeat
	}
	return schedule.Constraint{Regions: c.Regions, Labels: c.Workers, Role: role, Kind: c.Type}
}

// plan says which checks each worker runs, by id.
func (p *placement) plan(checks []model.Check) map[string][]string {
	work := make([]schedule.Work, len(checks))
	for i := range checks {
		c := &checks[i]
		work[i] = schedule.Work{Key: c.ID, Constraint: constraint(c), Copies: c.Copies}
	}
	return schedule.Plan(work, p.all())
}

// regionWorkers counts the live workers of each region.
func (p *placement) regionWorkers() map[string]int {
	out := map[string]int{}
	for _, w := range p.all() {
		out[w.Region]++
	}
	return out
}

// prober asks a worker of a region to run a check now.
type prober struct {
	placement *placement
	local     func(ctx context.Context, checkID string) (model.Result, error)
	lookup    func(checkID string) (model.Check, bool)
	agent     func(ctx context.Context, nodeID string, c model.Check) (model.Result, error)
	dial      func(nodeID string) (wire.Conn, error)
}

// probeAttempts is how many workers of a region are asked before it counts as
// silent, and how long each but the last may take.
const (
	probeAttempts = 2
	probePatience = 15 * time.Second
	probeUntried  = 16 // workers are asked at most, when they could not or may not try
)

func (p *prober) ProbeNow(ctx context.Context, checkID, region string) (model.Result, error) {
	var there []schedule.Worker
	c, known := p.lookup(checkID)
	for _, w := range p.placement.all() {
		if w.Region == region && (!known || constraint(&c).Allows(w)) {
			there = append(there, w)
		}
	}
	err := fmt.Errorf("probe in region %s: %w: no worker lives there", region, model.ErrUnavailable)
	var untried *model.Result
	failed := 0
	for _, w := range schedule.Top(checkID, there, probeUntried) {
		r, askErr := p.ask(ctx, w.ID, checkID)
		switch {
		case askErr == nil && r.Untried: // the next one may be able to
			untried = &r
		case askErr == nil || ctx.Err() != nil:
			return r, askErr
		default:
			err = askErr
			failed++
		}
		if failed == probeAttempts {
			break
		}
	}
	if untried != nil {
		return *untried, nil
	}
	return model.Result{}, err
}

func (p *prober) ask(ctx context.Context, nodeID, checkID string) (model.Result, error) {
	if nodeID == p.placement.self {
		return p.local(ctx, checkID)
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	if _, ok := p.placement.agent(nodeID); ok {
		c, ok := p.lookup(checkID)
		if !ok {
			return model.Result{}, fmt.Errorf("%w: check %s has not arrived here yet", model.ErrUnavailable, checkID)
		}
		return p.agent(ctx, nodeID, c)
	}
	conn, err := p.dial(nodeID)
	if err != nil {
		return model.Result{}, err
	}
	return wire.Call[model.Result](ctx, conn, methodProbe, checkID)
}

// everywhere runs a check now in all regions that are configured for it and
// have a worker, and returns what they found.
func (p *prober) everywhere(ctx context.Context, c model.Check) ([]model.Result, error) {
	chosen := schedule.Place(c.ID, p.placement.all(), constraint(&c), 1)
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

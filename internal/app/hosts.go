package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"panoptes/internal/cluster"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/schedule"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

func (a *App) openHosts() (err error) {
	a.hostAlerts = newHostAlerts(a.alerting.Put, a.externalURL(), a.logger("hosts"))
	a.agentsWake = make(chan struct{}, 1)
	a.plan.Store(&map[string][]string{})
	a.fleet, err = hosts.New(hosts.Config{NodeID: a.pki.NodeID(), Dir: a.cfg.Path("hosts"), MaxAge: a.cfg.Storage.OutOfOrderWindow.D()}, hosts.Deps{
		Store: knownStore{a}, AppendEvents: a.appendEvents,
		Result: func(r model.Result) {
			a.verdict.Observe(r)
			a.fanout.send(r)
		},
		Node: a.agent, Nodes: a.agents, Groups: a.hostGroups,
		Checks: a.checksOfAgent, Check: a.agentCheck, Given: a.gaveCheck, Servers: a.serversForAgents,
		Scrapes: a.scrapesOfAgent, ActionKey: a.actionKey, Update: a.rollout.of,
		Dial: a.dialNode, Alive: a.aliveServers, Owns: a.placement.owns, Probe: a.tryElsewhere,
		Broadcast:       func(b []byte) { a.cluster.Broadcast(hosts.Part, b) },
		SessionsChanged: a.wakeAgents,
		HostChanged: func(h model.Host) {
			a.hostAlerts.changed(h)
			a.api.PublishHost(h)
			a.api.PublishNodes()
		},
		Logger: a.logger("hosts"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open what serves agents: %w", err)
	}
	a.hostAlerts.list = a.fleet.Hosts
	a.cluster.Part(hosts.Part, cluster.Part{State: a.fleet.State, Merge: a.fleet.Merge})
	a.usage = hosts.NewUsage(a.store, a.registry)
	return nil
}

// handleHosts registers agents, and what servers ask each other about them.
func (a *App) handleHosts(s *wire.Server) {
	a.fleet.Register(s)
	wire.HandleJSON(s, methodTry, servers, func(ctx context.Context, _ model.Peer, c uplink.Check) (model.Result, error) {
		r, err := a.tryHere(ctx, c.Unwrap())
		r.Samples = nil
		return r, err
	})
}

// nodeCache keeps the records of nodes decoded: lists of 10,000 agents are
// looked at each second.
type nodeCache struct {
	mu   sync.Mutex     // guards what follows
	of   []model.Record // the list that the others were made of
	all  []model.Node
	byID map[string]model.Node
}

// get returns the nodes of a list of the catalog, which gives the same list
// until a record changes. What it returns must not be changed.
func (c *nodeCache) get(list []model.Record, decode func(model.Record) (model.Node, bool)) ([]model.Node, map[string]model.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID != nil && len(list) == len(c.of) && (len(list) == 0 || &list[0] == &c.of[0]) {
		return c.all, c.byID
	}
	all, byID := make([]model.Node, 0, len(list)), make(map[string]model.Node, len(list))
	for _, rec := range list {
		n, ok := c.byID[rec.Name]
		if !ok || n.Revision != rec.Revision {
			if n, ok = decode(rec); !ok {
				continue
			}
		}
		all = append(all, n)
		byID[n.ID] = n
	}
	c.of, c.all, c.byID = list, all, byID
	return all, byID
}

func (a *App) nodesNow() ([]model.Node, map[string]model.Node) {
	return a.nodeCache.get(a.catalog.List(model.KindNode), func(rec model.Record) (model.Node, bool) {
		n, err := decodeNode(rec)
		if err != nil {
			a.log.Error("record unreadable, it is left out", "kind", model.KindNode, "name", rec.Name, "err", err)
			return n, false
		}
		return n, true
	})
}

// agent returns the record of an agent that is not removed.
func (a *App) agent(id string) (model.Node, bool) {
	_, byID := a.nodesNow()
	n, ok := byID[id]
	return n, ok && n.Role == model.RoleAgent && !n.Revoked
}

func (a *App) agents() []model.Node {
	all, _ := a.nodesNow()
	out := make([]model.Node, 0, len(all))
	for _, n := range all {
		if n.Role == model.RoleAgent && !n.Revoked {
			out = append(out, n)
		}
	}
	return out
}

func (a *App) hostGroups() []model.HostGroup {
	if g := a.groups.Load(); g != nil {
		return *g
	}
	return nil
}

// takeHosts takes the groups of hosts as they are now.
func (a *App) takeHosts() {
	list := records(a, model.KindHostGroup, func(g *model.HostGroup, r model.Record) { g.ID, g.Revision = r.ID, r.Revision })
	a.groups.Store(&list)
	a.fleet.Refresh()
}

// serversForAgents lists where agents find servers, alike on all of them.
func (a *App) serversForAgents() []uplink.Server {
	addrs := map[string]string{}
	all, _ := a.nodesNow()
	for _, n := range all {
		if n.Role == model.RoleServer && !n.Revoked && n.Addresses.Cluster != "" {
			addrs[n.ID] = n.Addresses.Cluster
		}
	}
	out := make([]uplink.Server, 0, len(addrs))
	for _, id := range slices.Sorted(maps.Keys(addrs)) {
		out = append(out, uplink.Server{ID: id, Addr: addrs[id]})
	}
	return out
}

// aliveServers are those that may hold the stream of an agent. A suspect
// counts: its agents leave it by themselves when it is gone.
func (a *App) aliveServers() []string {
	out := []string{a.pki.NodeID()}
	for _, m := range a.cluster.Members() {
		if !m.Self && m.Role == model.RoleServer && (m.State == model.MemberAlive || m.State == model.MemberSuspect) {
			out = append(out, m.ID)
		}
	}
	return out
}

// checksOf returns the checks with these ids that are on record.
func (a *App) checksOf(ids []string) []model.Check {
	checks := *a.results.checks.Load()
	out := make([]model.Check, 0, len(ids))
	for _, id := range ids {
		if c, ok := checks[id]; ok {
			out = append(out, c)
		}
	}
	return out
}

// checksOfAgent are those that an agent is to run; nil as long as nothing was
// decided about it.
func (a *App) checksOfAgent(id string) []model.Check {
	if _, ok := a.placement.agent(id); !ok || !a.watching.Load() {
		return nil
	}
	return a.checksOf((*a.plan.Load())[id])
}

// agentCheck returns a check that an agent may run.
func (a *App) agentCheck(nodeID, checkID string) (model.Check, bool) {
	c, ok := (*a.results.checks.Load())[checkID]
	if !ok {
		return c, false
	}
	w, ok := a.placement.agent(nodeID)
	if !ok { // it has just come, or brings what it found before
		n, known := a.agent(nodeID)
		if !known {
			return c, false
		}
		w = schedule.Worker{ID: n.ID, Region: n.Region, Labels: n.Labels, Roles: agentRoles}
	}
	return c, constraint(&c).Allows(w)
}

// wakeAgents has the agents that are there looked at again.
func (a *App) wakeAgents() {
	select {
	case a.agentsWake <- struct{}{}:
	default:
	}
}

// Agents come and go one by one, or all at once when a server ends: placing
// work again takes a share of the time at most.
const (
	agentsDelay = 50 * time.Millisecond
	agentsShare = 5
)

// followAgents gives checks to the agents that are there.
func (a *App) followAgents(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.agentsWake:
		}
		began := time.Now()
		if a.placement.setAgents(a.agentWorkers()) {
			a.verdict.OwnersChanged()
			if a.watching.Load() {
				a.place()
			}
			a.watchVotable()
		}
		a.api.PublishNodes()
		wait := max(agentsDelay, agentsShare*time.Since(began))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// agentRoles are what an agent may be chosen for.
var agentRoles = []string{roleProbe}

// agentWorkers are the agents that talk to a live server and run checks, which
// the servers have allowed them.
func (a *App) agentWorkers() (out []schedule.Worker) {
	for _, s := range a.fleet.Sessions() {
		n, ok := a.agent(s.NodeID)
		if !ok || !s.Checks {
			continue
		}
		// What the agent says of its labels does not count: it would be given checks,
		// and their secrets, that are meant for others. What it says that it cannot
		// do gives it less.
		w := schedule.Worker{ID: n.ID, Region: n.Region, Labels: n.Labels, Roles: agentRoles, Kinds: s.Hello.Kinds}
		if n.Draining {
			w.Weight = -1
		}
		out = append(out, w)
	}
	return out
}

// online reports whether an agent talks to a live server.
func (a *App) online(id string) bool {
	if a.fleet == nil {
		return false
	}
	h, err := a.fleet.Host(id)
	return err == nil && h.Server != ""
}

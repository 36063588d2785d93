package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/cluster"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
	"panoptes/internal/wire"
)

func (a *App) openCluster() (err error) {
	a.placement = newPlacement(a.pki.NodeID())
	bind := a.cfg.Addr(a.cfg.GossipListen)
	a.cluster, err = cluster.New(cluster.Config{
		NodeID: a.pki.NodeID(), ClusterID: a.pki.ClusterID(), Bind: bind, Advertise: a.advertised(bind), Key: a.pki.GossipKey(),
	}, cluster.Deps{Seeds: a.seeds, Logger: a.logger("cluster"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the membership: %w%s", err, listenHelp(err, "gossip_listen"))
	}
	started := time.Now().UTC()
	addrs := a.addresses()
	a.cluster.Update(func(m *model.Member) {
		m.Name, m.Region, m.Role, m.Version, m.Addresses, m.Started = a.cfg.Node, a.cfg.Region, a.role(), a.opts.Version, addrs, started
	})
	return nil
}

// nodes are the records of nodes, not to be changed.
func (a *App) nodes() []model.Node {
	all, _ := a.nodesNow()
	return all
}

// seeds are the gossip addresses of the other servers on record, and those
// known from joining.
func (a *App) seeds() []string {
	out := append([]string{}, a.welcome.Seeds...)
	if a.catalog == nil {
		return out
	}
	for _, n := range a.nodes() {
		// Its own address must not be taken for that of somebody who is silent.
		if n.Role != model.RoleAgent && !n.Revoked && n.Addresses.Gossip != "" && n.ID != a.pki.NodeID() {
			out = append(out, n.Addresses.Gossip)
		}
	}
	return out
}

// clusterAddresses are where servers answer agents.
func (a *App) clusterAddresses() (out []string) {
	for _, n := range a.nodes() {
		if n.Role == model.RoleServer && !n.Revoked {
			out = append(out, n.Addresses.Cluster)
		}
	}
	return out
}

// dialNode returns the way to a server, by the address that gossip knows or
// that is on record.
func (a *App) dialNode(id string) (wire.Conn, error) {
	if addrs := a.wireAddrs.Load(); addrs != nil {
		if addr := (*addrs)[id]; addr != "" {
			return a.wireClient.Conn(id, addr), nil
		}
	}
	return nil, fmt.Errorf("%w: the address of node %s is not known", model.ErrUnavailable, id)
}

// takeNodes keeps what follows from the records of nodes.
func (a *App) takeNodes() {
	addrs := map[string]string{}
	var servers, revoked []string
	var own model.Node
	for _, n := range a.nodes() {
		switch {
		case n.Revoked:
			revoked = append(revoked, n.ID)
			continue
		case n.ID == a.pki.NodeID():
			own = n
			continue
		case n.Role == model.RoleServer:
			servers = append(servers, n.ID)
		}
		if n.Role != model.RoleAgent {
			addrs[n.ID] = n.Addresses.Cluster
		}
	}
	a.cluster.Update(func(m *model.Member) {
		m.Draining, m.Labels, m.Serving = own.Draining || a.stopping.Load(), own.Labels, a.watching.Load()
	})
	for _, m := range a.cluster.Members() {
		if m.Addresses.Cluster != "" && !m.Self {
			addrs[m.ID] = m.Addresses.Cluster
		}
	}
	a.pki.SetRevoked(revoked)
	for _, id := range revoked {
		a.fleet.Revoke(id)
		a.wireServer.Disconnect(id)
	}
	a.revoked.Store(&revoked)
	a.wireAddrs.Store(&addrs)
	select {
	case <-a.catalog.Ready():
	default:
		return
	}
	if a.catalog.Writable() != nil {
		// A catalog that may be old gives up nobody's place in the log.
		for _, d := range a.relay.Destinations() {
			if !d.Outside && !slices.Contains(servers, d.NodeID) && !slices.Contains(revoked, d.NodeID) {
				servers = append(servers, d.NodeID)
			}
		}
	}
	a.relay.SetDestinations(servers)
	a.nowKnown()
}

// drainAtEnd gives this server's work away as soon as it begins to stop, so
// that nobody waits until gossip finds out.
func (a *App) drainAtEnd(ctx context.Context) error {
	<-ctx.Done()
	a.stopping.Store(true)
	a.cluster.Update(func(m *model.Member) { m.Draining = true })
	return nil
}

// behindAfter is how old a sample may be that another server still holds for us.
const behindAfter = 5 * time.Second

// behind says why this server lacks samples that others have; empty when it does not.
func (a *App) behind() string {
	if s := a.replica.Status(); !s.Complete {
		if s.Copying {
			return fmt.Sprintf("this server copies what it missed from %s", a.nodeName(s.Source))
		}
		return "this server has yet to copy what it missed"
	}
	alive := map[string]bool{}
	for _, id := range a.placement.others() {
		alive[id] = true
	}
	for _, s := range a.relay.Sources() {
		if alive[s.NodeID] && s.Lag > behindAfter {
			return fmt.Sprintf("this server catches up: %s holds %s for it", a.nodeName(s.NodeID), s.Lag.Round(time.Second))
		}
		delete(alive, s.NodeID)
	}
	if len(alive) > 0 && time.Since(a.began) < 15*time.Second {
		return "this server has just begun and does not know yet what it missed"
	}
	return ""
}

// whole lists live servers that lack nothing.
func (a *App) whole() (out []string) {
	for _, m := range a.cluster.Alive() {
		if !m.Self && m.Role == model.RoleServer && m.Serving && !m.Behind {
			out = append(out, m.ID)
		}
	}
	return out
}

// nodeName names a node for people; the id when it is not known.
func (a *App) nodeName(id string) string {
	if a.cluster == nil { // it is being opened
		return id
	}
	for _, m := range a.cluster.Members() {
		if m.ID == id {
			return m.Name
		}
	}
	if a.catalog != nil {
		if rec, err := a.catalog.Get(model.KindNode, id); err == nil {
			var n model.Node
			if json.Unmarshal(rec.Spec, &n) == nil && n.Name != "" {
				return n.Name
			}
		}
	}
	return id
}

// sink stores events of this and of other servers, and has what they say of
// checks and regions followed.
type sink struct {
	store  func(context.Context, ...model.Event) error
	follow func(model.Event)
}

func (s *sink) Append(ctx context.Context, events ...model.Event) error {
	if err := s.store(ctx, events...); err != nil {
		return err
	}
	for _, e := range events {
		s.follow(e)
	}
	return nil
}

// followEvent takes over what another server decided.
func (a *App) followEvent(e model.Event) {
	switch {
	case e.Kind == model.EventNode:
		a.regions.follow(e)
	case e.Kind == model.EventState:
		t, err := verdict.FromEvent(e)
		if err != nil {
			return // of another version
		}
		a.verdict.Adopt(t)
		a.bridge.follow(e.ID, t)
		a.publish(t.Check)
	}
}

// alertEvent keeps the beginning or end of an alert. Every server sees it; one
// of them says so.
func (a *App) alertEvent(e model.Event) {
	if a.placement.owns(e.Subject) {
		a.events.record(e)
	}
	if e.Code == "alert.firing" {
		a.fleet.AlertFired(e)
	}
}

// references are addresses that answer as long as this machine has a network:
// those of the file and the other servers.
func (a *App) references() []string {
	out := append([]string{}, a.cfg.Probe.References...)
	for _, m := range a.cluster.Members() {
		if !m.Self && m.State != model.MemberLeft && m.Addresses.Cluster != "" {
			out = append(out, m.Addresses.Cluster)
		}
	}
	return out
}

// missed has what another server dropped for us copied.
func (a *App) missed(source string, from, to time.Time) {
	a.log.Warn("another server dropped what it held for this one; it is copied", "source", a.nodeName(source), "from", from, "to", to)
	a.replica.Need(from, to, "the relay of "+a.nodeName(source)+" dropped it")
}

// fed reports whether every live server relays to this one.
func (a *App) fed() bool {
	heard := map[string]bool{}
	for _, s := range a.relay.Sources() {
		heard[s.NodeID] = true
	}
	for _, id := range a.placement.others() {
		if !heard[id] {
			return false
		}
	}
	return true
}

// recorded are the servers on record; none while the records are not known.
func (a *App) recorded() (out []string) {
	select {
	case <-a.catalog.Ready():
	default:
		return nil
	}
	for _, n := range a.nodes() {
		if n.Role == model.RoleServer && !n.Revoked {
			out = append(out, n.ID)
		}
	}
	return out
}

// alone reports whether no other server is on record.
func (a *App) alone() bool {
	list := a.recorded()
	return len(list) == 1 && list[0] == a.pki.NodeID()
}

// lastRun is when a check was run in this region last, by any worker.
func (a *App) lastRun(checkID string) time.Time {
	if a.verdict == nil {
		return time.Time{}
	}
	return a.verdict.LastRun(checkID, a.cfg.Region)
}

package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// methodNode asks a server how it is.
const methodNode = "node.info"

// nodeInfo is what only a node itself knows.
type nodeInfo struct {
	Health *api.NodeHealth   `json:"health"`
	Views  map[string]string `json:"views"`
	Relay  []api.RelayState  `json:"relay"`
	Copy   *api.CopyState    `json:"copy"`
	Checks int               `json:"checks"`
}

func (a *App) ownInfo(ctx context.Context) nodeInfo {
	h := a.health.report(ctx)
	info := nodeInfo{Health: &api.NodeHealth{Status: h.Status, Score: h.Score}, Views: map[string]string{}, Checks: int(a.placed.Load())}
	for _, m := range a.cluster.Members() {
		if !m.Self {
			info.Views[m.Name] = string(m.State)
		}
	}
	for _, d := range a.relay.Destinations() {
		if d.Outside {
			continue
		}
		s := api.RelayState{To: a.nodeName(d.NodeID), Bytes: d.Bytes, Connected: d.Connected, Dropped: d.Dropped, Error: d.LastErr}
		if !d.Oldest.IsZero() {
			s.Oldest = &d.Oldest
		}
		info.Relay = append(info.Relay, s)
	}
	st := a.replica.Status()
	info.Copy = &api.CopyState{Copying: st.Copying, Done: st.Done, Total: st.Total, Complete: st.Complete, Mismatches: int(st.Mismatches), Repaired: int(st.Repaired)}
	if st.Source != "" {
		info.Copy.Source = a.nodeName(st.Source)
	}
	if !st.LastCheck.IsZero() {
		info.Copy.LastCheck = &st.LastCheck
	}
	return info
}

// clusterForAPI answers what pages and commands ask about servers and agents.
type clusterForAPI struct{ *App }

// askPatience is how long a page waits for the word of each node.
const askPatience = 800 * time.Millisecond

func (c clusterForAPI) Nodes(ctx context.Context) []api.Node {
	byID := map[string]*api.Node{}
	for _, n := range c.nodes() {
		byID[n.ID] = &api.Node{
			ID: n.ID, Name: n.Name, Role: n.Role, Region: n.Region, Labels: n.Labels, Version: n.Version, Addresses: n.Addresses,
			State: "unknown", Joined: n.Joined, Revoked: n.Revoked, Draining: n.Draining, ChecksAllowed: n.MayCheck(), Control: "none",
		}
	}
	skew := c.cluster.Skew()
	for _, m := range c.cluster.Members() {
		n := byID[m.ID]
		if n == nil { // its record has not come here yet
			n = &api.Node{ID: m.ID, Name: m.Name, Role: m.Role, Region: m.Region, Draining: m.Draining, Control: "none"}
			byID[m.ID] = n
		}
		n.State, n.Since, n.Started, n.Self = string(m.State), m.Since.UTC(), m.Started, m.Self
		n.Load, n.Lag, n.Behind = m.Load, m.Lag.Seconds(), m.Behind
		n.Skew = skew[m.ID].Seconds()
		if m.Version != "" {
			n.Version = m.Version
		}
		if m.Addresses != (model.Addresses{}) {
			n.Addresses = m.Addresses
		}
	}
	c.hostStates(byID)
	c.controlRoles(byID)
	c.ask(ctx, byID)
	out := make([]api.Node, 0, len(byID))
	for _, n := range byID {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b api.Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (c clusterForAPI) controlRoles(byID map[string]*api.Node) {
	if c.control == nil || c.members.Load() == nil {
		return // not known yet
	}
	for _, n := range byID {
		if n.Role == model.RoleServer && !n.Revoked {
			n.Control = "client"
		}
	}
	leader := c.control.Leader()
	for _, m := range c.controlMembers() {
		n := byID[m.NodeID]
		switch {
		case n == nil:
		case m.NodeID == leader:
			n.Control = "leader"
		case m.Learner:
			n.Control = "learner"
		default:
			n.Control = "voter"
		}
	}
}

// ask fills in what the live nodes say of themselves.
func (c clusterForAPI) ask(ctx context.Context, byID map[string]*api.Node) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, n := range byID {
		if n.Role != model.RoleServer || n.Revoked || n.State != string(model.MemberAlive) && !n.Self {
			continue
		}
		wg.Go(func() {
			info, err := c.info(ctx, n)
			if err != nil {
				return // it does not answer: what it alone knows is left out
			}
			n.Health, n.Views, n.Relay, n.Copy, n.Checks = info.Health, info.Views, info.Relay, info.Copy, info.Checks
		})
	}
	wg.Wait()
}

func (c clusterForAPI) info(ctx context.Context, n *api.Node) (nodeInfo, error) {
	if n.Self {
		return c.ownInfo(ctx), nil
	}
	conn, err := c.dialNode(n.ID)
	if err != nil {
		return nodeInfo{}, err
	}
	return wire.Call[nodeInfo](ctx, conn, methodNode, struct{}{})
}

func (c clusterForAPI) Cluster(ctx context.Context) api.ClusterInfo {
	info := api.ClusterInfo{ID: c.pki.ClusterID(), Self: c.cfg.Node, Writable: true}
	if err := c.catalog.Writable(); err != nil {
		info.Writable, info.Reason = false, err.Error()
	}
	if c.control != nil {
		info.Leader = c.leaderName()
		for _, m := range c.controlMembers() {
			if !m.Learner {
				info.Voters++
			}
		}
	}
	if info.Voters > 0 { // 0: not known yet
		info.Quorum = info.Voters/2 + 1
	}
	total, witnesses := 0, 0
	alive := map[string]bool{}
	for _, m := range c.cluster.Members() {
		alive[m.ID] = m.State == model.MemberAlive || m.State == model.MemberSuspect || m.Self
	}
	for _, n := range c.nodes() {
		if n.Role == model.RoleWitness && !n.Revoked {
			witnesses++
		}
		if n.Role == model.RoleServer && !n.Revoked {
			total++
			info.Split = info.Split || !alive[n.ID] && c.missingLong(n.ID)
		}
	}
	switch {
	case total <= 1:
		info.Advice = append(info.Advice, api.Advice{Code: "cluster.single", Message: "One server: when it is down nobody watches. Add two more, so that any one may die."})
	case total == 2 && witnesses == 0:
		info.Advice = append(info.Advice, api.Advice{Code: "cluster.two", Message: "Two servers: both watch and warn, but when one is down the configuration may be read only. Add a third or a witness."})
	}
	return info
}

// missingLong reports whether a server that is not alive was not stopped on purpose.
func (c clusterForAPI) missingLong(id string) bool {
	for _, m := range c.cluster.Members() {
		if m.ID == id {
			return m.State != model.MemberLeft
		}
	}
	return true
}

func (c clusterForAPI) leaderName() string {
	if id := c.control.Leader(); id != "" {
		return c.nodeName(id)
	}
	return ""
}

// node finds the record of a node that is a member.
func (c clusterForAPI) node(id string) (model.Node, error) {
	rec, err := c.catalog.Get(model.KindNode, id)
	if err != nil {
		return model.Node{}, err
	}
	var n model.Node
	if err := json.Unmarshal(rec.Spec, &n); err != nil {
		return n, fmt.Errorf("read the record of node %s: %w", id, err)
	}
	n.Revision = rec.Revision
	return n, nil
}

func (c clusterForAPI) Check(ctx context.Context) (api.CheckReport, error) {
	r, err := c.replica.CheckNow(ctx)
	c.log.Info("stores compared", "report", fmt.Sprintf("%+v", r), "err", err)
	return api.CheckReport{Windows: r.Windows + r.Days, Mismatches: r.Mismatch, Repaired: r.Repaired + r.Events, Seconds: r.Seconds}, err
}

func (c clusterForAPI) NewToken(ctx context.Context, actor string, want model.Token) (model.Token, string, error) {
	plain, rec, err := c.pki.NewToken(want, time.Now())
	if err != nil {
		return rec, "", err
	}
	spec, err := json.Marshal(rec)
	if err != nil {
		return rec, "", err
	}
	if _, err := c.catalog.Create(ctx, actor, model.KindToken, spec); err != nil {
		return rec, "", err
	}
	return rec, plain, nil
}

// controlMembers are the members of the configuration store as they were a
// moment ago: asking them takes time when one is away.
func (a *App) controlMembers() []control.ControlMember {
	if list := a.members.Load(); list != nil {
		return *list
	}
	return nil
}

// ErrBeginAnew says that the process should be begun anew, with the same
// arguments: the configuration store met a full disk, which it does not survive,
// and there is space again, or the history met damage. Everything else has been
// stopped in order.
var ErrBeginAnew = errors.New("the process must begin anew")

// reviveAfter keeps what breaks at once from being begun over and over.
const reviveAfter = 30 * time.Second

// membersEvery is the time between two looks at the members of the store.
const membersEvery = 2 * time.Second

// lookAtControl keeps what controlMembers returns.
func (a *App) lookAtControl(ctx context.Context) error {
	if a.control == nil {
		<-ctx.Done()
		return nil
	}
	for {
		if a.control.Revivable() && time.Since(a.began) > reviveAfter {
			a.log.Error("the configuration store died and would run again; this process begins anew")
			close(a.anew)
			return ErrBeginAnew
		}
		wait := membersEvery
		lctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		list, err := a.control.Members(lctx)
		cancel()
		a.quorum.look(time.Now(), a.control.Writable())
		if err == nil {
			a.members.Store(&list)
		} else if a.members.Load() == nil {
			wait = membersEvery / 10 // it is starting
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.rejoin:
			a.rejoinControl(ctx)
		case <-time.After(wait):
		}
	}
}

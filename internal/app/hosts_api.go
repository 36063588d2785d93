package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// hostsForAPI answers what pages and commands ask about hosts.
type hostsForAPI struct{ *App }

// hostsView keeps the list of all hosts for a moment: many pages that ask at
// once share one.
type hostsView struct {
	turn sync.Mutex // held while the list is made

	rows []api.HostRow // guarded by turn
	at   time.Time     // guarded by turn; of rows
}

const hostsFresh = 500 * time.Millisecond

func (h hostsForAPI) Rows(ctx context.Context) []api.HostRow {
	v := &h.hostsView
	v.turn.Lock()
	defer v.turn.Unlock()
	if v.rows != nil && time.Since(v.at) < hostsFresh {
		return v.rows
	}
	v.rows, v.at = h.makeRows(ctx), time.Now()
	return v.rows
}

func (h hostsForAPI) makeRows(ctx context.Context) []api.HostRow {
	alerts := h.alertsByHost(ctx)
	usage := h.usage.All(ctx)
	groups := h.hostGroups()
	list := h.allHosts()
	rows := make([]api.HostRow, len(list))
	for i, x := range list {
		rows[i] = api.HostRow{Host: x, Groups: groupsOf(groups, x), Alerts: alerts[x.Name], Usage: usage[x.Name]}
	}
	return rows
}

// allHosts lists the hosts on record by name, those that never sent too.
func (a *App) allHosts() []model.Host {
	_, byID := a.nodesNow()
	known := a.fleet.Hosts()
	out := make([]model.Host, 0, len(byID))
	seen := make(map[string]bool, len(known))
	for _, x := range known {
		if n := byID[x.ID]; n.Role == model.RoleAgent && !n.Revoked {
			seen[x.ID] = true
			out = append(out, x)
		}
	}
	for _, n := range byID {
		if n.Role == model.RoleAgent && !n.Revoked && !seen[n.ID] {
			out = append(out, unheard(n))
		}
	}
	slices.SortFunc(out, func(x, y model.Host) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return out
}

// unheard is a host that joined and has not sent yet.
func unheard(n model.Node) model.Host {
	return model.Host{
		ID: n.ID, Name: n.Name, Region: n.Region, Labels: n.Labels, Version: n.Version, Status: model.HostUnknown, Since: n.Joined, ChecksAllowed: n.MayCheck(),
		Code: "host.new", Message: "its agent joined and has not sent yet",
	}
}

func groupsOf(groups []model.HostGroup, x model.Host) []string {
	out := []string{}
	n := model.Node{Name: x.Name, Region: x.Region, Labels: x.Labels}
	for i := range groups {
		if groups[i].Covers(n) {
			out = append(out, groups[i].Name)
		}
	}
	return out
}

func (a *App) alertsByHost(ctx context.Context) map[string]int {
	list, err := a.alerting.Alerts(ctx)
	if err != nil {
		a.log.Warn("hosts without their alerts", "err", err)
		return nil
	}
	out := map[string]int{}
	for _, al := range list {
		if name := cmp.Or(al.Labels["host"], al.Labels["instance"]); name != "" {
			out[name]++
		}
	}
	return out
}

func (h hostsForAPI) Find(ref string) (string, error) {
	all, byID := h.nodesNow()
	if n, ok := byID[ref]; ok && n.Role == model.RoleAgent && !n.Revoked {
		return n.ID, nil
	}
	for _, n := range all {
		if n.Name == ref && n.Role == model.RoleAgent && !n.Revoked {
			return n.ID, nil
		}
	}
	return "", fmt.Errorf("host %q: %w", ref, model.ErrNotFound)
}

func (h hostsForAPI) Labels(id string) map[string]string {
	_, byID := h.nodesNow()
	return byID[id].Labels
}

func (h hostsForAPI) Detail(ctx context.Context, id string) (api.HostDetail, error) {
	n, ok := h.agent(id)
	if !ok {
		return api.HostDetail{}, fmt.Errorf("host %s: %w", id, model.ErrNotFound)
	}
	x, err := h.fleet.Host(id)
	if err != nil {
		x = unheard(n)
	}
	s, err := h.fleet.Settings(id)
	if err != nil {
		return api.HostDetail{}, err
	}
	hello, _ := h.fleet.Hello(id)
	return api.HostDetail{
		Actions:  hello.Actions,
		Update:   h.hostUpdate(id),
		HostRow:  api.HostRow{Host: x, Groups: groupsOf(h.hostGroups(), x), Alerts: h.alertsByHost(ctx)[x.Name], Usage: h.usage.All(ctx)[x.Name]},
		Settings: api.HostSettings{Interval: s.Interval, Collectors: s.Collectors, Labels: s.Labels, Processes: s.Processes},
	}, nil
}

func (h hostsForAPI) KeepLive(ctx context.Context, id string) error { return h.fleet.KeepLive(ctx, id) }

func (h hostsForAPI) Snapshot(ctx context.Context, id string) (json.RawMessage, error) {
	return h.fleet.Snapshot(ctx, id)
}

func (h hostsForAPI) Restart(ctx context.Context, id, actor, kind, name string) (result, message string, err error) {
	return h.fleet.Restart(ctx, id, actor, kind, name)
}

// hostStates fills in how agents are: they are not members, but talk to one.
func (c clusterForAPI) hostStates(byID map[string]*api.Node) {
	plan := *c.plan.Load()
	for _, x := range c.fleet.Hosts() {
		n := byID[x.ID]
		if n == nil || n.Role != model.RoleAgent {
			continue
		}
		n.Since, n.Version, n.Checks, n.ChecksOffered = x.Since.UTC(), cmp.Or(x.Version, n.Version), len(plan[x.ID]), x.ChecksOffered
		switch {
		case x.Server != "":
			n.State = string(model.MemberAlive)
		case x.Status == model.HostStopped:
			n.State = string(model.MemberLeft)
		case x.Status == model.HostDown:
			n.State = string(model.MemberDead)
		default:
			n.State = string(model.MemberSuspect)
		}
	}
}

// probeAgent has an agent run a check now.
func (a *App) probeAgent(ctx context.Context, nodeID string, c model.Check) (model.Result, error) {
	r, err := a.fleet.Probe(ctx, nodeID, c)
	r.Samples = nil
	return r, err
}

var _ api.Hosts = hostsForAPI{}

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"panoptes/internal/model"
)

// HostRow is a host as lists show it.
type HostRow struct {
	model.Host
	Groups []string         `json:"groups"`
	Alerts int              `json:"alerts"` // active ones about it
	Usage  *model.HostUsage `json:"usage,omitempty"`
}

// HostDetail is a host as its page shows it.
type HostDetail struct {
	HostRow
	Settings HostSettings `json:"settings"`
	Actions  bool         `json:"actions"` // its agent may be asked to restart things
	Update   *HostUpdate  `json:"update,omitempty"`
}

// HostSettings are what the groups of a host tell its agent.
type HostSettings struct {
	Interval   model.Duration    `json:"interval"`
	Collectors map[string]bool   `json:"collectors"` // switched on or off; the others are as they are by default
	Labels     map[string]string `json:"labels"`
	Processes  []string          `json:"processes"`
}

// HostUpdate is what becomes of another version of an agent.
type HostUpdate struct {
	Wanted string `json:"wanted"`
	State  string `json:"state"`
}

type hostsAnswer struct {
	Items  []HostRow      `json:"items"`
	Next   string         `json:"next"`
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"` // by state, of all that match everything but status
}

type hostsBulk struct {
	IDs    []string          `json:"ids"`
	Set    map[string]string `json:"set_labels,omitempty"`
	Unset  []string          `json:"remove_labels,omitempty"`
	Remove bool              `json:"remove,omitempty"`
}

type hostsChanged struct {
	Changed int          `json:"changed"`
	Failed  []hostFailed `json:"failed"`
}

type hostFailed struct {
	ID      string `json:"id"`
	Message string `json:"message"`
}

const (
	maxBulk    = 10_000
	actionWait = 70 * time.Second // the agent's own patience is less
)

var (
	hostStatuses = []string{string(model.HostOnline), string(model.HostUnknown), string(model.HostDown), string(model.HostStopped)}
	hostSorts    = []string{"name", "status", "since", "cpu", "memory", "disk", "load", "network"}
)

// hostRoutes are those of hosts with agents.
func (a *API) hostRoutes() []route {
	return []route{
		{pattern: "GET /v1/hosts", need: viewer, handle: a.hostList, doc: "Lists the hosts with agents.", answer: hostsAnswer{},
			query: []param{pageParams[0], {"status", "online, unknown, down, stopped; several with commas"}, {"region", "hosts of a region; several with commas"},
				{"group", "hosts of a group"}, {"label", "a label as name=value; may be repeated"},
				{"sort", strings.Join(hostSorts, ", ") + "; with - in front for the reverse"}, pageParams[2], pageParams[3]}},
		{pattern: "POST /v1/hosts/bulk", need: admin, handle: a.hostBulk, doc: "Changes the labels of many hosts, or removes them.", body: hostsBulk{}, answer: hostsChanged{}},
		{pattern: "GET /v1/hosts/{id}", need: viewer, handle: a.host, doc: "One host, by id or name.", answer: HostDetail{}},
		{pattern: "PATCH /v1/hosts/{id}", need: admin, handle: a.patchHost, doc: "Changes the labels of a host, whether it is drained, and whether it may run checks.", body: nodePatch{}, answer: HostDetail{}},
		{pattern: "DELETE /v1/hosts/{id}", need: admin, handle: a.removeHost, doc: "Removes a host for good and revokes the certificate of its agent.", status: http.StatusNoContent,
			query: []param{{"force", "true also removes a host whose agent sends"}}},
		{pattern: "POST /v1/hosts/{id}/live", need: viewer, handle: a.hostLive, doc: "Has the agent of a host send each second for 15 s.", status: http.StatusNoContent},
		{pattern: "POST /v1/hosts/{id}/actions", need: editor, handle: a.hostAction, doc: "Restarts a unit or container of a host, if its agent's own file lets it be.", body: actionBody{}, answer: actionAnswer{}},
		{pattern: "GET /v1/hosts/{id}/snapshot", need: viewer, handle: a.hostSnapshot, doc: "What a host does now: top processes, units, connections.", answer: map[string]any{}},
	}
}

// PublishHost tells the stream that a host is in another state. It never blocks.
func (a *API) PublishHost(h model.Host) {
	a.hub.publish("host", h, unbound)
}

func (a *API) hosts() (Hosts, error) {
	if a.deps.Hosts == nil {
		return nil, fmt.Errorf("%w: this server knows no hosts", model.ErrNotFound)
	}
	return a.deps.Hosts, nil
}

// hostRank sorts by how much a state wants to be looked at.
var hostRank = map[model.HostStatus]float64{model.HostDown: 0, model.HostUnknown: 1, model.HostStopped: 2, model.HostOnline: 3}

// hostID finds the host that the path names, by id or name.
func (a *API) hostID(r *http.Request) (Hosts, string, error) {
	hosts, err := a.hosts()
	if err != nil {
		return nil, "", err
	}
	id, err := hosts.Find(r.PathValue("id"))
	return hosts, id, err
}

func (a *API) host(r *http.Request) (any, error) {
	hosts, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	return detail(r.Context(), hosts, id)
}

func detail(ctx context.Context, hosts Hosts, id string) (any, error) {
	d, err := hosts.Detail(ctx, id)
	if err != nil {
		return nil, err
	}
	d.HostRow = shown(d.HostRow)
	d.Settings.Labels = orEmpty(d.Settings.Labels)
	if d.Settings.Collectors == nil {
		d.Settings.Collectors = map[string]bool{}
	}
	if d.Settings.Processes == nil {
		d.Settings.Processes = []string{}
	}
	return d, nil
}

func (a *API) hostLive(r *http.Request) (any, error) {
	hosts, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	return nil, hosts.KeepLive(r.Context(), id)
}

func (a *API) hostSnapshot(r *http.Request) (any, error) {
	hosts, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWait)
	defer cancel()
	b, err := hosts.Snapshot(ctx, id)
	if err != nil {
		return nil, err
	}
	return json.RawMessage(b), nil
}

type actionBody struct {
	Action string `json:"action"` // restart
	Kind   string `json:"kind"`   // unit, container
	Name   string `json:"name"`
}

type actionAnswer struct {
	ID      string `json:"id"`
	Result  string `json:"result"` // done, refused, failed
	Message string `json:"message"`
}

func (a *API) hostAction(r *http.Request) (any, error) {
	hosts, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	var b actionBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	if b.Action != "restart" {
		return nil, invalid("action", "must be restart")
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionWait)
	defer cancel()
	result, message, err := hosts.Restart(ctx, id, who(r).Actor(), b.Kind, b.Name)
	if errors.Is(err, model.ErrLimit) {
		return nil, &limited{message, time.Minute}
	}
	if err != nil {
		return nil, err
	}
	return actionAnswer{model.NewID(time.Now()), result, message}, nil
}

func (a *API) patchHost(r *http.Request) (any, error) {
	hosts, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWait)
	defer cancel()
	err = patchNode(ctx, c, r, id)
	a.nodes.drop()
	if err != nil {
		return nil, err
	}
	return detail(ctx, hosts, id)
}

func (a *API) removeHost(r *http.Request) (any, error) {
	_, id, err := a.hostID(r)
	if err != nil {
		return nil, err
	}
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	force, err := boolParam(r, "force")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWait)
	defer cancel()
	defer a.nodes.drop()
	return nil, c.Remove(ctx, who(r).Actor(), id, force)
}

// hostBulk goes on after a host that cannot be changed, and names it.
func (a *API) hostBulk(r *http.Request) (any, error) {
	hosts, err := a.hosts()
	if err != nil {
		return nil, err
	}
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	var b hostsBulk
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	switch {
	case len(b.IDs) == 0 || len(b.IDs) > maxBulk:
		return nil, invalid("ids", "must have 1 to %d entries", maxBulk)
	case b.Remove && len(b.Set)+len(b.Unset) > 0:
		return nil, invalid("remove", "cannot be together with set_labels and remove_labels")
	case !b.Remove && len(b.Set)+len(b.Unset) == 0:
		return nil, invalid("set_labels", "must be given, or remove_labels, or remove")
	}
	if err := hostLabels(b.Set, "set_labels"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	defer a.nodes.drop()
	out := hostsChanged{Failed: []hostFailed{}}
	actor := who(r).Actor()
	for _, ref := range b.IDs {
		err := func() error {
			id, err := hosts.Find(ref)
			if err != nil {
				return err
			}
			if b.Remove {
				return c.Remove(ctx, actor, id, false)
			}
			l := maps.Clone(orEmpty(hosts.Labels(id)))
			for _, k := range b.Unset {
				delete(l, k)
			}
			maps.Copy(l, b.Set)
			if err := hostLabels(l, "labels"); err != nil {
				return err
			}
			return c.SetLabels(ctx, actor, id, l)
		}()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			out.Failed = append(out.Failed, hostFailed{ref, err.Error()})
			continue
		}
		out.Changed++
	}
	return out, nil
}

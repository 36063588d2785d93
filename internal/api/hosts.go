package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
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

// hostFilter is which hosts a list is to show, the status apart.
type hostFilter struct {
	q       query
	regions []string
	labels  map[string]string
	group   string
}

func (f *hostFilter) matches(h *HostRow) bool {
	if len(f.regions) > 0 && !slices.Contains(f.regions, h.Region) {
		return false
	}
	for k, v := range f.labels {
		if h.Labels[k] != v {
			return false
		}
	}
	if f.group != "" && !slices.Contains(h.Groups, f.group) {
		return false
	}
	if len(f.q) == 0 {
		return true
	}
	if !slices.ContainsFunc(f.q, func(t term) bool { return t.field != "" }) {
		return f.q.matches(hostWords(h))
	}
	return f.q.matches(hostText(h))
}

// hostWords is what hostText holds, for words that name no field.
func hostWords(h *HostRow) searchable {
	var b strings.Builder
	add := func(list ...string) {
		for _, s := range list {
			b.WriteString(s)
			b.WriteByte('\n')
		}
	}
	add(h.Name, h.ID, h.Region, string(h.Status), h.Message, h.Version, h.OS, h.Arch, h.Hostname)
	add(h.Addresses...)
	add(h.Groups...)
	for _, v := range h.Labels {
		add(v)
	}
	return searchable{anywhere: strings.ToLower(b.String())}
}

func hostText(h *HostRow) searchable {
	s := make(searchable, 12+len(h.Labels))
	for k, v := range h.Labels {
		s[strings.ToLower(k)] = v
	}
	maps.Copy(s, searchable{
		"name": h.Name, "id": h.ID, "region": h.Region, "status": string(h.Status), "message": h.Message, "version": h.Version, "os": h.OS, "arch": h.Arch,
		"hostname": h.Hostname, "address": strings.Join(h.Addresses, " "), "group": strings.Join(h.Groups, " "),
	})
	for k, v := range s {
		s[k] = strings.ToLower(v)
	}
	return s
}

// hostRank sorts by how much a state wants to be looked at.
var hostRank = map[model.HostStatus]float64{model.HostDown: 0, model.HostUnknown: 1, model.HostStopped: 2, model.HostOnline: 3}

// unknownLast keeps what is not known behind everything else, in either order.
func unknownLast(sort string, v *float64) float64 {
	switch {
	case v != nil:
		return *v
	case strings.HasPrefix(sort, "-"):
		return -1
	}
	return 1e300
}

func hostPlace(h *HostRow, sort string) place {
	p := place{Sort: sort, Text: h.Name, ID: h.ID}
	u := h.Usage
	if u == nil {
		u = &model.HostUsage{}
	}
	switch strings.TrimPrefix(sort, "-") {
	case "status":
		p.Num = hostRank[h.Status]
	case "since":
		p.Num = float64(h.Since.UnixMilli())
	case "cpu":
		p.Num = unknownLast(sort, u.CPU)
	case "memory":
		p.Num = unknownLast(sort, u.Memory)
	case "disk":
		p.Num = unknownLast(sort, u.Disk)
	case "load":
		p.Num = unknownLast(sort, u.Load1)
	case "network":
		var sum *float64
		if u.RxBytes != nil && u.TxBytes != nil {
			v := *u.RxBytes + *u.TxBytes
			sum = &v
		}
		p.Num = unknownLast(sort, sum)
	}
	return p
}

func (a *API) hostList(r *http.Request) (any, error) {
	hosts, err := a.hosts()
	if err != nil {
		return nil, err
	}
	w, err := parseWindow(r, hostSorts...)
	if err != nil {
		return nil, err
	}
	v := r.URL.Query()
	f := hostFilter{regions: commas(v.Get("region")), group: v.Get("group"), labels: map[string]string{}}
	if f.q, err = parseQuery(v.Get("q")); err != nil {
		return nil, err
	}
	statuses := commas(v.Get("status"))
	for _, s := range statuses {
		if !slices.Contains(hostStatuses, s) {
			return nil, invalid("status", "%q is no state; the states are %s", s, strings.Join(hostStatuses, ", "))
		}
	}
	for _, l := range v["label"] {
		i := strings.IndexAny(l, "=:")
		if i < 1 {
			return nil, invalid("label", "must be written name=value")
		}
		f.labels[l[:i]] = l[i+1:]
	}
	out := hostsAnswer{Items: []HostRow{}, Counts: map[string]int{}}
	for _, s := range hostStatuses {
		out.Counts[s] = 0
	}
	rows := hosts.Rows(r.Context())
	hits := make([]*HostRow, 0, len(rows))
	for i := range rows {
		h := &rows[i]
		if !f.matches(h) {
			continue
		}
		out.Counts[string(h.Status)]++
		if len(statuses) == 0 || slices.Contains(statuses, string(h.Status)) {
			hits = append(hits, h)
		}
	}
	part, next := cut(hits, w, func(h *HostRow) place { return hostPlace(h, w.sort) })
	out.Next, out.Total = next, len(hits)
	for _, h := range part {
		out.Items = append(out.Items, shown(*h))
	}
	return out, nil
}

// shown is a row without nulls where lists and maps are meant.
func shown(h HostRow) HostRow {
	h.Labels = orEmpty(h.Labels)
	if h.Groups == nil {
		h.Groups = []string{}
	}
	return h
}

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

package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"panoptes/internal/model"
)

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

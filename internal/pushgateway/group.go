package pushgateway

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"
)

// A group's state on several servers comes together whatever the order in which
// news arrive: every change has a version, the later one wins, a replacement
// takes every metric that is older than itself with it, and a deletion
// everything up to itself.
type group struct {
	key      string
	labels   labels.Labels
	cleared  int64 // version; metrics that are older are gone
	deleted  int64 // version; everything up to it is gone
	pushed   moment
	failed   moment
	families map[string]*family
	bound    bound

	space  *space
	times  []*series // of pushed and failed
	digest uint64    // of all versions
}

// mostKept is how many times the limits are kept at most: each server of a
// divided cluster may have taken as much as the limits say, and deletions are
// remembered.
const mostKept = 4

// moment is when something happened last: Version orders, At is the time shown,
// in milliseconds since 1970; zero = never.
type moment struct {
	Version int64 `json:"v,omitempty"`
	At      int64 `json:"t,omitempty"`
}

// bound are the labels that who changed a group last is bound to.
type bound struct {
	Version int64             `json:"v,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

func (b bound) name() string { return labels.FromMap(b.Labels).String() }

// unbound is the name of the space of those who are bound to nothing.
const unbound = "{}"

// family is what was pushed under one name. All but its series' references is
// never changed.
type family struct {
	name    string
	kind    dto.MetricType
	help    string
	version int64
	data    []byte // as protobuf, with its own labels only
	series  []*series
}

func (g *group) exists() bool { return g.pushed.Version > 0 || g.failed.Version > 0 }

func (g *group) seriesCount() int {
	n := 0
	for _, f := range g.families {
		n += len(f.series)
	}
	return n
}

// record is a change of a group, or all of it, in the file and between servers.
type record struct {
	Labels   map[string]string `json:"labels"`
	Cleared  int64             `json:"cleared,omitempty"`
	Deleted  int64             `json:"deleted,omitempty"`
	Pushed   moment            `json:"pushed"`
	Failed   moment            `json:"failed"`
	Families []familyRecord    `json:"families,omitempty"`
	Bound    bound             `json:"bound,omitzero"`
}

type familyRecord struct {
	Version int64  `json:"v"`
	Data    []byte `json:"data"` // a MetricFamily as protobuf

	family *family // decoded already
}

func (r *record) latest() int64 {
	v := max(r.Cleared, r.Deleted, r.Pushed.Version, r.Failed.Version)
	for _, f := range r.Families {
		v = max(v, f.Version)
	}
	return v
}

// record returns all of g.
func (g *group) record() *record {
	r := &record{Labels: g.labels.Map(), Cleared: g.cleared, Deleted: g.deleted, Pushed: g.pushed, Failed: g.failed, Bound: g.bound}
	for _, name := range slices.Sorted(maps.Keys(g.families)) {
		f := g.families[name]
		r.Families = append(r.Families, familyRecord{Version: f.version, Data: f.data})
	}
	return r
}

// records returns all groups. p.mu is held.
func (p *Pushgateway) records() []*record {
	out := make([]*record, 0, len(p.groups))
	for _, g := range p.groups {
		out = append(out, g.record())
	}
	return out
}

// take unites a record with the group it is about. It returns whether anything
// is new and the series that are gone. p.mu is held.
func (p *Pushgateway) take(r *record) (news bool, gone []*series) {
	ls := labels.FromMap(r.Labels)
	key := ls.String()
	g := p.groups[key]
	if g == nil {
		if len(p.groups) >= mostKept*p.cfg.MaxGroups {
			return false, nil
		}
		g = &group{key: key, labels: ls, families: map[string]*family{}, bound: r.Bound}
		p.groups[key] = g
		p.index.enter(g, g.bound.name())
	} else if r.Bound.Version > g.bound.Version {
		p.index.leave(g)
		g.bound = r.Bound
		p.index.enter(g, g.bound.name())
	}
	before, existed := g.digest, g.exists()
	g.cleared, g.deleted = max(g.cleared, r.Cleared), max(g.deleted, r.Deleted)
	p.version = max(p.version, r.latest())

	old := map[uint64]*series{}
	remove := func(f *family) {
		for _, s := range f.series {
			old[s.labels.Hash()] = s
		}
		p.index.remove(g, f)
		p.bytes -= int64(len(f.data))
		delete(g.families, f.name)
	}
	for _, fr := range r.Families {
		f := fr.family
		if f == nil {
			var err error
			if f, err = p.decodeFamily(ls, fr.Data); err != nil {
				p.log.Warn("a metric of another server is not understood", "group", key, "err", err)
				continue
			}
		}
		f.version = fr.Version
		have := g.families[f.name]
		if p.bytes > mostKept*p.cfg.MaxBytes {
			continue
		}
		if have != nil && (have.version > f.version || have.version == f.version && bytes.Compare(have.data, f.data) >= 0) {
			continue
		}
		if have != nil {
			remove(have)
		}
		g.families[f.name] = f
		p.index.add(g, f)
		p.bytes += int64(len(f.data))
	}
	for _, f := range g.families {
		if f.version < g.cleared || f.version <= g.deleted {
			remove(f)
		}
	}
	g.pushed, g.failed = g.later(g.pushed, r.Pushed), g.later(g.failed, r.Failed)
	switch {
	case g.exists() && !existed:
		p.living++
		g.space.living++
	case !g.exists() && existed:
		p.living--
		g.space.living--
		for _, s := range g.times {
			old[s.labels.Hash()] = s
		}
	}
	g.note()
	for h, s := range old {
		if p.index.series[h] == "" {
			gone = append(gone, s)
		}
	}
	return g.digest != before, gone
}

// later returns the later one unless it is deleted.
func (g *group) later(a, b moment) moment {
	if b.Version > a.Version || b.Version == a.Version && b.At > a.At {
		a = b
	}
	if a.Version <= g.deleted {
		return moment{}
	}
	return a
}

// note brings what is derived up to date.
func (g *group) note() {
	g.times = nil
	if g.exists() {
		g.times = []*series{timeSeries(g.labels, pushTime, g.pushed), timeSeries(g.labels, failureTime, g.failed)}
	}
	h := fnv.New64a()
	var b [8]byte
	put := func(vs ...int64) {
		for _, v := range vs {
			binary.BigEndian.PutUint64(b[:], uint64(v))
			_, _ = h.Write(b[:])
		}
	}
	// what a replacement has cleared, and when, matters to older news that come later
	put(g.cleared, g.deleted, g.pushed.Version, g.failed.Version)
	for _, name := range slices.Sorted(maps.Keys(g.families)) {
		_, _ = h.Write([]byte(name))
		put(g.families[name].version)
	}
	g.digest = h.Sum64()
}

// decodeFamily reads a family that was accepted once.
func (p *Pushgateway) decodeFamily(group labels.Labels, data []byte) (*family, error) {
	if err := p.checkItems(data); err != nil {
		return nil, err
	}
	var mf dto.MetricFamily
	if err := proto.Unmarshal(data, &mf); err != nil {
		return nil, err
	}
	return p.makeFamily(group, &mf)
}

// middleDeletion is the version of the deletion that stands in the middle.
func (p *Pushgateway) middleDeletion() int64 {
	var all []int64
	for _, g := range p.groups {
		if !g.exists() {
			all = append(all, g.deleted)
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}

func keyOf(r *record) string { return labels.FromMap(r.Labels).String() }

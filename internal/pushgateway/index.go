package pushgateway

import dto "github.com/prometheus/client_model/go"

// index knows the types and series of all groups.
type index struct {
	spaces map[string]*space // by the labels that who pushes is bound to, as text
	series map[uint64]string // hash of a series → key of its group
}

// space is what those push who are bound to the same labels. What others push
// does not contradict it, and has limits of its own.
type space struct {
	name   string
	kinds  map[string]map[dto.MetricType]map[string]struct{} // name → type → keys of the groups
	groups int                                               // those that are deleted and remembered, too
	living int
	bytes  int64
}

func newIndex() index { return index{spaces: map[string]*space{}, series: map[uint64]string{}} }

// space returns the space of that name; one that nobody has entered is empty.
func (x index) space(name string) *space {
	if sp := x.spaces[name]; sp != nil {
		return sp
	}
	return &space{name: name, kinds: map[string]map[dto.MetricType]map[string]struct{}{}}
}

// enter brings a group, with what it has, into a space.
func (x index) enter(g *group, name string) {
	g.space = x.space(name)
	x.spaces[name] = g.space
	g.space.groups++
	if g.exists() {
		g.space.living++
	}
	for _, f := range g.families {
		x.add(g, f)
	}
}

// leave takes a group out of its space.
func (x index) leave(g *group) {
	for _, f := range g.families {
		x.remove(g, f)
	}
	if g.exists() {
		g.space.living--
	}
	if g.space.groups--; g.space.groups == 0 {
		delete(x.spaces, g.space.name)
	}
}

func (x index) add(g *group, f *family) {
	byKind := g.space.kinds[f.name]
	if byKind == nil {
		byKind = map[dto.MetricType]map[string]struct{}{}
		g.space.kinds[f.name] = byKind
	}
	if byKind[f.kind] == nil {
		byKind[f.kind] = map[string]struct{}{}
	}
	byKind[f.kind][g.key] = struct{}{}
	g.space.bytes += int64(len(f.data))
	for _, s := range f.series {
		x.series[s.labels.Hash()] = g.key
	}
}

func (x index) remove(g *group, f *family) {
	kinds := g.space.kinds
	delete(kinds[f.name][f.kind], g.key)
	if len(kinds[f.name][f.kind]) == 0 {
		delete(kinds[f.name], f.kind)
	}
	if len(kinds[f.name]) == 0 {
		delete(kinds, f.name)
	}
	g.space.bytes -= int64(len(f.data))
	for _, s := range f.series {
		if h := s.labels.Hash(); x.series[h] == g.key {
			delete(x.series, h)
		}
	}
}

// elsewhere returns a group other than key, and those of own that stay, in which
// name has a type that fits.
func (sp *space) elsewhere(name, key string, stays map[string]*family, fits func(dto.MetricType) bool) (where string, kind dto.MetricType, found bool) {
	if f := stays[name]; f != nil && fits(f.kind) {
		return key, f.kind, true
	}
	for kind, keys := range sp.kinds[name] {
		if !fits(kind) {
			continue
		}
		for k := range keys {
			if k != key {
				return k, kind, true
			}
		}
	}
	return "", 0, false
}

// boundShare is the part of a limit that those who are bound to the same labels
// may use up: one of them does not fill the place of all.
const boundShare = 4

// share is the part of a limit that the space has.
func (sp *space) share(limit int64) int64 {
	if sp.name == unbound {
		return limit
	}
	return max(limit/boundShare, 1)
}

// full says whether the space has no room for a group more; g is what is left of
// an earlier one with the same key.
func (sp *space) full(g *group, limit int) bool {
	share := int(sp.share(int64(limit)))
	return sp.living >= share || g == nil && sp.groups >= mostKept*share
}

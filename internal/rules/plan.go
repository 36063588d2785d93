package rules

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	engine "github.com/prometheus/prometheus/rules"

	"panoptes/internal/model"
)

// plan is what this server evaluates, by the engine's identifiers.
type plan struct {
	sources []string // sorted
	groups  map[string][]rulefmt.RuleGroup
	known   map[string]bool // engine.GroupKey of every group there is, whoever evaluates it
	origins map[string]set  // what an identifier stands for
	left    map[string]int  // by source: groups that are too many
	total   int             // groups there are
	owned   int
}

func (p plan) equal(o plan) bool {
	return slices.Equal(p.sources, o.sources) && maps.Equal(p.known, o.known) && maps.Equal(p.left, o.left) && reflect.DeepEqual(p.groups, o.groups)
}

// identifier names a source on this server. Groups are evaluated at instants
// that follow from it: two servers that evaluate the same group, in a split,
// must not write two values for one instant.
func (r *Rules) identifier(s set) string {
	if s.bound.IsEmpty() {
		return s.source + "@" + r.cfg.Node
	}
	// A group that is bound otherwise is another group.
	return s.source + s.bound.String() + "@" + r.cfg.Node
}

// origin is the set that a group comes from; false when it has left.
func (r *Rules) origin(g *engine.Group) (set, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.plan.origins[g.File()]
	return s, ok
}

// Key is what Owns is asked about a group.
func Key(record, group string) string { return "rules/" + record + "/" + group }

// errTooMany is the fault of a source whose last n groups are too many.
func errTooMany(n int) error {
	return fmt.Errorf("%w: its last %d groups are not evaluated, since older records have the rest of the %d that are; put rules together, or disable records that nobody needs", model.ErrLimit, n, MaxGroups)
}

// oldest returns the names of sets, the oldest first and files by their names.
// All servers leave out the same groups of records, and whoever comes last
// takes nobody's place.
func oldest(sets map[string]set) []string {
	return slices.SortedFunc(maps.Keys(sets), func(a, b string) int {
		return cmp.Or(sets[a].since.Compare(sets[b].since), cmp.Compare(a, b))
	})
}

// makePlan chooses the groups that this server evaluates.
func (r *Rules) makePlan() plan {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := plan{groups: map[string][]rulefmt.RuleGroup{}, known: map[string]bool{}, origins: map[string]set{}, left: map[string]int{}}
	for _, sets := range []map[string]set{r.records, r.files} {
		total := 0
		for _, name := range oldest(sets) {
			s := sets[name]
			id := r.identifier(s)
			p.origins[id] = s
			var mine []rulefmt.RuleGroup
			for _, g := range s.groups {
				p.total++
				if total++; total > MaxGroups {
					p.left[s.source]++
					continue
				}
				p.known[engine.GroupKey(id, string(g.Name))] = true
				if !s.local && !r.deps.Owns(Key(s.source, string(g.Name))) {
					continue
				}
				e, err := g.engine(s.extra())
				if err != nil { // it was validated
					r.log.Error("rule group left out", "source", s.source, "group", string(g.Name), "err", err)
					continue
				}
				mine = append(mine, e)
			}
			if len(mine) > 0 {
				p.sources = append(p.sources, id)
				p.groups[id] = mine
				p.owned += len(mine)
			}
		}
	}
	slices.Sort(p.sources)
	return p
}

// loader hands the manager what was planned. The manager asks within Update.
type loader struct{ plan plan }

// Load implements the engine's GroupLoader.
func (l *loader) Load(identifier string, _ bool, _ pm.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	groups, ok := l.plan.groups[identifier]
	if !ok {
		return nil, []error{errors.New("there is no such set of rules: " + identifier)}
	}
	return &rulefmt.RuleGroups{Groups: groups}, nil
}

// Parse implements the engine's GroupLoader.
func (l *loader) Parse(query string) (parser.Expr, error) { return parser.ParseExpr(query) }

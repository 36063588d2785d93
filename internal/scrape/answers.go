package scrape

import (
	"context"
	"reflect"
	"slices"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// The discovery manager hands over an empty list for every job as soon as any
// mechanism has answered, and a list of some for a job whose other mechanisms
// have yet to answer. So each mechanism marks its answer: among its groups comes
// one more that only says so, and is taken out again before anybody looks. (The
// engine's own count of discovered targets has one more per mechanism.)

const answeredSource = "\x00answered"

// Some mechanisms tell what they find piece by piece, and some of those say
// nothing at all when there is nothing.
const (
	settlePieces = 2 * time.Second  // without another piece: that was all
	mostPieces   = 20 * time.Second // so long pieces are waited for
	silentPieces = 10 * time.Minute // after so long there is nothing to say
)

func inPieces(mechanism string) bool {
	return slices.Contains([]string{"consul", "file", "kubernetes", "nerve", "serverset"}, mechanism)
}

// mayBeSilent is for those that find nothing without a word.
func mayBeSilent(mechanism string) bool { return inPieces(mechanism) && mechanism != "consul" }

// asked is a mechanism that marks its answers. It holds nothing else, since the
// manager compares mechanisms: what did not change goes on.
type asked struct{ discovery.Config }

func (a asked) NewDiscoverer(o discovery.DiscovererOptions) (discovery.Discoverer, error) {
	d, err := a.Config.NewDiscoverer(o)
	if err != nil {
		return nil, err
	}
	return &answering{d, a.Name()}, nil
}

// askedOf returns the mechanisms of a job so that they mark their answers, and
// how many different ones these are.
func askedOf(list discovery.Configs) (out discovery.Configs, different int) {
	for i, c := range list {
		out = append(out, asked{c})
		if !slices.ContainsFunc(list[:i], func(o discovery.Config) bool { return reflect.DeepEqual(o, c) }) {
			different++
		}
	}
	return out, different
}

type answering struct {
	discovery.Discoverer
	mechanism string
}

// Run passes on what the mechanism finds, with the mark.
func (a *answering) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	found := make(chan []*targetgroup.Group)
	go a.Discoverer.Run(ctx, found)
	send := func(list []*targetgroup.Group) {
		select {
		case up <- list:
		case <-ctx.Done():
		}
	}
	mark := &targetgroup.Group{Source: answeredSource, Targets: []pm.LabelSet{{}}}
	pieces, marked := inPieces(a.mechanism), false
	var first time.Time
	wait := time.NewTimer(silentPieces)
	defer wait.Stop()
	if !mayBeSilent(a.mechanism) {
		wait.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
			marked = true
			send([]*targetgroup.Group{mark})
		case list, ok := <-found:
			switch {
			case !ok:
				found = nil // that of fixed targets is closed once they are told
				continue
			case marked:
			case a.mechanism == "dns" && len(list) == 0: // no name could be resolved
			case pieces:
				if first.IsZero() {
					first = time.Now()
				}
				wait.Reset(min(settlePieces, mostPieces-time.Since(first)))
			default:
				marked = true
				list = append(slices.Clone(list), mark)
			}
			send(list)
		}
	}
}

// finding is what discovery has said of a job.
type finding struct {
	groups []*targetgroup.Group
	whole  bool      // all mechanisms have answered
	since  time.Time // groups are of before a change, since when; zero: they are not
}

// heldFor is how long targets that were found before a job was changed count
// for as many as there are.
const heldFor = 30 * time.Second

// known reports whether this server can do its share of the job.
func (f finding) known(now time.Time) bool {
	return f.whole || !f.since.IsZero() && now.Sub(f.since) < heldFor
}

// take replaces what was found by a new answer of the manager. What is found in
// part is better than nothing, but not than what was there before.
func (f finding) take(groups []*targetgroup.Group, mechanisms int) finding {
	found := slices.DeleteFunc(slices.Clone(groups), func(g *targetgroup.Group) bool { return g != nil && g.Source == answeredSource })
	if len(groups)-len(found) >= mechanisms {
		return finding{groups: found, whole: true}
	}
	if held := f.held(); !held.since.IsZero() {
		return held
	}
	return finding{groups: found}
}

// held is what is left of f when its job was changed.
func (f finding) held() finding {
	if f.whole {
		f.whole, f.since = false, time.Now()
	}
	return f
}

// take takes over what discovery says.
func (s *Scraper) take(groups map[string][]*targetgroup.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]finding, len(groups))
	for name, list := range groups {
		if j := s.jobs[name]; j != nil {
			found[name] = s.found[name].take(list, j.mechanisms)
		}
	}
	s.found = found
}

// tellLacking says which jobs this server cannot do its share of, and reports
// whether these are others than before.
func (s *Scraper) tellLacking() bool {
	now, list := time.Now(), []string{}
	s.mu.Lock()
	for name := range s.jobs {
		if !s.found[name].known(now) {
			list = append(list, name)
		}
	}
	for _, p := range s.problems {
		list = append(list, p.Job)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	same := s.lacking != nil && slices.Equal(s.lacking, list)
	s.lacking = list
	s.mu.Unlock()
	if !same && s.deps.Lacking != nil {
		s.deps.Lacking(list)
	}
	return !same
}

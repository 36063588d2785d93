// Package schedule says who does what: pure functions that every server
// computes alike from the same list of workers, without asking anybody.
package schedule

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Worker is a server or agent that can be given work.
type Worker struct {
	ID     string
	Region string
	Weight float64 // share of the work in proportion to others; 0 means 1, less than 0 none
	Labels map[string]string
	Roles  []string // "server", "probe", …
	Kinds  []string // of checks that it runs; nil means all
}

// Constraint limits who may be chosen. Empty fields allow all.
type Constraint struct {
	Regions []string          // one of them; "*" means all
	Labels  map[string]string // all must be equal
	Role    string
	Kind    string // of the check
}

// Allows reports whether w may be chosen.
func (c Constraint) Allows(w Worker) bool {
	if len(c.Regions) > 0 && !slices.Contains(c.Regions, w.Region) && !slices.Contains(c.Regions, "*") {
		return false
	}
	if c.Role != "" && !slices.Contains(w.Roles, c.Role) {
		return false
	}
	if c.Kind != "" && w.Kinds != nil && !slices.Contains(w.Kinds, c.Kind) {
		return false
	}
	for k, v := range c.Labels {
		if w.Labels[k] != v {
			return false
		}
	}
	return true
}

// Owner returns the one worker that is responsible for key; false when there is
// none. When a worker leaves only its own keys move; when one joins, it takes
// its share evenly from the others and nothing else moves.
func Owner(key string, workers []Worker) (Worker, bool) {
	var best Worker
	top, found := 0.0, false
	h := hash(key)
	for _, w := range workers {
		s := score(h, w)
		if s > 0 && (!found || s > top || s == top && w.ID < best.ID) {
			best, top, found = w, s, true
		}
	}
	return best, found
}

// Top returns up to n workers for key, the owner first. It returns less when
// there are fewer.
func Top(key string, workers []Worker, n int) []Worker {
	if n <= 0 {
		return nil
	}
	type scored struct {
		Worker
		score float64
	}
	h := hash(key)
	all := make([]scored, 0, len(workers))
	for _, w := range workers {
		if s := score(h, w); s > 0 {
			all = append(all, scored{w, s})
		}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.ID, b.ID))
	})
	out := make([]Worker, 0, min(n, len(all)))
	for _, s := range all[:min(n, len(all))] {
		out = append(out, s.Worker)
	}
	return out
}

// Place chooses, for each region that the constraint allows, the given number
// of copies for key. A region without workers is missing from the result.
func Place(key string, workers []Worker, c Constraint, copies int) map[string][]Worker {
	byRegion := map[string][]Worker{}
	for _, w := range workers {
		if c.Allows(w) {
			byRegion[w.Region] = append(byRegion[w.Region], w)
		}
	}
	for region, ws := range byRegion {
		if chosen := Top(key, ws, max(copies, 1)); len(chosen) > 0 {
			byRegion[region] = chosen
		} else {
			delete(byRegion, region)
		}
	}
	return byRegion
}

// Work is something that has to be done somewhere.
type Work struct {
	Key string
	Constraint
	Copies int // workers in each region; less than 1 means 1
}

// Plan places all work: by worker, the keys it has to do, in the order of work.
// It is what Place says of each, so that a server may also ask for one alone.
func Plan(work []Work, workers []Worker) map[string][]string {
	byRegion := map[string][]Worker{}
	for _, w := range workers {
		byRegion[w.Region] = append(byRegion[w.Region], w)
	}
	out := make(map[string][]string, len(workers))
	var allowed []Worker
	for _, w := range work {
		for _, there := range byRegion {
			allowed = allowed[:0]
			for _, x := range there {
				if w.Allows(x) {
					allowed = append(allowed, x)
				}
			}
			if w.Copies <= 1 {
				if x, ok := Owner(w.Key, allowed); ok {
					out[x.ID] = append(out[x.ID], w.Key)
				}
				continue
			}
			for _, x := range Top(w.Key, allowed, w.Copies) {
				out[x.ID] = append(out[x.ID], w.Key)
			}
		}
	}
	return out
}

// Phase is when within its interval a check runs: now.Truncate(interval) plus
// the phase. It spreads the checks evenly and stays the same across restarts.
func Phase(checkID string, interval time.Duration) time.Duration {
	if interval <= 0 {
		return 0
	}
	return time.Duration(hash(checkID) % uint64(interval))
}

func hash(key string) uint64 { return mix(xxhash.Sum64String(key)) }

// score is weighted rendezvous hashing: the greatest of weight / -ln(u) wins,
// u being a number in (0,1) drawn from key and worker. The chance to win is the
// worker's share of all weight.
func score(key uint64, w Worker) float64 {
	weight := w.Weight
	if weight == 0 {
		weight = 1
	}
	if !(weight > 0) || math.IsInf(weight, 0) {
		return 0
	}
	u := (float64(mix(key^xxhash.Sum64String(w.ID))>>11) + 0.5) / (1 << 53)
	return weight / -math.Log(u)
}

// mix spreads every bit over all others (the finalizer of splitmix64), so that
// keys and workers that differ little have nothing in common.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

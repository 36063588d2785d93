package scrape

import (
	"context"
	"fmt"
	"strconv"
	"time"

	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/scrape"
)

// view is what the last division found out about a job.
type view struct {
	found   int    // targets that discovery gave
	active  int    // after relabelling, on all servers together
	owned   int    // of those, this server's
	dropped int    // by relabelling, of those that this server keeps; the engine's own count may not be read while it counts
	faults  int    // targets that are none
	example string // of a fault
	seen    keySet // keys of all active targets
	mine    keySet // keys of this server's
}

type keySet map[string]struct{}

func (k keySet) has(key string) bool { _, ok := k[key]; return ok }

// targetKey says which target it is, alike on all servers that see it: job,
// public labels and URL.
func targetKey(job string, t *engine.Target) string {
	b := labels.NewScratchBuilder(16)
	t.LabelsRange(func(l labels.Label) { b.Add(l.Name, l.Value) })
	b.Sort()
	return key(job, labels.StableHash(b.Labels()), t.URL().String())
}

func key(job string, hash uint64, url string) string {
	return job + "\x00" + strconv.FormatUint(hash, 16) + "\x00" + url
}

// divide gives the engine those targets of the latest discovery that are this
// server's. A target that another server has now leaves without stale markers:
// they would end series that go on.
func (s *Scraper) divide(ctx context.Context, sets chan<- map[string][]*targetgroup.Group) {
	start := time.Now()
	s.mu.RLock()
	all, jobs := s.found, s.jobs
	s.mu.RUnlock()

	out := make(map[string][]*targetgroup.Group, len(jobs))
	views := make(map[string]view, len(jobs))
	for name, j := range jobs {
		found, ok := all[name]
		if !ok {
			continue // nothing heard yet: what is scraped goes on
		}
		out[name], views[name] = s.divideJob(j, found.groups)
	}
	for name, active := range s.manager.TargetsActive() {
		v, ok := views[name]
		if !ok {
			continue
		}
		var leaving []*engine.Target
		for _, t := range active {
			if k := targetKey(name, t); v.seen.has(k) && !v.mine.has(k) {
				leaving = append(leaving, t)
			}
		}
		s.manager.DisableEndOfRunStalenessMarkers(name, leaving)
		s.met.movedAway.Add(float64(len(leaving)))
	}
	s.mu.Lock()
	for name, v := range views {
		if j := s.jobs[name]; j != nil {
			j.view = v
		}
	}
	s.mu.Unlock()
	s.met.divisions.Observe(time.Since(start).Seconds())
	select {
	case sets <- out:
	case <-ctx.Done():
	}
}

// divideJob returns the groups with this server's targets in them.
func (s *Scraper) divideJob(j *job, found []*targetgroup.Group) ([]*targetgroup.Group, view) {
	v := view{seen: keySet{}, mine: keySet{}}
	out := make([]*targetgroup.Group, 0, len(found))
	var last, mine *targetgroup.Group
	j.each(found, s.cfg.Interval, func(g *targetgroup.Group, tl pm.LabelSet, t *engine.Target, k string, err error) {
		if g != last {
			last, mine = g, &targetgroup.Group{Source: g.Source, Labels: g.Labels}
			out = append(out, mine)
		}
		v.found++
		switch {
		case err != nil:
			v.faults++
			v.example = err.Error()
		case t == nil: // dropped by relabelling: one server keeps it for the page
			if s.deps.Owns(k, j.Job) {
				v.dropped++
				mine.Targets = append(mine.Targets, tl)
			}
		case v.seen.has(k):
			if v.mine.has(k) {
				mine.Targets = append(mine.Targets, tl)
			}
		default:
			v.seen[k] = struct{}{}
			if s.deps.Owns(k, j.Job) {
				v.mine[k] = struct{}{}
				mine.Targets = append(mine.Targets, tl)
			}
		}
	})
	v.active, v.owned = len(v.seen), len(v.mine)
	return out, v
}

// each relabels the targets of groups as the engine will. For a target that
// relabelling drops, t is nil. The group that f is given has the label job and
// is the same for all targets of a discovered group.
func (j *job) each(found []*targetgroup.Group, minInterval time.Duration, f func(g *targetgroup.Group, tl pm.LabelSet, t *engine.Target, key string, err error)) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	n := 0
	for _, g := range found {
		if g == nil {
			continue
		}
		named := &targetgroup.Group{Source: g.Source, Labels: g.Labels}
		if g.Labels[pm.JobLabel] == "" {
			named.Labels = g.Labels.Clone()
			if named.Labels == nil {
				named.Labels = pm.LabelSet{}
			}
			named.Labels[pm.JobLabel] = pm.LabelValue(j.jobName)
		}
		for _, tl := range g.Targets {
			if n++; n > MaxTargets {
				f(named, tl, nil, "", fmt.Errorf("discovery gives more than %d targets; those beyond are left out: split the job", MaxTargets))
				continue
			}
			lset, err := engine.PopulateLabels(lb, j.conf, tl, named.Labels)
			if err == nil && !lset.IsEmpty() {
				err = intervalOf(lset, minInterval)
			}
			switch {
			case err != nil:
				f(named, tl, nil, "", err)
			case lset.IsEmpty():
				engine.PopulateDiscoveredLabels(lb, j.conf, tl, named.Labels)
				f(named, tl, nil, key(j.Name, labels.StableHash(lb.Labels()), ""), nil)
			default:
				t := engine.NewTarget(lset, j.conf, tl, named.Labels)
				f(named, tl, t, targetKey(j.Name, t), nil)
			}
		}
	}
}

// intervalOf refuses an interval that discovery or relabelling made too short.
func intervalOf(lset labels.Labels, minInterval time.Duration) error {
	d, err := pm.ParseDuration(lset.Get(pm.ScrapeIntervalLabel))
	if err == nil && time.Duration(d) < minInterval {
		return fmt.Errorf("label %s is %s; it must be at least %s", pm.ScrapeIntervalLabel, d, pm.Duration(minInterval))
	}
	return nil
}

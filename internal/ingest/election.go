package ingest

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	maxReplicas   = 50_000          // known here, of all sources
	maxOfSource   = 10_000          // known here, of one source
	maxElections  = 50_000          // remembered of clusters that nobody here sends
	sayAgain      = 5 * time.Second // how often other servers hear that the elected replica lives
	keepReplicas  = time.Hour       // after the last sample
	keepElections = 24 * time.Hour  // after the last sample
	forgetEvery   = time.Minute
	maxVotes      = maxState / 2 // bytes of all votes in a State
)

// elections decide for each cluster which of several replicas – the members of
// a pair that measure the same – is stored. The others are not, until the elected
// one has been silent for some time. All servers elect the same one.
type elections struct {
	silence   time.Duration
	broadcast func([]byte)

	mu        sync.Mutex // guards what follows, and the elections in it
	byCluster map[string]*election
	replicas  map[[2]string]*replica
	forgot    time.Time // when forget looked through all of them last
}

// vote is what servers tell each other of an election. A later term wins; of
// two elections in the same term the one that was held first.
type vote struct {
	Replica string `json:"replica"`
	Term    int64  `json:"term"`
	Since   int64  `json:"since"` // when it was elected, milliseconds since 1970
	Heard   int64  `json:"heard"` // rises while it sends, by the clock of who hears it
}

func (v *vote) beats(o *vote) bool {
	switch {
	case v.Term != o.Term:
		return v.Term > o.Term
	case v.Since != o.Since:
		return v.Since < o.Since
	}
	return v.Replica < o.Replica
}

type election struct {
	cluster string
	vote
	alive    time.Time // when Heard rose, by this server's clock: others' clocks may differ
	said     time.Time // when the others were told last
	replicas int       // that are known here
}

// replica is one member of a cluster. There is one for each pair of names that
// is known, so that pointers tell them apart.
type replica struct {
	cluster, name string

	// Guarded by elections.mu; nil and zero until it is enlisted.
	election *election
	owner    *source // who brought it first
	used     time.Time
}

func newElections(silence time.Duration, broadcast func([]byte)) *elections {
	return &elections{silence: silence, broadcast: broadcast, byCluster: map[string]*election{}, replicas: map[[2]string]*replica{}}
}

// member returns the replica of a cluster; one that is not known counts nowhere
// until it is enlisted.
func (x *elections) member(cluster, name string) *replica {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r := x.replicas[[2]string{cluster, name}]; r != nil {
		return r
	}
	return &replica{cluster: cluster, name: name}
}

// enlist makes a replica known, as one more of its source, once a series of it
// was admitted. It returns the one to use: another request may have been first.
// nil says that there are too many.
func (x *elections) enlist(r *replica, owner *source) *replica {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := [2]string{r.cluster, r.name}
	if have := x.replicas[key]; have != nil {
		return have
	}
	now := time.Now()
	full := func() bool { return len(x.replicas) >= maxReplicas || owner.replicas >= maxOfSource }
	if full() {
		if x.forget(now); full() {
			return nil
		}
	}
	e := x.byCluster[r.cluster]
	if e == nil {
		e = &election{cluster: r.cluster}
		x.byCluster[r.cluster] = e
	}
	r.election, r.owner, r.used = e, owner, now
	x.replicas[key] = r
	e.replicas++
	owner.replicas++
	return r
}

// forget ends what nobody sends any more. As that means to look at everything,
// it does so now and then only. x.mu is held.
func (x *elections) forget(now time.Time) {
	if now.Sub(x.forgot) < forgetEvery {
		return
	}
	x.forgot = now
	for key, r := range x.replicas {
		if now.Sub(r.used) > keepReplicas {
			delete(x.replicas, key)
			r.election.replicas--
			r.owner.replicas--
		}
	}
	for cluster, e := range x.byCluster {
		if e.replicas == 0 && (now.Sub(e.alive) > keepElections || len(x.byCluster) > maxElections) {
			delete(x.byCluster, cluster)
		}
	}
}

// elected says whether what r sends now is to be stored.
func (x *elections) elected(r *replica, now time.Time) bool {
	x.mu.Lock()
	r.used = now
	e := x.byCluster[r.cluster]
	if e == nil { // forgotten meanwhile, or the series is not one to be kept
		if e = r.election; e == nil {
			e = &election{cluster: r.cluster}
		}
		if len(x.byCluster) < maxElections+maxReplicas {
			x.byCluster[r.cluster] = e
		}
	}
	tell := false
	switch {
	case e.Term > 0 && e.Replica == r.name:
		tell = now.Sub(e.said) >= sayAgain
	case e.Term == 0 || now.Sub(e.alive) > x.silence:
		e.vote = vote{Replica: r.name, Term: e.Term + 1, Since: now.UnixMilli()}
		tell = true
	default:
		x.mu.Unlock()
		return false
	}
	e.Heard, e.alive = max(e.Heard+1, now.UnixMilli()), now
	var v vote
	if tell {
		e.said, v = now, e.vote
	}
	x.mu.Unlock()
	if tell {
		x.tell(map[string]vote{e.cluster: v})
	}
	return true
}

func (x *elections) votes() map[string]vote {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forget(time.Now())
	out := make(map[string]vote, len(x.byCluster))
	size := 0
	for cluster, e := range x.byCluster {
		// Those beyond the size come with another State: the order is any.
		if size += 100 + 6*(len(cluster)+len(e.Replica)); size > maxVotes {
			break
		}
		if e.Term > 0 {
			out[cluster] = e.vote
		}
	}
	return out
}

// merge takes the votes of another server.
func (x *elections) merge(votes map[string]vote, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for cluster, v := range votes {
		if v.Term <= 0 || v.Replica == "" {
			continue
		}
		e := x.byCluster[cluster]
		if e == nil {
			if len(x.byCluster) >= maxElections+maxReplicas {
				continue
			}
			e = &election{cluster: cluster}
			x.byCluster[cluster] = e
		}
		switch {
		case e.Term == v.Term && e.Replica == v.Replica:
			e.Since = min(e.Since, v.Since)
			if v.Heard > e.Heard {
				e.Heard, e.alive = v.Heard, now
			}
		case v.beats(&e.vote):
			e.vote, e.alive = v, now
		}
	}
}

// replicaOf finds out whether a series is one of several replicas' and returns
// its labels without the one that tells them apart.
func (g *Ingest) replicaOf(ls, bound labels.Labels) (labels.Labels, *replica, error) {
	name := ls.Get(g.cfg.ReplicaLabel)
	if name == "" {
		return ls, nil, nil
	}
	cluster := ls.Get(g.cfg.ClusterLabel)
	if cluster == "" { // whose replica? it is stored as it is
		return ls, nil, nil
	}
	if !bound.IsEmpty() {
		cluster = bound.String() + cluster
	}
	r := g.elections.member(strings.Clone(cluster), strings.Clone(name))
	return labels.NewBuilder(ls).Del(g.cfg.ReplicaLabel).Labels(), r, nil
}

// enlist makes the replica of an admitted series known, if it has one.
func (g *Ingest) enlist(e *entry) error {
	if e.member == nil {
		return nil
	}
	r := g.elections.enlist(e.member, e.owner)
	if r == nil {
		return limit("replicas", "series %s: this source, or all of them, send as many replicas of clusters as may be: %d, or %d", brief(e.labels), maxOfSource, maxReplicas)
	}
	e.member = r
	return nil
}

// shared counts a series once though several replicas bring it, under as many keys.
type shared struct {
	mu     sync.Mutex // guards tallies and the counts in them
	byName map[tallyKey]*tally
}

type tallyKey struct {
	owner *source
	hash  uint64
}

type tally struct {
	pool *shared
	key  tallyKey
	keys int // under which the series is known
}

// take counts one more key; first tells that the series is a new one, which is
// counted at its owner if there is room.
func (s *shared) take(owner *source, ls labels.Labels, most int) (c *tally, first, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tallyKey{owner, ls.Hash()}
	c = s.byName[key]
	if c == nil {
		if !owner.take(most) {
			return nil, true, false
		}
		c, first = &tally{pool: s, key: key}, true
		s.byName[key] = c
	}
	c.keys++
	return c, first, true
}

func (c *tally) release() {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.keys--; c.keys == 0 {
		delete(c.pool.byName, c.key)
		c.key.owner.active.Add(-1)
	}
}

package ingest

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	maxElections  = 10_000
	sayAgain      = 5 * time.Second // how often other servers hear that the elected replica lives
	keepElections = 24 * time.Hour  // after the last sample
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
	alive time.Time // when Heard rose, by this server's clock: others' clocks may differ
	said  time.Time // when the others were told last
}

// replica is one member of a cluster. There is one for each pair of names, so
// that pointers tell them apart.
type replica struct {
	election *election
	name     string
}

func newElections(silence time.Duration, broadcast func([]byte)) *elections {
	return &elections{silence: silence, broadcast: broadcast, byCluster: map[string]*election{}, replicas: map[[2]string]*replica{}}
}

// member returns the replica of a cluster; nil when there are too many.
func (x *elections) member(cluster, name string) *replica {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := [2]string{cluster, name}
	if r := x.replicas[key]; r != nil {
		return r
	}
	if len(x.replicas) >= maxElections {
		x.forget(time.Now())
		if len(x.replicas) >= maxElections {
			return nil
		}
	}
	e := x.byCluster[cluster]
	if e == nil {
		e = &election{cluster: cluster}
		x.byCluster[cluster] = e
	}
	r := &replica{election: e, name: name}
	x.replicas[key] = r
	return r
}

// forget ends what nobody sends any more. x.mu is held.
func (x *elections) forget(now time.Time) {
	for cluster, e := range x.byCluster {
		if now.Sub(e.alive) > keepElections {
			delete(x.byCluster, cluster)
		}
	}
	for key := range x.replicas {
		if x.byCluster[key[0]] == nil {
			delete(x.replicas, key)
		}
	}
}

// elected says whether what r sends now is to be stored.
func (x *elections) elected(r *replica, now time.Time) bool {
	x.mu.Lock()
	e := r.election
	if kept := x.byCluster[e.cluster]; kept == nil { // forgotten meanwhile
		x.byCluster[e.cluster] = e
	} else {
		e = kept
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
	for cluster, e := range x.byCluster {
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
			if len(x.byCluster) >= maxElections {
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
	if r == nil {
		return ls, nil, limit("replicas", "series %s: there are %d replicas of clusters already, the limit", brief(ls), maxElections)
	}
	return labels.NewBuilder(ls).Del(g.cfg.ReplicaLabel).Labels(), r, nil
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

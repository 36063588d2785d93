package verdict_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
	"panoptes/internal/verdict"
)

// cluster is three servers, each with a worker in a region of its own, on a
// simulated network: links are cut, servers stop and die, gossip finds out
// three seconds later, transitions wait for those who cannot be reached.
type cluster struct {
	t     *testing.T
	names []string

	mu       sync.Mutex
	checks   []model.Check
	nodes    map[string]*node
	cuts     map[[2]string]bool
	fails    map[string]string // check, or check/region: message
	uplink   map[string]bool   // regions whose worker reaches nothing
	modest   bool              // workers without an uplink know it and abstain
	told     []string          // what people were told, with the server that told
	moves    []string          // all recorded transitions
	regional []verdict.RegionTransition
	wg       sync.WaitGroup
}

type node struct {
	c      *cluster
	name   string
	region string
	engine *verdict.Engine
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	view   []schedule.Worker
	dead   bool
	awake  chan struct{} // closed while it runs
	queued []func()      // what arrives while it stands still
	owed   map[string][]model.Event
}

var regionOf = map[string]string{"n1": "eu", "n2": "us", "n3": "ap"}

func servers(t *testing.T, checks []model.Check, script func(*cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, names: []string{"n1", "n2", "n3"}, checks: checks, nodes: map[string]*node{}, cuts: map[[2]string]bool{},
			fails: map[string]string{}, uplink: map[string]bool{}, modest: true}
		for _, name := range c.names {
			n := &node{c: c, name: name, region: regionOf[name], owed: map[string][]model.Event{}, awake: make(chan struct{}), done: make(chan error, 1)}
			close(n.awake)
			c.nodes[name] = n
		}
		c.gossip()
		defer c.wg.Wait()
		for _, name := range c.names {
			defer c.nodes[name].start()()
		}
		synctest.Wait()
		script(c)
	})
}

func (n *node) start() (stop func()) {
	c := n.c
	e, err := verdict.New(verdict.Config{Node: n.name, Region: n.region}, verdict.Deps{
		Prober: n, Regions: n.regions, Owns: n.owns, Share: n.broadcast, Workers: n.workers,
		Isolated: func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.view) == 1 },
		Record:   n.record,
		RegionChanged: func(r verdict.RegionTransition) {
			c.mu.Lock()
			c.regional = append(c.regional, r)
			c.mu.Unlock()
			e, err := verdict.RegionEvent(r)
			require.NoError(c.t, err)
			n.relay(e)
		},
	})
	require.NoError(c.t, err)
	n.engine = e
	ctx, cancel := context.WithCancel(c.t.Context())
	n.cancel = cancel
	e.Update(c.checks, nil)
	c.wg.Go(func() { n.done <- e.Run(ctx) })
	c.wg.Go(func() { n.work(ctx) })
	c.wg.Go(func() { n.deliver(ctx) })
	return func() {
		n.resume()
		cancel()
		require.NoError(c.t, <-n.done)
	}
}

func (n *node) regions() []string {
	n.running()
	return []string{"ap", "eu", "us"}
}

// running returns when the process is not stopped.
func (n *node) running() {
	n.mu.Lock()
	awake := n.awake
	n.mu.Unlock()
	<-awake
}

func (n *node) owns(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, _ := schedule.Owner(key, n.view)
	return w.ID == n.name
}

func (n *node) workers() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]int{}
	for _, w := range n.view {
		out[w.Region]++
	}
	return out
}

// gossip gives every server its view of who is alive, as it is now.
func (c *cluster) gossip() {
	for _, n := range c.nodes {
		var view []schedule.Worker
		for _, o := range c.nodes {
			if o == n || c.linked(n, o) {
				view = append(view, schedule.Worker{ID: o.name, Region: o.region})
			}
		}
		n.mu.Lock()
		n.view = view
		n.mu.Unlock()
		if n.engine != nil {
			n.engine.OwnersChanged()
		}
	}
}

// changed has gossip find out what changed.
func (c *cluster) changed() { time.AfterFunc(3*time.Second, c.gossip) }

func (c *cluster) linked(a, b *node) bool {
	for _, n := range []*node{a, b} {
		n.mu.Lock()
		off := n.dead || !closed(n.awake)
		n.mu.Unlock()
		if off {
			return false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.cuts[[2]string{a.name, b.name}]
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// cut sets whether two servers reach each other.
func (c *cluster) cut(on bool, pairs ...string) {
	c.mu.Lock()
	for i := 0; i+1 < len(pairs); i += 2 {
		c.cuts[[2]string{pairs[i], pairs[i+1]}], c.cuts[[2]string{pairs[i+1], pairs[i]}] = on, on
	}
	c.mu.Unlock()
	c.changed()
}

func (c *cluster) kill(name string) {
	n := c.nodes[name]
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	n.cancel()
	c.changed()
}

func (c *cluster) pause(name string) {
	n := c.nodes[name]
	n.mu.Lock()
	n.awake = make(chan struct{})
	n.mu.Unlock()
	c.changed()
}

func (n *node) resume() {
	n.mu.Lock()
	queued := n.queued
	n.queued = nil
	if !closed(n.awake) {
		close(n.awake)
	}
	n.mu.Unlock()
	for _, fn := range queued {
		fn()
	}
	n.c.changed()
}

// work runs the worker: each check on its phase.
func (n *node) work(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	next := map[string]time.Time{}
	for _, c := range n.c.checks {
		next[c.ID] = time.Now().Add(schedule.Phase(c.ID, c.Interval.D()))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.mu.Lock()
		off := n.dead || !closed(n.awake)
		n.mu.Unlock()
		now := time.Now()
		for _, c := range n.c.checks {
			for !now.Before(next[c.ID]) {
				next[c.ID] = next[c.ID].Add(c.Interval.D())
				if !off && !next[c.ID].Before(now) {
					r := n.look(c.ID)
					n.engine.Observe(r)
					n.broadcast(r)
				}
			}
		}
	}
}

// look is one probe by this server's worker.
func (n *node) look(id string) model.Result {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	msg, fails := c.fails[id]
	if m, ok := c.fails[id+"/"+n.region]; ok {
		msg, fails = m, true
	}
	r := model.Result{CheckID: id, Region: n.region, Prober: n.name, Start: time.Now(), Success: !fails, Message: msg}
	if c.uplink[n.region] {
		r.Success, r.Message, r.Abstain = false, "network is unreachable", c.modest
	}
	return r
}

// broadcast sends a result to the other servers.
func (n *node) broadcast(r model.Result) {
	for _, name := range n.c.names {
		o := n.c.nodes[name]
		if o == n {
			continue
		}
		if n.c.linked(n, o) {
			o.engine.Observe(r)
			continue
		}
		o.mu.Lock()
		if !o.dead && !closed(o.awake) { // in the socket of a stopped process
			o.queued = append(o.queued, func() { o.engine.Observe(r) })
		}
		o.mu.Unlock()
	}
}

func (n *node) ProbeNow(ctx context.Context, id, region string) (model.Result, error) {
	n.running()
	for _, name := range n.c.names {
		o := n.c.nodes[name]
		if o.region != region {
			continue
		}
		if o != n && !n.c.linked(n, o) {
			break
		}
		select {
		case <-ctx.Done():
			return model.Result{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		n.running()
		return o.look(id), nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return model.Result{}, errors.New("nobody there")
}

func (n *node) record(t verdict.Transition) {
	n.running()
	n.mu.Lock()
	dead := n.dead
	n.mu.Unlock()
	if dead {
		return
	}
	c := n.c
	c.mu.Lock()
	move := fmt.Sprintf("%s %s>%s", t.Check.ID, t.From, t.To)
	c.moves = append(c.moves, move)
	if t.Notify && !t.Suppressed {
		c.told = append(c.told, n.name+" "+move)
	}
	c.mu.Unlock()
	e, err := verdict.Event(t, t.Check)
	require.NoError(c.t, err)
	n.relay(e)
}

// relay queues an event for the other servers.
func (n *node) relay(e model.Event) {
	e.Time = e.Time.Truncate(time.Millisecond) // as histories keep it
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.c.names {
		if o != n.name {
			n.owed[o] = append(n.owed[o], e)
		}
	}
}

func (n *node) deliver(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, name := range n.c.names {
			o := n.c.nodes[name]
			if o == n || !n.c.linked(n, o) {
				continue
			}
			n.mu.Lock()
			list := n.owed[name]
			delete(n.owed, name)
			n.mu.Unlock()
			for _, e := range list {
				if e.Kind == model.EventNode {
					r, err := verdict.RegionFromEvent(e)
					require.NoError(n.c.t, err)
					o.engine.AdoptRegion(r)
					continue
				}
				t, err := verdict.FromEvent(e)
				require.NoError(n.c.t, err)
				o.engine.Adopt(t)
			}
		}
	}
}

func (c *cluster) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *cluster) set(key, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if message == "" {
		delete(c.fails, key)
	} else {
		c.fails[key] = message
	}
}

func (c *cluster) lose(region string, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uplink[region] = lost
}

// news gives what people were told since the last call.
func (c *cluster) news() (told []string) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	told, c.told, c.moves = c.told, nil, nil
	return told
}

// transitions gives all recorded transitions since the last call of news.
func (c *cluster) transitions() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.moves)
}

func (c *cluster) regions() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.regional {
		out = append(out, r.Region+" "+r.Code+" "+r.Cause)
	}
	return out
}

// agree requires that all servers that live show a check in the same state.
func (c *cluster) agree(id string, want model.Status) {
	c.t.Helper()
	synctest.Wait()
	for _, name := range c.names {
		n := c.nodes[name]
		n.mu.Lock()
		dead := n.dead
		n.mu.Unlock()
		if dead {
			continue
		}
		s, ok := n.engine.State(id)
		require.True(c.t, ok)
		require.Equal(c.t, want, s.Status, "%s of %s on %s: %s", id, c.moves, name, s.Message)
	}
}

func (c *cluster) owner(id string) string {
	for _, name := range c.names {
		n := c.nodes[name]
		if !n.dead && n.owns(id) {
			return name
		}
	}
	return ""
}

func (c *cluster) others(name string) []string {
	return slices.DeleteFunc(slices.Clone(c.names), func(s string) bool { return s == name })
}

func many(n int, mod ...func(*model.Check)) (out []model.Check) {
	for i := range n {
		out = append(out, check(append([]func(*model.Check){func(c *model.Check) { c.ID, c.Name = fmt.Sprint("c", i), fmt.Sprint("shop", i) }}, mod...)...))
	}
	return out
}

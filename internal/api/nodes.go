package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/model"
)

const (
	nodesWait   = 900 * time.Millisecond // for what nodes say about themselves
	nodesFresh  = 500 * time.Millisecond // so long one answer serves all who ask
	clusterWait = time.Second
	changeWait  = 30 * time.Second
	checkWait   = 10 * time.Minute
	watchPeriod = 2 * time.Second
	maxLabels   = 32
)

type nodesAnswer struct {
	Items []Node `json:"items"`
}

type drainBody struct {
	Draining *bool `json:"draining"`
}

type nodePatch struct {
	Labels   *map[string]string `json:"labels,omitempty"`
	Draining *bool              `json:"draining,omitempty"` // it gets no work
	Checks   *bool              `json:"checks,omitempty"`   // of an agent with a region: it may be given checks, with their secrets, and votes
}

// nodeCache lets many pages that ask at once share one question to all nodes.
type nodeCache struct {
	turn chan struct{} // of size one: whoever asks the nodes holds it
	list []Node        // guarded by turn
	at   time.Time     // guarded by turn; of list
	of   int           // guarded by turn; generation of list

	genMu sync.Mutex
	gen   int // guarded by genMu; rises when a list asked for before is out of date
}

func (c *nodeCache) drop() {
	c.genMu.Lock()
	defer c.genMu.Unlock()
	c.gen++
}

func (c *nodeCache) generation() int {
	c.genMu.Lock()
	defer c.genMu.Unlock()
	return c.gen
}

// get returns the nodes by name; nobody may change the list.
func (c *nodeCache) get(ctx context.Context, cl Cluster) []Node {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	gen := c.generation()
	if c.list != nil && gen == c.of && time.Since(c.at) < nodesFresh {
		return c.list
	}
	// Others may be waiting for the same answer, so it does not end with the
	// request that happens to be the first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nodesWait)
	defer cancel()
	list := slices.Clone(cl.Nodes(ctx))
	slices.SortFunc(list, func(x, y Node) int {
		if n := strings.Compare(x.Name, y.Name); n != 0 {
			return n
		}
		return strings.Compare(x.ID, y.ID)
	})
	for i := range list {
		list[i].Labels = orEmpty(list[i].Labels)
		list[i].Since, list[i].Started, list[i].Joined = list[i].Since.UTC(), list[i].Started.UTC(), list[i].Joined.UTC()
	}
	c.list, c.at, c.of = list, time.Now(), gen
	return list
}

// clustered returns the cluster, or the 404 of a server without one.
func (a *API) clustered() (Cluster, error) {
	if a.deps.Cluster == nil {
		return nil, fmt.Errorf("%w: this server is not part of a cluster", model.ErrNotFound)
	}
	return a.deps.Cluster, nil
}

func (a *API) nodeList(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	list := a.nodes.get(r.Context(), c)
	if list == nil {
		list = []Node{}
	}
	return nodesAnswer{list}, nil
}

func (a *API) node(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	return a.nodeNamed(r.Context(), c, r.PathValue("id"))
}

func (a *API) nodeNamed(ctx context.Context, c Cluster, ref string) (Node, error) {
	list := a.nodes.get(ctx, c)
	i := slices.IndexFunc(list, func(n Node) bool { return n.ID == ref })
	if i < 0 {
		// A machine that was replaced has the name of its predecessor.
		i = slices.IndexFunc(list, func(n Node) bool { return n.Name == ref && !n.Revoked })
	}
	if i < 0 {
		i = slices.IndexFunc(list, func(n Node) bool { return n.Name == ref })
	}
	if i < 0 {
		return Node{}, fmt.Errorf("node %q: %w", ref, model.ErrNotFound)
	}
	return list[i], nil
}

// nodeID finds the id of the node that the path names, on record if possible:
// that needs no question to other nodes.
func (a *API) nodeID(r *http.Request, c Cluster) (string, error) {
	ref := r.PathValue("id")
	named := ""
	for _, rec := range a.deps.Catalog.List(model.KindNode) {
		var n model.Node
		if json.Unmarshal(rec.Spec, &n) != nil {
			continue
		}
		if n.ID == ref {
			return n.ID, nil
		}
		if n.Name == ref && !n.Revoked {
			named = n.ID
		}
	}
	if named != "" {
		return named, nil
	}
	n, err := a.nodeNamed(r.Context(), c, ref)
	return n.ID, err
}

// onNode makes a handler of something that is done to a node; it answers the
// node as it is afterwards.
func (a *API) onNode(do func(ctx context.Context, c Cluster, r *http.Request, id string) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		c, err := a.clustered()
		if err != nil {
			return nil, err
		}
		id, err := a.nodeID(r, c)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), changeWait)
		defer cancel()
		err = do(ctx, c, r, id)
		a.nodes.drop()
		if err != nil {
			return nil, err
		}
		return a.nodeNamed(r.Context(), c, id)
	}
}

func drainNode(ctx context.Context, c Cluster, r *http.Request, id string) error {
	var b drainBody
	if err := decode(r, &b); err != nil {
		return err
	}
	if b.Draining == nil {
		return invalid("draining", "must be true or false")
	}
	return c.Drain(ctx, who(r).Actor(), id, *b.Draining)
}

func promoteNode(ctx context.Context, c Cluster, r *http.Request, id string) error {
	return c.Promote(ctx, who(r).Actor(), id)
}

func moveLeader(ctx context.Context, c Cluster, r *http.Request, id string) error {
	return c.MoveLeader(ctx, who(r).Actor(), id)
}

func patchNode(ctx context.Context, c Cluster, r *http.Request, id string) error {
	var p nodePatch
	if err := decode(r, &p); err != nil {
		return err
	}
	if p.Labels == nil && p.Draining == nil && p.Checks == nil {
		return invalid("labels", "must be given, or draining, or checks; nothing else of a node can be changed")
	}
	if p.Labels != nil {
		if err := hostLabels(*p.Labels, "labels"); err != nil {
			return err
		}
	}
	actor := who(r).Actor()
	if p.Checks != nil { // first: what is refused here changes nothing else
		if err := c.AllowChecks(ctx, actor, id, *p.Checks); err != nil {
			return err
		}
	}
	if p.Draining != nil {
		if err := c.Drain(ctx, actor, id, *p.Draining); err != nil {
			return err
		}
	}
	if p.Labels != nil {
		return c.SetLabels(ctx, actor, id, orEmpty(*p.Labels))
	}
	return nil
}

// hostLabels looks whether a node may have these labels.
func hostLabels(labels map[string]string, field string) error {
	var inv model.Invalid
	if len(labels) > maxLabels {
		inv.Add(field, "has more than %d labels", maxLabels)
	}
	for k, v := range labels {
		if !labelName(k) {
			inv.Add(field+"."+k, "must be a name of letters, digits and _, and not begin with a digit or __")
		}
		if len(v) > 256 {
			inv.Add(field+"."+k, "is longer than 256 bytes")
		}
	}
	return inv.Err()
}

func labelName(s string) bool {
	if s == "" || len(s) > 64 || strings.HasPrefix(s, "__") || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

func (a *API) removeNode(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	force, err := boolParam(r, "force")
	if err != nil {
		return nil, err
	}
	id, err := a.nodeID(r, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWait)
	defer cancel()
	defer a.nodes.drop()
	return nil, c.Remove(ctx, who(r).Actor(), id, force)
}

func boolParam(r *http.Request, name string) (bool, error) {
	switch r.URL.Query().Get(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, invalid(name, "must be true or false")
}

func (a *API) clusterInfo(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	return a.infoNow(r.Context(), c), nil
}

func (a *API) infoNow(ctx context.Context, c Cluster) ClusterInfo {
	ctx, cancel := context.WithTimeout(ctx, clusterWait)
	defer cancel()
	info := c.Cluster(ctx)
	info.Reason = plainReason(info.Reason)
	if info.Advice == nil {
		info.Advice = []Advice{}
	}
	return info
}

// plainReason leaves out the kind of error, which the sentence around it tells.
func plainReason(s string) string {
	return strings.TrimPrefix(s, model.ErrUnavailable.Error()+": ")
}

// watchCluster tells the stream when configuration can no longer be changed,
// or can be again: no gossip need have changed for that.
func (a *API) watchCluster(ctx context.Context) {
	t := time.NewTicker(watchPeriod)
	defer t.Stop()
	var last []byte
	for {
		now := mustJSON(a.infoNow(ctx, a.deps.Cluster))
		if ctx.Err() != nil {
			return
		}
		if last != nil && string(now) != string(last) {
			a.PublishNodes()
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *API) checkCluster(r *http.Request) (any, error) {
	c, err := a.clustered()
	if err != nil {
		return nil, err
	}
	if !a.checking.TryLock() {
		return nil, fmt.Errorf("%w: a check is running already; wait for its end", model.ErrConflict)
	}
	defer a.checking.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	rep, err := c.Check(ctx)
	if err != nil {
		return nil, err
	}
	a.audit(r, "cluster.check", "cluster", fmt.Sprintf("copies compared: %d windows, %d differed, %d repaired", rep.Windows, rep.Mismatches, rep.Repaired))
	return rep, nil
}

// ca makes a handler of something that answers the state of the authority.
func (a *API) ca(do func(c Cluster, ctx context.Context, actor string) (CAInfo, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		c, err := a.clustered()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), changeWait)
		defer cancel()
		info, err := do(c, ctx, who(r).Actor())
		if err != nil {
			return nil, err
		}
		if info.Roots == nil {
			info.Roots = []CARoot{}
		}
		return info, nil
	}
}

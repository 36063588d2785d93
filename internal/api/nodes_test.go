package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// memCluster is a cluster of three servers and one that was replaced; n3 may
// be slow to answer for itself.
type memCluster struct {
	mu     sync.Mutex
	list   []api.Node
	info   api.ClusterInfo
	asked  int // Nodes
	looked int // Cluster
	slow   time.Duration
	begun  chan struct{} // told when a check begins, when it is not nil
	done   []string
}

func newCluster() *memCluster {
	now := time.Now()
	c := &memCluster{info: api.ClusterInfo{ID: "c", Self: "n", Leader: "n", Writable: true, Quorum: 2, Voters: 3}}
	for i, name := range []string{"n", "n2", "n2", "n3"} {
		c.list = append(c.list, api.Node{
			ID: fmt.Sprintf("ID%d", i), Name: name, Role: model.RoleServer, Region: "eu", State: "alive", Since: now, Self: i == 0, Control: "voter",
			Health: &api.NodeHealth{Status: "ok", Score: 100}, Views: map[string]string{"n3": "alive"}, Revoked: i == 1,
			Relay: []api.RelayState{{To: "n3", Bytes: 5, Oldest: &now}}, Copy: &api.CopyState{Complete: true, LastCheck: &now},
		})
	}
	c.list[1].State = "left"
	return c
}

func (c *memCluster) note(actor, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, actor+" "+fmt.Sprintf(format, args...))
}

func (c *memCluster) did() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.done)
}

func (c *memCluster) Nodes(ctx context.Context) []api.Node {
	c.mu.Lock()
	c.asked++
	slow := c.slow
	list := slices.Clone(c.list)
	c.mu.Unlock()
	slices.Reverse(list)
	if slow > 0 {
		select {
		case <-ctx.Done():
			for i := range list {
				list[i].Health = nil
			}
		case <-time.After(slow):
		}
	}
	return list
}

func (c *memCluster) Cluster(context.Context) api.ClusterInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked++
	return c.info
}

func (c *memCluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *memCluster) Drain(_ context.Context, actor, id string, draining bool) error {
	c.note(actor, "drain %s %t", id, draining)
	c.set(func() {
		i := slices.IndexFunc(c.list, func(n api.Node) bool { return n.ID == id })
		c.list[i].Draining = draining
	})
	return nil
}

func (c *memCluster) Promote(_ context.Context, actor, id string) error {
	c.note(actor, "promote %s", id)
	return nil
}

func (c *memCluster) MoveLeader(_ context.Context, actor, id string) error {
	c.note(actor, "leader %s", id)
	return nil
}

func (c *memCluster) Remove(_ context.Context, actor, id string, force bool) error {
	if !force {
		return fmt.Errorf("%w: node is alive; drain and stop it first, or use force", model.ErrConflict)
	}
	c.note(actor, "remove %s", id)
	return nil
}

func (c *memCluster) SetLabels(_ context.Context, actor, id string, labels map[string]string) error {
	c.note(actor, "label %s %v", id, labels)
	return nil
}

func (c *memCluster) Check(ctx context.Context) (api.CheckReport, error) {
	if c.begun != nil {
		c.begun <- struct{}{}
		<-ctx.Done()
		return api.CheckReport{}, ctx.Err()
	}
	return api.CheckReport{Windows: 12, Mismatches: 1, Repaired: 1, Seconds: 0.5}, nil
}

func (c *memCluster) CA(context.Context) (api.CAInfo, error) {
	return api.CAInfo{Roots: []api.CARoot{{Subject: "CN=r", NotAfter: time.Now(), KeyHash: "ab", Current: true}}, State: "stable"}, nil
}

func (c *memCluster) RotateCA(ctx context.Context, actor string) (api.CAInfo, error) {
	c.note(actor, "rotate")
	return c.CA(ctx)
}

func (c *memCluster) FinishCA(ctx context.Context, actor string) (api.CAInfo, error) {
	c.note(actor, "finish")
	return c.CA(ctx)
}

func (c *memCluster) NewToken(_ context.Context, actor string, want model.Token) (model.Token, string, error) {
	what := ""
	if want.Checks {
		what = " checks"
	}
	c.note(actor, "token %s %q %s %d%s", want.Role, want.Region, time.Until(want.Expires).Round(time.Minute), want.Uses, what)
	want.Name, want.Hash = "T1", "cafe"
	return want, "pnp1.hash.T1.secret", nil
}

func (c *memCluster) AllowChecks(_ context.Context, actor, id string, allow bool) (err error) {
	c.set(func() {
		i := slices.IndexFunc(c.list, func(n api.Node) bool { return n.ID == id })
		n := &c.list[i]
		if err = (model.Node{Name: n.Name, Role: n.Role, Region: n.Region}).ValidateChecks(); err == nil {
			n.ChecksAllowed = allow
		}
	})
	if err == nil {
		c.note(actor, "checks %s %t", id, allow)
	}
	return err
}

type nodeList struct{ Items []api.Node }

func TestNodes(t *testing.T) {
	b := setUp(t)
	var l nodeList
	b.want(200, &l, b.call("viewer", "GET", "/v1/nodes", nil))
	var names []string
	for _, n := range l.Items {
		names = append(names, n.Name)
	}
	require.Equal(t, []string{"n", "n2", "n2", "n3"}, names, "by name")
	var n api.Node
	b.want(200, &n, b.call("viewer", "GET", "/v1/nodes/n2", nil))
	require.Equal(t, "ID2", n.ID, "the one that was replaced does not take the name")
	b.want(200, &n, b.call("viewer", "GET", "/v1/nodes/ID1", nil))
	require.True(t, n.Revoked)
	b.want(404, nil, b.call("viewer", "GET", "/v1/nodes/n9", nil))

	b.want(200, &n, b.call("admin", "POST", "/v1/nodes/n3/drain", obj{"draining": true}))
	require.True(t, n.Draining, "the answer is not older than the change")
	b.want(200, nil, b.call("admin", "POST", "/v1/nodes/ID2/promote", nil))
	b.want(200, nil, b.call("admin", "POST", "/v1/nodes/n2/leader", nil))
	b.want(200, nil, b.call("admin", "PATCH", "/v1/nodes/n", obj{"labels": obj{"rack": "7"}}))
	var f failure
	b.want(409, &f, b.call("admin", "DELETE", "/v1/nodes/n3", nil))
	require.Contains(t, f.Error.Message, "drain and stop it first")
	b.want(204, nil, b.call("admin", "DELETE", "/v1/nodes/n3?force=true", nil))
	require.Equal(t, []string{"user/admin drain ID3 true", "user/admin promote ID2", "user/admin leader ID2", "user/admin label ID0 map[rack:7]", "user/admin remove ID3"}, b.cluster.did())

	for path, body := range map[string]any{
		"POST /v1/nodes/n/drain": obj{}, "POST /v1/nodes/n/drain ": obj{"draining": true, "x": 1}, "PATCH /v1/nodes/n": obj{"name": "x"},
		"PATCH /v1/nodes/n ": obj{"labels": obj{"1a": "x"}}, "PATCH /v1/nodes/n  ": obj{"labels": obj{"a": strings.Repeat("x", 300)}}, "PATCH /v1/nodes/n   ": obj{},
		"DELETE /v1/nodes/n?force=maybe": nil,
	} {
		method, path, _ := strings.Cut(strings.TrimSpace(path), " ")
		b.want(400, nil, b.call("admin", method, path, body))
	}
	b.want(404, nil, b.call("admin", "DELETE", "/v1/nodes/n9?force=true", nil))
	require.Len(t, b.cluster.did(), 5)

	// The record tells the id of a node that nobody has heard of since.
	b.cat.records[model.KindNode] = []model.Record{{Kind: "node", ID: "R", Name: "ID9", Spec: json.RawMessage(`{"name":"ID9","node":"n9"}`)}}
	b.want(204, nil, b.call("admin", "DELETE", "/v1/nodes/n9?force=true", nil))
	require.Equal(t, "user/admin remove ID9", b.cluster.did()[5])
}

// TestSlowNodes shows that a node that does not answer delays nobody by more
// than a second, and that many who ask at once ask only once.
func TestSlowNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		b.cluster.slow = time.Hour
		begun := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				var l nodeList
				b.want(200, &l, b.call("viewer", "GET", "/v1/nodes", nil))
				if len(l.Items) != 4 || l.Items[0].Health != nil {
					t.Errorf("got %d nodes", len(l.Items))
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, time.Since(begun), time.Second)
		require.Equal(t, 1, b.cluster.asked)
		// News make the list out of date at once.
		b.api.PublishNodes()
		b.cluster.set(func() { b.cluster.slow = 0 })
		b.want(200, nil, b.call("viewer", "GET", "/v1/nodes", nil))
		b.want(200, nil, b.call("viewer", "GET", "/v1/nodes", nil))
		require.Equal(t, 2, b.cluster.asked)
	})
}

func TestTokens(t *testing.T) {
	b := setUp(t)
	var tok struct {
		obj     `json:"-"`
		ID      string
		Role    string
		Token   string
		Uses    int
		Expired bool
		Expires time.Time
	}
	b.want(201, &tok, b.call("admin", "POST", "/v1/tokens", obj{}))
	require.Equal(t, "pnp1.hash.T1.secret", tok.Token)
	require.Equal(t, "server", tok.Role)
	require.InDelta(t, 3600, time.Until(tok.Expires).Seconds(), 60)
	b.want(201, nil, b.call("admin", "POST", "/v1/tokens", obj{"role": "agent", "region": "eu", "ttl": "2d"}))
	b.want(201, nil, b.call("admin", "POST", "/v1/tokens", obj{"role": "witness", "uses": 3}))
	require.Equal(t, []string{`user/admin token server "" 1h0m0s 1`, `user/admin token agent "eu" 48h0m0s 100`, `user/admin token witness "" 1h0m0s 3`}, b.cluster.did())
	for _, body := range []obj{{"role": "king"}, {"ttl": "1s"}, {"ttl": "90d"}, {"uses": 0}, {"uses": 11}, {"role": "agent", "uses": 10_001}, {"region": "a,b"}, {"token": "x"}} {
		b.want(400, nil, b.call("admin", "POST", "/v1/tokens", body))
	}

	spec, err := json.Marshal(model.Token{Name: "T1", Role: "agent", Expires: time.Now().Add(-time.Minute), Uses: 3, Hash: "cafebabe", Used: []string{"ID1"}})
	require.NoError(t, err)
	b.cat.records[model.KindToken] = []model.Record{{Kind: "token", ID: "R1", Name: "T1", Created: time.Now(), Spec: spec}}
	for id, n := range map[string]model.Node{"ID1": {TokenID: "T1"}, "ID2": {TokenID: "T2", Earlier: []string{"T1"}}, "ID3": {TokenID: "T2"}} {
		n.ID, n.Name = id, id
		spec, err := json.Marshal(n)
		require.NoError(t, err)
		b.cat.records[model.KindNode] = append(b.cat.records[model.KindNode], model.Record{Kind: "node", ID: id, Name: id, Spec: spec})
	}
	w := b.call("admin", "GET", "/v1/tokens", nil)
	require.NotContains(t, w.Body.String(), "cafebabe")
	var l struct{ Items []obj }
	b.want(200, &l, w)
	require.Equal(t, "T1", l.Items[0]["id"])
	require.Equal(t, []any{"ID1", "ID2"}, l.Items[0]["used"])
	require.Equal(t, true, l.Items[0]["expired"])
	require.NotContains(t, l.Items[0], "checks")
	b.want(204, nil, b.call("admin", "DELETE", "/v1/tokens/T1", nil))
	b.want(404, nil, b.call("admin", "DELETE", "/v1/tokens/T1", nil))
}

// Hosts are given checks, and vote, only when a token or an administrator says so.
func TestHostsAreAllowedToRunChecks(t *testing.T) {
	b := setUp(t)
	fault := func(method, path string, body any) failure {
		var f failure
		b.want(400, &f, b.call("admin", method, path, body))
		return f
	}
	var tok struct {
		obj    `json:"-"`
		Checks bool
	}
	b.want(201, &tok, b.call("admin", "POST", "/v1/tokens", obj{"role": "agent", "region": "eu", "checks": true}))
	require.True(t, tok.Checks)
	f := fault("POST", "/v1/tokens", obj{"role": "agent", "checks": true})
	require.Equal(t, "region", f.Error.Field)
	require.Contains(t, f.Error.Message, "must be named for hosts that run checks: they vote for it")
	require.Equal(t, "checks", fault("POST", "/v1/tokens", obj{"role": "server", "region": "eu", "checks": true}).Error.Field)
	spec, err := json.Marshal(model.Token{Name: "T1", Role: "agent", Region: "eu", Checks: true})
	require.NoError(t, err)
	b.cat.records[model.KindToken] = []model.Record{{Kind: "token", ID: "R1", Name: "T1", Created: time.Now(), Spec: spec}}
	var l struct{ Items []obj }
	b.want(200, &l, b.call("admin", "GET", "/v1/tokens", nil))
	require.Equal(t, true, l.Items[0]["checks"])

	b.cluster.set(func() {
		b.cluster.list = append(b.cluster.list, api.Node{ID: "A1", Name: "web-1", Role: model.RoleAgent, Region: "eu", ChecksOffered: true}, api.Node{ID: "A2", Name: "web-2", Role: model.RoleAgent})
	})
	var n api.Node
	b.want(200, &n, b.call("viewer", "GET", "/v1/nodes/web-1", nil))
	require.True(t, n.ChecksOffered && !n.ChecksAllowed)
	b.want(200, &n, b.call("admin", "PATCH", "/v1/nodes/web-1", obj{"checks": true}))
	require.True(t, n.ChecksAllowed)
	n = api.Node{}
	b.want(200, &n, b.call("admin", "PATCH", "/v1/nodes/web-1", obj{"checks": false, "draining": true, "labels": obj{"rack": "7"}}))
	require.True(t, n.Draining && !n.ChecksAllowed)
	require.Equal(t, "labels", fault("PATCH", "/v1/nodes/web-1", obj{}).Error.Field)
	// Servers run checks anyway, and one without a region votes for none; nothing is
	// changed by what is refused.
	for _, name := range []string{"n3", "web-2"} {
		require.Equal(t, "checks", fault("PATCH", "/v1/nodes/"+name, obj{"checks": true, "draining": true}).Error.Field)
	}
	b.want(403, nil, b.call("editor", "PATCH", "/v1/nodes/web-1", obj{"checks": true}))
	b.want(403, nil, b.call("editor", "PATCH", "/v1/hosts/n", obj{"checks": true}))
	require.Equal(t, []string{`user/admin token agent "eu" 1h0m0s 100 checks`, "user/admin checks A1 true", "user/admin checks A1 false", "user/admin drain A1 true", "user/admin label A1 map[rack:7]"}, b.cluster.did())
}

func TestClusterAndCA(t *testing.T) {
	var audit []model.Event
	b := setUp(t, func(_ *api.Config, d *api.Deps) {
		d.Audit = func(_ context.Context, e model.Event) { audit = append(audit, e) }
	})
	var info api.ClusterInfo
	b.want(200, &info, b.call("viewer", "GET", "/v1/cluster", nil))
	require.True(t, info.Writable)
	b.cluster.set(func() { b.cluster.info.Reason = model.ErrUnavailable.Error() + ": no leader" })
	b.want(200, &info, b.call("viewer", "GET", "/v1/cluster", nil))
	require.Equal(t, "no leader", info.Reason)
	b.want(200, nil, b.call("admin", "POST", "/v1/cluster/ca/rotate", nil))
	b.want(200, nil, b.call("admin", "POST", "/v1/cluster/ca/finish", nil))
	require.Equal(t, []string{"user/admin rotate", "user/admin finish"}, b.cluster.did())
	b.want(200, nil, b.call("admin", "POST", "/v1/cluster/check", nil))
	require.Equal(t, "cluster.check", audit[0].Code)
	require.Equal(t, "user/admin", audit[0].Actor)

	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		b.cluster.begun = make(chan struct{})
		done := make(chan int)
		go func() { done <- b.call("admin", "POST", "/v1/cluster/check", nil).Code }()
		<-b.cluster.begun
		b.want(409, nil, b.call("admin", "POST", "/v1/cluster/check", nil))
		require.Equal(t, 503, <-done, "it ends when it takes too long")
	})
}

// A server without a cluster has no such pages.
func TestNoCluster(t *testing.T) {
	b := setUp(t, func(_ *api.Config, d *api.Deps) { d.Cluster = nil })
	for _, rt := range []string{"GET /v1/nodes", "GET /v1/nodes/n", "GET /v1/cluster", "POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/nodes/n", "POST /v1/cluster/check", "GET /v1/cluster/ca"} {
		method, path, _ := strings.Cut(rt, " ")
		require.Equal(t, 404, b.call("admin", method, path, nil).Code, rt)
	}
}

// Nodes and tokens are made by joining, not by documents.
func TestNodesAreNoDocuments(t *testing.T) {
	b := setUp(t)
	for _, kind := range []string{"node", "token"} {
		b.want(400, nil, b.call("admin", "POST", "/v1/apply", obj{"documents": []obj{{"kind": kind, "name": "n", "spec": obj{"name": "n"}}}}))
		b.want(400, nil, b.call("admin", "GET", "/v1/export?kind="+kind, nil))
	}
}

func TestNodesInTheStream(t *testing.T) {
	l := goLive(t)
	c := l.open("viewer", "")
	c.want("hello")
	l.api.PublishNodes()
	require.Equal(t, "{}", c.want("nodes").data)
	l.api.PublishRecord("token", "T1", "created") // not for viewers
	require.Eventually(t, func() (seen bool) {
		l.cluster.set(func() { seen = l.cluster.looked > 0 })
		return seen
	}, 30*time.Second, time.Millisecond)
	l.cluster.set(func() { l.cluster.info.Writable, l.cluster.info.Reason = false, "no quorum" })
	require.Equal(t, "{}", c.want("nodes").data, "also when only the configuration store is lost")
}

//go:build fault && linux

package fault

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// nodeView is what GET /v1/nodes tells of a server.
type nodeView struct {
	ID, Name, Region, State, Control string
	Revoked, Behind                  bool
	Copy                             struct{ Copying, Complete bool }
	Relay                            []struct {
		To      string
		Bytes   int64
		Dropped bool
		Error   string
	}
	Views map[string]string
}

func (n *node) view() ([]nodeView, error) {
	var list struct{ Items []nodeView }
	err := n.get("/v1/nodes", &list)
	return slices.DeleteFunc(list.Items, func(v nodeView) bool { return v.Revoked }), err
}

// clusterView is what GET /v1/cluster tells.
type clusterView struct {
	Leader, Reason  string
	Writable, Split bool
	Voters, Quorum  int
}

func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	c.wait(15*time.Second, "no leader", func() error {
		for _, n := range c.nodes {
			var v clusterView
			if !n.up() || n.get("/v1/cluster", &v) != nil {
				continue
			}
			for _, m := range c.nodes {
				if m.up() && m.name == v.Leader {
					found = m
					return nil
				}
			}
		}
		return fmt.Errorf("nobody names one that runs")
	})
	return found
}

// whole reports what is missing until every server that runs sees all others
// alive and the odd number of them votes.
func (c *cluster) whole() error {
	live := 0
	for _, n := range c.nodes {
		if n.up() {
			live++
		}
	}
	if live == 1 && !strings.Contains(c.flags, "--join") {
		return c.someone().call(http.MethodGet, "/-/ready", nil, nil)
	}
	voters := min(live-(1-live%2), 5)
	for _, n := range c.nodes {
		if !n.up() {
			continue
		}
		if err := n.call(http.MethodGet, "/-/ready", nil, nil); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		list, err := n.view()
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		alive, votes := 0, 0
		for _, v := range list {
			if v.State == "alive" {
				alive++
			}
			if v.Control == "leader" || v.Control == "voter" {
				votes++
			}
		}
		if alive < live || votes < voters {
			return fmt.Errorf("%s sees %d of %d servers alive, %d of %d voters: %+v", n.name, alive, live, votes, voters, list)
		}
	}
	return nil
}

func (c *cluster) waitWhole(limit time.Duration) time.Duration {
	c.t.Helper()
	took := c.wait(limit, "the cluster is not whole", c.whole)
	c.note("whole after %s", took.Round(10*time.Millisecond))
	return took
}

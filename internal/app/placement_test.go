package app

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
)

// A server that lacks samples evaluates no rules while another one has them all.
func TestRulesAreForServersThatLackNothing(t *testing.T) {
	member := func(id string, behind bool) model.Member {
		return model.Member{ID: id, Name: id, Role: model.RoleServer, State: model.MemberAlive, Serving: true, Behind: behind}
	}
	owned := func(members ...model.Member) map[string]int {
		out := map[string]int{}
		for _, self := range members {
			p := newPlacement(self.ID)
			require.True(t, p.take(members))
			require.False(t, p.take(members), "nothing has changed")
			for i := range 60 {
				if p.judgesRules(fmt.Sprint("rules/", i)) {
					out[self.ID]++
				}
				if p.owns(fmt.Sprint("check/", i)) {
					out["checks of "+self.ID]++
				}
			}
		}
		return out
	}
	got := owned(member("n1", false), member("n2", true), member("n3", false))
	require.Zero(t, got["n2"])
	require.Equal(t, 60, got["n1"]+got["n3"])
	require.NotZero(t, got["checks of n2"], "verdicts need no samples")
	got = owned(member("n1", true), member("n2", true))
	require.Equal(t, 60, got["n1"]+got["n2"], "somebody has to do it")
	require.NotZero(t, got["n1"])

	p := newPlacement("n1")
	require.True(t, p.take([]model.Member{member("n1", true), member("n2", false)}))
	require.True(t, p.take([]model.Member{member("n1", false), member("n2", false)}), "the rules move back")
}

// An agent is given the checks that it can run, and one that may not run a check
// is not the last to be asked.
func TestChecksGoToWhoCanRunThem(t *testing.T) {
	member := func(id string) model.Member {
		return model.Member{ID: id, Name: id, Role: model.RoleServer, State: model.MemberAlive, Serving: true, Region: "eu"}
	}
	p := newPlacement("n1")
	p.take([]model.Member{member("n1")})
	agents := []schedule.Worker{}
	for i := range 5 {
		agents = append(agents, schedule.Worker{ID: fmt.Sprint("a", i), Region: "eu", Roles: agentRoles, Kinds: []string{"http", "tcp"}})
	}
	require.True(t, p.setAgents(agents))
	var checks []model.Check
	for i := range 40 {
		checks = append(checks, model.Check{ID: fmt.Sprint("c", i), Type: "dns"}, model.Check{ID: fmt.Sprint("h", i), Type: "http"})
	}
	plan := p.plan(checks)
	require.GreaterOrEqual(t, len(plan["n1"]), 40, "all of dns")
	for _, a := range agents {
		require.NotEmpty(t, plan[a.ID])
		for _, id := range plan[a.ID] {
			require.Equal(t, byte('h'), id[0])
		}
	}

	asked := 0
	pr := &prober{
		placement: p,
		local: func(context.Context, string) (model.Result, error) {
			return model.Result{Prober: "n1", Success: true}, nil
		},
		lookup: func(id string) (model.Check, bool) { return model.Check{ID: id, Type: "http"}, true },
		agent: func(_ context.Context, id string, _ model.Check) (model.Result, error) {
			asked++
			return model.Result{Prober: id, Untried: true, Message: "address 192.0.2.1 is refused"}, nil
		},
	}
	for i := range 40 {
		r, err := pr.ProbeNow(t.Context(), fmt.Sprint("h", i), "eu")
		require.NoError(t, err)
		require.Equal(t, "n1", r.Prober)
	}
	require.NotZero(t, asked)
	p.take(nil)
	r, err := pr.ProbeNow(t.Context(), "h1", "eu")
	require.NoError(t, err)
	require.True(t, r.Untried, "nobody could")
}

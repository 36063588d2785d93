package app

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
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

package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestWhoMayCheck(t *testing.T) {
	for name, c := range map[string]struct {
		node model.Node
		may  bool
		why  string // why it cannot be allowed
	}{
		"allowed":   {model.Node{Role: model.RoleAgent, Region: "eu", Checks: true}, true, ""},
		"not asked": {model.Node{Role: model.RoleAgent, Region: "eu"}, false, ""},
		"no region": {model.Node{Role: model.RoleAgent, Checks: true}, false, "checks: is for agents with a region"},
		"server":    {model.Node{Role: model.RoleServer, Region: "eu", Checks: true}, false, "checks: is for agents"},
		"witness":   {model.Node{Role: model.RoleWitness, Region: "eu", Checks: true}, false, "checks: is for agents"},
		"removed":   {model.Node{Name: "web-1", Role: model.RoleAgent, Region: "eu", Checks: true, Revoked: true}, false, "web-1 was removed"},
	} {
		require.Equal(t, c.may, c.node.MayCheck(), name)
		if err := c.node.ValidateChecks(); c.why == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.why, name)
		}
	}
	require.EqualError(t, model.Token{Role: model.RoleAgent, Checks: true}.ValidateChecks(), "region: must be named for hosts that run checks: they vote for it")
	require.ErrorContains(t, model.Token{Role: model.RoleWitness, Region: "eu", Checks: true}.ValidateChecks(), "checks: ")
	require.NoError(t, model.Token{Role: model.RoleAgent, Region: "eu", Checks: true}.ValidateChecks())
	require.NoError(t, model.Token{Role: model.RoleServer}.ValidateChecks())
}

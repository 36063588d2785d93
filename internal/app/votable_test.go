package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
)

// All regions are those that can run the check: the others would be missing for
// ever, and a majority of them keeps it from ever being down.
func TestAllRegionsAreThoseThatCanRunTheCheck(t *testing.T) {
	all := []string{"ap", "eu", "new", "us"}
	workers := []schedule.Worker{
		{ID: "n1", Region: "eu", Roles: serverRoles, Labels: map[string]string{"net": "office"}},
		{ID: "n2", Region: "us", Roles: serverRoles},
		{ID: "a1", Region: "ap", Roles: agentRoles, Kinds: []string{"http", "tcp"}},
	}
	f := func(c model.Check, want ...string) {
		t.Helper()
		got, narrowed := narrow([]model.Check{c}, all, workers)[narrowKey(&c)]
		require.Equal(t, len(want) > 0, narrowed)
		require.Equal(t, want, got)
	}
	office := map[string]string{"net": "office"}
	f(model.Check{Type: "http", Regions: []string{"*"}})
	f(model.Check{Type: "http", Regions: []string{"*"}, Workers: office}, "eu")
	f(model.Check{Type: "http", Workers: office}, "eu")
	f(model.Check{Type: "http", Regions: []string{"eu", "us"}, Workers: office})
	f(model.Check{Type: "http", Workers: map[string]string{"net": "nowhere"}}) // unknown, which is true
	f(model.Check{Type: "dns"}, "eu", "new", "us")
	f(model.Check{Type: "push"}, "eu", "us")
	workers[0].Labels = nil
	f(model.Check{Type: "http", Workers: office})
}

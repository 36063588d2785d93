package model_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestHostGroupCovers(t *testing.T) {
	n := model.Node{Name: "db-1", Region: "eu", Labels: map[string]string{"team": "data"}}
	for _, g := range []model.HostGroup{{}, {Hosts: []string{"web-*", "db-?"}}, {Regions: []string{"us", "eu"}}, {Matchers: map[string]string{"team": "data"}}} {
		require.True(t, g.Covers(n), "%+v", g)
	}
	for _, g := range []model.HostGroup{{Hosts: []string{"db"}}, {Regions: []string{"us"}}, {Hosts: []string{"*"}, Matchers: map[string]string{"team": "web"}}} {
		require.False(t, g.Covers(n), "%+v", g)
	}
}

func TestHostGroupNamesItsFaults(t *testing.T) {
	g := model.HostGroup{Name: "all", Interval: model.Duration(15 * time.Second), Labels: map[string]string{"team": "ops"}}
	require.NoError(t, g.Validate())
	g = model.HostGroup{Hosts: []string{"["}, Interval: model.Duration(time.Millisecond), Labels: map[string]string{"host": "x", "prober": "y"}}
	err := g.Validate()
	for _, field := range []string{"name:", "hosts[0]:", "interval:", "labels.host:", "labels.prober:"} {
		require.ErrorContains(t, err, field)
	}
}

package model_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestWhatHostsWatchNamesItsFaults(t *testing.T) {
	g := model.HostGroup{Name: "all", Mesh: &model.HostMesh{Peers: []string{"*"}, Interval: model.Duration(time.Minute)}, Services: []model.HostService{
		{Kind: "unit", Name: "nginx.service"}, {Kind: "unit", Name: `dev-disk-by\x2did.device`}, {Kind: "process", Name: "shop", Match: "java.*shop"}, {Kind: "port", Name: "443"}, {Kind: "container", Name: "shop_db-1"},
	}}
	require.NoError(t, g.Validate())
	g = model.HostGroup{Name: "all", Mesh: &model.HostMesh{Interval: model.Duration(time.Second), Port: -1}, Services: []model.HostService{
		{Kind: "unit", Name: "nginx"}, {Kind: "port", Name: "http"}, {Kind: "process", Name: "a b"}, {Kind: "container", Name: "../../x"}, {Kind: "job", Name: "x"}, {Kind: "port", Name: "1", Match: "x"}, {Kind: "process", Name: "a", Match: "("},
	}}
	err := g.Validate()
	for _, field := range []string{"mesh.peers:", "mesh.interval:", "mesh.port:", "services[0].name:", "services[1].name:", "services[2].name:", "services[3].name:", "services[4].kind:", "services[5].match:", "services[6].match:"} {
		require.ErrorContains(t, err, field)
	}
}

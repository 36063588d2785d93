package api_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
)

type memReleases struct{}

func (memReleases) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "file "+r.URL.Path) })
}

func (memReleases) Install(token, region string, checks bool) (api.AgentInstall, error) {
	line := "sh --token " + token + " --region " + region
	if checks {
		line += " --checks"
	}
	return api.AgentInstall{Linux: line, Platforms: []string{}}, nil
}

func TestProgramsOfAgents(t *testing.T) {
	b := setUp(t)
	for _, path := range []string{"/agent/linux/amd64", "/agent/manifest.json", "/agent/manifest.json.sig", "/install.sh"} {
		w := b.call("", "GET", path, nil)
		require.Equal(t, 200, w.Code, path)
		require.Equal(t, "file "+path, w.Body.String())
		require.Contains(t, []int{401, 405}, b.call("", "POST", path, nil).Code, "nothing is taken from strangers")
	}
	var got api.AgentInstall
	b.want(200, &got, b.call("admin", "GET", "/v1/agent-install?token=pnp1.x&region=eu", nil))
	require.Equal(t, "sh --token pnp1.x --region eu", got.Linux)
	b.want(200, &got, b.call("admin", "GET", "/v1/agent-install?token=pnp1.x&region=eu&checks=true", nil))
	require.Equal(t, "sh --token pnp1.x --region eu --checks", got.Linux)
	b.want(400, nil, b.call("admin", "GET", "/v1/agent-install?checks=maybe", nil))
	b.want(200, &got, b.call("admin", "POST", "/v1/agent-install", obj{"token": "pnp1.x", "region": "eu", "checks": true}))
	require.Equal(t, "sh --token pnp1.x --region eu --checks", got.Linux)
	b.want(400, nil, b.call("admin", "POST", "/v1/agent-install", obj{"key": "x"}))
	require.Equal(t, 403, b.call("editor", "POST", "/v1/agent-install", obj{}).Code)
	require.Equal(t, 403, b.call("editor", "GET", "/v1/agent-install", nil).Code)

	b = setUp(t, func(_ *api.Config, d *api.Deps) { d.Releases = nil })
	require.Equal(t, 503, b.call("", "GET", "/install.sh", nil).Code)
	require.Equal(t, 503, b.call("admin", "GET", "/v1/agent-install", nil).Code)
	require.Equal(t, 503, b.call("admin", "POST", "/v1/agent-install", obj{}).Code)
}

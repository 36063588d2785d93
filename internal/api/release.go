package api

import (
	"fmt"
	"net/http"

	"panoptes/internal/model"
)

// AgentInstall are the lines that install an agent, by where it is to run.
type AgentInstall struct {
	Linux      string   `json:"linux"`
	OpenRC     string   `json:"openrc"`
	Docker     string   `json:"docker"`
	Kubernetes string   `json:"kubernetes"`
	Windows    string   `json:"windows"`
	Warning    string   `json:"warning,omitempty"` // what keeps other machines from using them
	Platforms  []string `json:"platforms"`         // that this server has programs for
}

// Releases offers the programs of agents.
type Releases interface {
	// Handler answers /agent/ and /install.sh.
	Handler() http.Handler
	// Install writes the lines for a token, which may be empty, and a region, which
	// may be too; with checks the agent offers to run checks.
	Install(token, region string, checks bool) (AgentInstall, error)
}

// releaseRoutes are those of the agents' programs.
func (a *API) releaseRoutes() []route {
	var files http.Handler
	if a.deps.Releases != nil {
		files = a.deps.Releases.Handler()
	}
	serve := a.mounted("agents' programs", files)
	return []route{
		{pattern: "GET /agent/{os}/{arch}", raw: serve, doc: "The program of an agent: linux, darwin, windows or freebsd; amd64, arm64 or armv7."},
		{pattern: "GET /agent/manifest.json", raw: serve, doc: "The programs with their sizes and hashes."},
		{pattern: "GET /agent/manifest.json.sig", raw: serve, doc: "The signature of the manifest by the operator's key."},
		{pattern: "GET /install.sh", raw: serve, doc: "A shell script that installs an agent."},
		{pattern: "POST /v1/agent-install", need: admin, handle: a.agentInstallOf, doc: "The lines that install an agent. What is in the body is in no log of a proxy: give tokens here.", body: installBody{}, answer: AgentInstall{}},
		{pattern: "GET /v1/agent-install", need: admin, handle: a.agentInstall, doc: "The lines that install an agent.", answer: AgentInstall{},
			query: []param{{"token", "what it joins with; the word TOKEN stands there when left out"}, {"region", "of the agent"}, {"checks", "true: the agent offers to run checks; only with a token that lets it"}}},
	}
}

// installBody says what the agents join with.
type installBody struct {
	Token  string `json:"token,omitempty"` // the word TOKEN stands there when left out
	Region string `json:"region,omitempty"`
	Checks bool   `json:"checks,omitempty"` // the agent offers to run checks; only with a token that lets it
}

func (a *API) agentInstallOf(r *http.Request) (any, error) {
	if a.deps.Releases == nil {
		return nil, fmt.Errorf("%w: this server offers no agents", model.ErrUnavailable)
	}
	var b installBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	return a.deps.Releases.Install(b.Token, b.Region, b.Checks)
}

func (a *API) agentInstall(r *http.Request) (any, error) {
	if a.deps.Releases == nil {
		return nil, fmt.Errorf("%w: this server offers no agents", model.ErrUnavailable)
	}
	checks, err := boolParam(r, "checks")
	if err != nil {
		return nil, err
	}
	return a.deps.Releases.Install(r.URL.Query().Get("token"), r.URL.Query().Get("region"), checks)
}

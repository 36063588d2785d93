package api

import (
	"context"
	"net/http"

	"panoptes/internal/model"
)

// resource is a kind of record that has the usual six routes.
type resource struct {
	kind, plural string
	read, write  string // roles
	spec         any
}

const (
	viewer = model.RoleViewer
	editor = model.RoleEditor
	admin  = model.RoleAdmin
)

// resources lists the kinds of record; apply and export take their rights from here too.
func resources() []resource {
	return []resource{
		{model.KindCheck, "checks", viewer, editor, model.Check{}},
		{model.KindReceiver, "receivers", viewer, editor, model.Receiver{}},
		{model.KindRoute, "routes", viewer, editor, model.Route{}},
		{model.KindInhibition, "inhibitions", viewer, editor, model.Inhibition{}},
		{model.KindInterval, "intervals", viewer, editor, model.Interval{}},
		{model.KindMaintenance, "maintenances", viewer, editor, model.Maintenance{}},
		{model.KindRegion, "regions", viewer, editor, model.Region{}},
		{model.KindHostGroup, "hostgroups", viewer, editor, model.HostGroup{}},
		{model.KindScrape, "scrapes", viewer, editor, scrapeBody{}},
		{model.KindRules, "rules", viewer, editor, rulesBody{}},
		{model.KindUser, "users", admin, admin, model.User{}},
		{model.KindKey, "keys", admin, admin, model.Key{}},
		{model.KindSetting, "settings", viewer, admin, model.Setting{}},
	}
}

var pageParams = []param{
	{"q", "words that must all occur; -word must not; field:word looks at one field"},
	{"sort", "field to sort by, with - in front for the reverse"},
	{"limit", "length of a page, 1 to 1000; 50 when left out"},
	{"cursor", "the next of the page before"},
}

// scrapeBody and rulesBody document two kinds of record for OpenAPI; their own
// packages read them.
type (
	scrapeBody struct {
		Name        string            `json:"name"`
		Description string            `json:"description,omitempty"`
		Regions     []string          `json:"regions,omitempty"`
		PerRegion   bool              `json:"per_region,omitempty"`
		Workers     map[string]string `json:"workers,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		Paused      bool              `json:"paused,omitempty"`
		Config      map[string]any    `json:"config"`
	}
	rulesBody struct {
		Name     string            `json:"name"`
		Groups   []map[string]any  `json:"groups"`
		Disabled bool              `json:"disabled,omitempty"`
		Labels   map[string]string `json:"labels,omitempty"`
		Matchers []string          `json:"matchers,omitempty"`
	}
)

// routes is the table of all routes. Nothing is reachable that is not here.
func (a *API) routes() []route {
	table := []route{
		{pattern: "POST /v1/login", origin: true, handle: a.login, doc: "Begins a session; the answer sets its cookie.", body: loginBody{}, answer: loginAnswer{}},
		{pattern: "POST /v1/logout", ask: true, origin: true, handle: a.logout, doc: "Ends the session.", status: http.StatusNoContent},
		{pattern: "GET /v1/me", bound: true, need: viewer, handle: a.me, doc: "Who is asking, and of whom.", answer: meAnswer{}},
		{pattern: "PATCH /v1/me", bound: true, need: viewer, handle: a.patchMe, doc: "Changes one's own name, language or password.", body: mePatch{}, answer: meAnswer{}},
		{pattern: "GET /v1/overview", bound: true, need: viewer, handle: a.overview, doc: "The state of everything at a glance.", answer: overviewAnswer{}},

		{pattern: "POST /v1/checks/test", bound: true, need: editor, handle: a.testCheck, doc: "Runs a check that is not stored, once.", body: checkBody{}, answer: resultsAnswer{}},
		{pattern: "POST /v1/checks/{id}/run", bound: true, need: editor, handle: a.runCheck, doc: "Runs a check now.", answer: resultsAnswer{}},
		{pattern: "GET /v1/checks/{id}/uptime", bound: true, need: viewer, handle: a.uptime, doc: "How much of the time a check was up.", answer: Uptime{}},
		{pattern: "GET /v1/checks/{id}/bars", bound: true, need: viewer, handle: a.bars, doc: "A check's past in equal parts.", answer: barsAnswer{},
			query: []param{{"range", "how far back, 24h when left out"}, {"n", "number of parts, 60 when left out"}}},
		{pattern: "GET /v1/check-types", bound: true, need: viewer, handle: a.checkTypes, doc: "The kinds of check and their fields.", answer: []TypeInfo{}},
		{pattern: "GET /v1/receiver-types", need: viewer, handle: a.receiverTypes, doc: "The kinds of receiver and their fields.", answer: []TypeInfo{}},
		{pattern: "POST /v1/receivers/test", need: editor, handle: a.testReceiver, doc: "Sends a test message through a receiver that is not stored.", body: receiverBody{}, answer: testAnswer{}},
		{pattern: "POST /v1/receivers/{id}/test", need: editor, handle: a.testStoredReceiver, doc: "Sends a test message through a receiver.", answer: testAnswer{}},

		{pattern: "GET /v1/alerts", bound: true, need: viewer, handle: a.alerts, doc: "The alerts that are active or muted.", answer: alertsAnswer{},
			query: []param{{"q", "a matcher like severity=\"critical\"; may be repeated, all must match"}}},
		{pattern: "GET /v1/silences", bound: true, need: viewer, handle: a.silences, doc: "The silences.", answer: silencesAnswer{}},
		{pattern: "POST /v1/silences", bound: true, need: editor, handle: a.createSilence, doc: "Mutes alerts for a while.", body: silenceBody{}, answer: silence{}, status: http.StatusCreated},
		{pattern: "POST /v1/silences/preview", bound: true, need: viewer, handle: a.previewSilence, doc: "The alerts that a silence would mute.", body: previewBody{}, answer: previewAnswer{}},
		{pattern: "DELETE /v1/silences/{id}", bound: true, need: editor, handle: a.deleteSilence, doc: "Ends a silence.", status: http.StatusNoContent},
		{pattern: "GET /v1/events", bound: true, need: viewer, handle: a.events, doc: "What happened, newest first.", answer: eventsAnswer{},
			query: []param{{"kind", "state, alert, delivery, audit, node; several with commas"}, {"subject", "like check/ID; a / at the end for all below"},
				{"severity", "info, warning or critical"}, {"q", "words that must all occur"}, {"from", "RFC 3339, inclusive"}, {"to", "RFC 3339, exclusive"},
				{"limit", "1 to 1000; 100 when left out"}, {"cursor", "the next of the page before"}}},
		{pattern: "GET /v1/stream", bound: true, need: viewer, raw: a.stream, doc: "Server-sent events: hello, check, host, event, record, nodes, health, reload."},
		{pattern: "GET /v1/openapi.json", bound: true, need: viewer, handle: a.openapi, doc: "This document.", answer: map[string]any{}},
		{pattern: "POST /v1/apply", need: editor, handle: a.apply, doc: "Creates or updates many records, all or none.", body: applyBody{}, answer: applyAnswer{}, limit: applyLimit,
			query: []param{{"dry_run", "true only shows what would change"}}},
		{pattern: "GET /v1/export", need: viewer, handle: a.export, doc: "Records in the form that apply takes, without secrets.", answer: exportAnswer{},
			query: []param{{"kind", "kinds, with commas; all when left out"}}},

		{pattern: "GET /ping/{token}", raw: a.ping, doc: "Takes a heartbeat.", query: pingParams},
		{pattern: "POST /ping/{token}", raw: a.ping, doc: "Takes a heartbeat.", query: pingParams},
		{pattern: "GET /ping/{token}/{state}", raw: a.ping, doc: "Takes a heartbeat: start, fail, or the exit code of a job."},
		{pattern: "POST /ping/{token}/{state}", raw: a.ping, doc: "Takes a heartbeat: start, fail, or the exit code of a job."},

		{pattern: "GET /-/healthy", raw: a.healthy, doc: "200 as long as the process lives."},
		{pattern: "GET /-/ready", raw: a.ready, doc: "200 once requests are served, 503 before."},
		{pattern: "POST /-/reload", need: admin, handle: a.reload, doc: "Reads the configuration file again.", status: http.StatusNoContent},
		{pattern: "GET /api/health", ask: true, handle: a.health, doc: "How the server is; without credentials only status and score.", answer: healthAnswer{}},
		{pattern: "GET /metrics", ask: true, raw: a.metricsPage, doc: "The server's own metrics."},

		{pattern: "PUT /metrics/job/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "POST /metrics/job/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "DELETE /metrics/job/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "PUT /metrics/job@base64/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "POST /metrics/job@base64/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "DELETE /metrics/job@base64/", bound: true, need: editor, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "GET /api/v1/metrics", bound: true, need: viewer, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "GET /v1/push-groups", bound: true, need: viewer, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "PUT /api/v1/admin/wipe", need: admin, raw: a.mounted("pushes", a.deps.Pushgateway), hidden: true},
		{pattern: "POST /api/v1/write", bound: true, need: editor, raw: a.mounted("remote write", a.deps.Ingest), doc: "Prometheus remote write, versions 1 and 2."},
		{pattern: "POST /api/v1/otlp/v1/metrics", bound: true, need: editor, raw: a.mounted("OTLP", a.deps.Ingest), doc: "OpenTelemetry metrics over HTTP."},
		{pattern: "GET /api/v1/admin/", need: admin, raw: a.mounted("queries", a.deps.Query), hidden: true},
		{pattern: "POST /api/v1/admin/", need: admin, raw: a.mounted("queries", a.deps.Query), hidden: true},
		{pattern: "GET /api/v1/", bound: true, need: viewer, raw: a.mounted("queries", a.deps.Query), hidden: true},
		{pattern: "POST /api/v1/", bound: true, need: viewer, raw: a.mounted("queries", a.deps.Query), hidden: true},
		{pattern: "GET /debug/pprof/", need: admin, raw: a.mounted("profiles", a.deps.Profile), hidden: true},
		{pattern: "GET /federate", bound: true, need: viewer, raw: a.mounted("queries", a.deps.Query), doc: "Newest samples in Prometheus' text format."},
		{pattern: "GET /api/v2/", need: viewer, raw: a.mounted("alerting", a.deps.Alertmanager), hidden: true},
		{pattern: "/api/v2/", need: editor, raw: a.alertmanagerWrite, hidden: true},

		{pattern: "/v1/", raw: a.unknown, hidden: true},
		{pattern: "/api/", raw: a.unknown, hidden: true},
		{pattern: "/-/", raw: a.unknown, hidden: true},
		{pattern: "/ping/", raw: a.unknown, hidden: true},
		{pattern: "GET /assets/", raw: a.asset, hidden: true},
		{pattern: "GET /login", ask: true, raw: a.loginPage, hidden: true},
		{pattern: "POST /login", ask: true, raw: a.loginForm, hidden: true},
		{pattern: "/", bound: true, need: viewer, page: true, raw: a.page, hidden: true},
	}
	table = append(table, a.clusterRoutes()...)
	table = append(table, a.queryRoutes()...)
	table = append(table, a.backupRoutes()...)
	table = append(table, a.hostRoutes()...)
	table = append(table, a.releaseRoutes()...)
	table = append(table, a.platformRoutes()...)
	for _, res := range resources() {
		table = append(table, a.resourceRoutes(res)...)
	}
	return table
}

// clusterRoutes are those of nodes, tokens and the certificate authority.
func (a *API) clusterRoutes() []route {
	return []route{
		{pattern: "GET /v1/cluster", need: viewer, handle: a.clusterInfo, doc: "Whether configuration can be changed, and what an administrator should do.", answer: ClusterInfo{}},
		{pattern: "POST /v1/cluster/check", need: admin, handle: a.checkCluster, doc: "Compares the copies of samples and events now and repairs what differs.", answer: CheckReport{}},
		{pattern: "GET /v1/cluster/ca", need: admin, handle: a.ca(func(c Cluster, ctx context.Context, _ string) (CAInfo, error) { return c.CA(ctx) }), doc: "The certificate authority.", answer: CAInfo{}},
		{pattern: "POST /v1/cluster/ca/rotate", need: admin, handle: a.ca(Cluster.RotateCA), doc: "Begins the roll-over to a new root certificate.", answer: CAInfo{}},
		{pattern: "POST /v1/cluster/ca/finish", need: admin, handle: a.ca(Cluster.FinishCA), doc: "Ends the roll-over: the old root is worth nothing any more.", answer: CAInfo{}},
		{pattern: "GET /v1/self-monitoring/rules", need: viewer, handle: a.selfRules, doc: "What the servers warn about by themselves, with the defaults.", answer: selfRulesAnswer{}},
		{pattern: "GET /v1/nodes", need: viewer, handle: a.nodeList, doc: "Lists the servers, witnesses and agents.", answer: nodesAnswer{}},
		{pattern: "GET /v1/nodes/{id}", need: viewer, handle: a.node, doc: "One node, by id or name.", answer: Node{}},
		{pattern: "PATCH /v1/nodes/{id}", need: admin, handle: a.onNode(patchNode), doc: "Changes a node's labels, whether it is drained, and whether an agent may run checks.", body: nodePatch{}, answer: Node{}},
		{pattern: "DELETE /v1/nodes/{id}", need: admin, handle: a.removeNode, doc: "Removes a node for good and revokes its certificate.", status: http.StatusNoContent,
			query: []param{{"force", "true also removes a node that is alive"}}},
		{pattern: "POST /v1/nodes/{id}/drain", need: admin, handle: a.onNode(drainNode), doc: "Takes the work from a node, or gives it work again.", body: drainBody{}, answer: Node{}},
		{pattern: "POST /v1/nodes/{id}/promote", need: admin, handle: a.onNode(promoteNode), doc: "Makes a learner of the configuration store a voter.", answer: Node{}},
		{pattern: "POST /v1/nodes/{id}/leader", need: admin, handle: a.onNode(moveLeader), doc: "Makes a voter the leader of the configuration store.", answer: Node{}},
		{pattern: "GET /v1/tokens", need: admin, handle: a.tokens, doc: "Lists the tokens that let nodes join.", answer: tokensAnswer{}},
		{pattern: "POST /v1/tokens", need: admin, handle: a.createToken, doc: "Makes a token and shows it this once.", body: tokenBody{}, answer: tokenInfo{}, status: http.StatusCreated},
		{pattern: "DELETE /v1/tokens/{id}", need: admin, handle: a.revokeToken, doc: "Revokes a token; nodes that joined with it stay.", status: http.StatusNoContent},
	}
}

// resourceRoutes are the usual six routes of a kind of record.
func (a *API) resourceRoutes(res resource) []route {
	base := "/v1/" + res.plural
	one := base + "/{id}"
	rec := recordOf{res.spec}
	list, get, create := a.list(res.kind), a.get(res.kind), a.create(res)
	params := pageParams
	switch res.kind {
	case model.KindCheck:
		list, get = a.listChecks, a.getCheck
		rec = recordOf{checkBody{}}
		params = append(params[:len(params):len(params)], checkParams...)
	case model.KindReceiver:
		rec = recordOf{receiverBody{}}
	case model.KindKey:
		create = a.createKey
	}
	// What is closed to those who are bound to labels has none.
	bound := open(res.kind)
	return []route{
		{pattern: "GET " + base, bound: bound || res.kind == model.KindRegion, need: res.read, handle: list, doc: "Lists " + res.plural + ".", query: params, answer: listOf{rec}},
		{pattern: "POST " + base, bound: bound, need: res.write, handle: create, doc: "Creates one of the " + res.plural + ".", body: rec.spec, answer: rec, status: http.StatusCreated},
		{pattern: "GET " + one, bound: bound, need: res.read, handle: get, doc: "One of the " + res.plural + ", by id or name.", answer: rec},
		{pattern: "PUT " + one, bound: bound, need: res.write, handle: a.update(res), doc: "Replaces one of the " + res.plural + ". If-Match names the revision that was read.", body: rec.spec, answer: rec},
		{pattern: "PATCH " + one, bound: bound, need: res.write, handle: a.patch(res), doc: "Changes some fields (RFC 7386).", body: map[string]any{}, answer: rec},
		{pattern: "DELETE " + one, bound: bound, need: res.write, handle: a.remove(res), doc: "Deletes one of the " + res.plural + ".", status: http.StatusNoContent},
	}
}

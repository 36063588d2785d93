package api_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// document is the part of the OpenAPI document that tests look at.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string `json:"operationId"`
	Role        string `json:"x-role"`
	Responses   map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

func (b *bench) document() (d document) {
	b.want(200, &d, b.call("viewer", "GET", "/v1/openapi.json", nil))
	require.NotEmpty(b.t, d.Paths)
	return d
}

// needed says from the rules, not from the table, which role a route needs.
func needed(method, path string) string {
	under := func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }
	switch {
	case slices.Contains([]string{"/v1/login", "/v1/logout", "/-/healthy", "/-/ready", "/api/health", "/metrics"}, path) || under("/ping") || under("/agent") || path == "/install.sh":
		return ""
	case under("/v1/users") || under("/v1/keys") || path == "/-/reload" || under("/v1/settings") && method != "GET" || under("/api/v1/admin"):
		return model.RoleAdmin
	case under("/v1/tokens") || under("/v1/backup") || path == "/v1/agent-install" || under("/v1/import") || under("/v1/cluster/ca") || (under("/v1/nodes") || under("/v1/cluster")) && method != "GET":
		return model.RoleAdmin
	case strings.HasSuffix(path, "/live"):
		return model.RoleViewer
	case strings.HasSuffix(path, "/actions"):
		return model.RoleEditor
	case under("/v1/hosts") && method != "GET":
		return model.RoleAdmin
	case method == "GET" || path == "/v1/me" || path == "/v1/silences/preview" || path == "/v1/rules/try" || path == "/api/v1/query":
		return model.RoleViewer
	}
	return model.RoleEditor
}

// TestRights asks every route as everybody.
func TestRights(t *testing.T) {
	b := setUp(t)
	var all []string
	for path, ops := range b.document().Paths {
		for method, op := range ops {
			all = append(all, strings.ToUpper(method)+" "+path)
			require.Equal(t, needed(strings.ToUpper(method), path), op.Role, "role in the document of %s %s", method, path)
		}
	}
	// Those that are not documented as ours.
	all = append(all, "GET /api/v1/query", "POST /api/v1/query", "GET /api/v1/status/config", "POST /api/v1/admin/tsdb/delete_series",
		"GET /api/v2/alerts", "POST /api/v2/silences", "DELETE /api/v2/silence/x", "POST /api/v2/alerts", "GET /checks/new")
	require.Greater(t, len(all), 90)
	for _, rt := range all {
		method, path, _ := strings.Cut(rt, " ")
		need := needed(method, path)
		if path == "/v1/stream" {
			method = "HEAD" // else it lasts
		}
		path = strings.NewReplacer("{id}", "x", "{token}", "good", "{state}", "fail").Replace(path)
		for _, role := range []string{"", "unheard-of", "viewer", "editor", "admin"} {
			w := b.call(role, method, path, nil)
			switch {
			case need == "" && path == "/metrics" && !slices.Contains(model.Roles, role):
				require.Equal(t, 401, w.Code, rt)
			case need == "" || model.AtLeast(role, need):
				require.NotContains(t, []int{401, 403}, w.Code, "%s as %q: %s", rt, role, w.Body)
			case slices.Contains(model.Roles, role):
				require.Equal(t, 403, w.Code, "%s as %s", rt, role)
			case path == "/checks/new":
				require.Equal(t, 303, w.Code)
			default:
				require.Equal(t, 401, w.Code, "%s as %q", rt, role)
				require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))
			}
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), rt)
		}
	}
}

func TestRequestsFromOtherSites(t *testing.T) {
	b := setUp(t)
	send := func(header ...string) int {
		return b.call("", "POST", "/v1/regions", obj{"name": header[1]}, append(header, "Cookie", model.SessionCookie+"=editor")...).Code
	}
	require.Equal(t, 201, send("Sec-Fetch-Site", "same-origin"))
	require.Equal(t, 403, send("Sec-Fetch-Site", "cross-site"))
	require.Equal(t, 403, send("Sec-Fetch-Site", "same-site"))
	require.Equal(t, 403, send("Origin", "https://evil.example"))
	require.Equal(t, 201, send("Origin", "http://example.com"), "the host of the request")
	require.Equal(t, 403, b.call("", "POST", "/v1/login", obj{"name": "a", "password": "right"}, "Sec-Fetch-Site", "cross-site").Code)
	require.Equal(t, 403, b.call("", "POST", "/v1/logout", nil, "Sec-Fetch-Site", "cross-site").Code)
	// A key was put there by a program, whatever the browser says.
	require.Equal(t, 201, b.call("editor", "POST", "/v1/regions", obj{"name": "k"}, "Sec-Fetch-Site", "cross-site").Code)

	b = setUp(t, func(c *api.Config, _ *api.Deps) { c.ExternalURL = "https://panoptes.example/x/" })
	require.Equal(t, 201, send("Origin", "https://panoptes.example"))
}

func TestUsersKeysAndExport(t *testing.T) {
	b := setUp(t)
	var k obj
	b.want(201, &k, b.call("admin", "POST", "/v1/keys", obj{"name": "ci", "role": "editor"}))
	require.Equal(t, "pnk_abc_secret", k["key"])
	require.NotContains(t, k, "hash")
	w := b.call("admin", "GET", "/v1/keys/ci", nil)
	require.NotContains(t, w.Body.String(), "pnk_abc_secret")
	var f failure
	b.want(400, &f, b.call("admin", "POST", "/v1/keys", obj{"name": "x", "role": "editor", "hash": strings.Repeat("a", 64)}))
	require.Equal(t, "hash", f.Error.Field)

	b.want(201, nil, b.call("admin", "POST", "/v1/users", obj{"name": "root", "role": "admin", "password": "correct horse"}))
	for _, c := range []struct {
		method string
		body   any
	}{{"DELETE", nil}, {"PATCH", obj{"role": "viewer"}}, {"PATCH", obj{"disabled": true}}, {"PUT", obj{"name": "root", "role": "editor"}}} {
		b.want(409, &f, b.call("admin", c.method, "/v1/users/root", c.body))
		require.Contains(t, f.Error.Message, "last administrator")
	}
	b.want(200, nil, b.call("admin", "PATCH", "/v1/users/root", obj{"display_name": "Root"}))
	demote := obj{"kind": "user", "name": "root", "spec": obj{"name": "root", "role": "viewer"}}
	promote := obj{"kind": "user", "name": "next", "spec": obj{"name": "next", "role": "admin"}}
	b.want(409, nil, b.call("admin", "POST", "/v1/apply", obj{"documents": []obj{demote}}))
	unnamed := obj{"kind": "user", "spec": obj{"name": "root", "role": "viewer"}}
	b.want(409, &f, b.call("admin", "POST", "/v1/apply", obj{"documents": []obj{unnamed}}))
	require.Contains(t, f.Error.Message, "last administrator")
	b.want(200, nil, b.call("admin", "POST", "/v1/apply?dry_run=true", obj{"documents": []obj{demote, promote}}))
	b.want(201, nil, b.call("admin", "POST", "/v1/users", obj{"name": "second", "role": "admin"}))
	second := obj{"kind": "user", "spec": obj{"name": "second", "role": "admin", "disabled": true}}
	b.want(409, nil, b.call("admin", "POST", "/v1/apply", obj{"documents": []obj{second, demote}}))
	b.want(200, nil, b.call("admin", "POST", "/v1/apply?dry_run=true", obj{"documents": []obj{second}}))
	b.want(200, nil, b.call("admin", "PATCH", "/v1/users/root", obj{"role": "viewer"}))

	b.want(201, nil, b.call("editor", "POST", "/v1/checks", shop))
	var docs struct{ Documents []api.Doc }
	b.want(200, &docs, b.call("viewer", "GET", "/v1/export", nil))
	require.Len(t, docs.Documents, 1)
	b.want(200, &docs, b.call("admin", "GET", "/v1/export?kind=user,check", nil))
	require.Len(t, docs.Documents, 3)
	b.want(403, nil, b.call("editor", "GET", "/v1/export?kind=user", nil))
	b.want(400, nil, b.call("editor", "GET", "/v1/export?kind=shoe", nil))

	apply := func(role, kind string) int {
		return b.call(role, "POST", "/v1/apply?dry_run=true", obj{"documents": []obj{{"kind": kind, "name": "n", "spec": obj{"name": "n"}}}}).Code
	}
	require.Equal(t, 200, apply("editor", "check"))
	require.Equal(t, 403, apply("editor", "user"), "apply must not widen rights")
	require.Equal(t, 200, apply("admin", "user"))
	require.Equal(t, 400, apply("admin", "shoe"))
}

func TestMe(t *testing.T) {
	b := setUp(t)
	b.cat.records[model.KindUser] = []model.Record{{Kind: "user", ID: "U-viewer", Name: "viewer", Spec: json.RawMessage(`{"name":"viewer","role":"viewer"}`)}}
	var me struct{ User obj }
	b.want(200, &me, b.call("viewer", "PATCH", "/v1/me", obj{"language": "zh-CN"}))
	require.Equal(t, "zh-CN", me.User["language"])
	var f failure
	b.want(400, &f, b.call("viewer", "PATCH", "/v1/me", obj{"role": "admin"}))
	require.Equal(t, "role", f.Error.Field)
	b.want(400, &f, b.call("viewer", "PATCH", "/v1/me", obj{"password": "another horse"}))
	require.Equal(t, "old_password", f.Error.Field)
	w := b.call("viewer", "PATCH", "/v1/me", obj{"password": "another horse", "old_password": "right"})
	b.want(200, nil, w)
	require.Equal(t, model.SessionCookie, w.Result().Cookies()[0].Name, "the one who changes it stays logged in")

	w = b.call("", "POST", "/v1/login", obj{"name": "a", "password": "right"}, "X-Forwarded-Proto", "https")
	b.want(200, &me, w)
	require.Equal(t, "a", me.User["name"])
	b.want(429, nil, b.call("", "POST", "/v1/login", obj{"name": "limited", "password": "x"}))
	w = b.call("", "POST", "/v1/logout", nil)
	b.want(204, nil, w)
	require.Empty(t, w.Result().Cookies()[0].Value)
}

func TestAuditStaysWithAdministrators(t *testing.T) {
	b := setUp(t)
	for _, s := range []string{"user/u", "key/k", "session/other", "session/editor", "check/c"} {
		b.events.list = append(b.events.list, model.Event{Kind: model.EventAudit, Subject: s})
	}
	count := func(role string) int {
		var l struct{ Items []obj }
		b.want(200, &l, b.call(role, "GET", "/v1/events?kind=audit&from=2026-01-01T00:00:00Z", nil))
		return len(l.Items)
	}
	require.Equal(t, 5, count("admin"))
	require.Equal(t, 2, count("editor"), "its own sessions and the check")
	for _, q := range []string{"kind=shoe", "from=yesterday", "severity=bad", "limit=0", "limit=1001"} {
		b.want(400, nil, b.call("admin", "GET", "/v1/events?"+q, nil))
	}
}

func TestHeartbeats(t *testing.T) {
	b := setUp(t)
	for _, path := range []string{"/ping/good", "/ping/good?status=down&msg=no", "/ping/good/start", "/ping/good/fail", "/ping/good/3"} {
		b.want(200, nil, b.call("", "GET", path, nil))
	}
	b.want(404, nil, b.call("", "POST", "/ping/bad", nil))
	b.want(404, nil, b.call("", "GET", "/ping/"+strings.Repeat("a", 200), nil))
	b.want(400, nil, b.call("", "GET", "/ping/good?status=shoe", nil))
	b.want(400, nil, b.call("", "GET", "/ping/good/shoe", nil))
	b.want(413, nil, b.call("", "POST", "/ping/good", strings.Repeat("a", 11<<10)))
	limited := false
	for range 30 {
		limited = limited || b.call("", "GET", "/ping/good", nil).Code == 429
	}
	require.True(t, limited)
}

func TestCompression(t *testing.T) {
	b := setUp(t)
	for _, n := range strings.Split("abcdefghij", "") {
		b.want(201, nil, b.call("editor", "POST", "/v1/checks", obj{"name": n, "type": "http", "description": strings.Repeat("x", 200)}))
	}
	big := b.call("viewer", "GET", "/v1/checks", nil, "Accept-Encoding", "gzip, br")
	require.Equal(t, "gzip", big.Header().Get("Content-Encoding"))
	plain := b.call("viewer", "GET", "/v1/checks", nil, "Accept-Encoding", "gzip;q=0")
	require.Empty(t, plain.Header().Get("Content-Encoding"))
	require.Less(t, big.Body.Len(), plain.Body.Len()/2)
	require.Empty(t, b.call("viewer", "GET", "/v1/me", nil, "Accept-Encoding", "gzip").Header().Get("Content-Encoding"))
	require.Equal(t, http.StatusOK, b.call("viewer", "HEAD", "/v1/checks", nil).Code)
}

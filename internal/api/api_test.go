package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an API over fakes.
type bench struct {
	t       *testing.T
	cat     *memCatalog
	auth    *tokenAuth
	checks  *memChecks
	events  *memEvents
	cluster *memCluster
	api     *api.API
	handler http.Handler
}

func setUp(t *testing.T, change ...func(*api.Config, *api.Deps)) *bench {
	t.Helper()
	b := &bench{
		t: t, cat: &memCatalog{records: map[string][]model.Record{}}, auth: &tokenAuth{gone: map[string]bool{}},
		checks: &memChecks{}, events: &memEvents{},
	}
	b.cluster = newCluster()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "mounted "+r.URL.Path) })
	cfg := api.Config{ServerName: "test", Version: "1.2.3", Node: "n1"}
	deps := api.Deps{
		Auth: b.auth, Catalog: b.cat, Checks: b.checks, Receivers: memReceivers{}, Events: b.events, Push: memPush{}, Cluster: b.cluster, Hosts: memHosts{}, Backups: memBackups{}, Rules: memRules{}, Scrapes: memScrapes{},
		Health: func(context.Context) api.Health {
			return api.Health{Status: "warning", Score: 90, Parts: []api.HealthPart{{Name: "disk", Level: "L3", Status: "warning", Message: "85 % full"}}}
		},
		SelfRules: func() []api.SelfRule {
			return []api.SelfRule{{Name: "DiskFilling", Threshold: 15, Unit: "%", Max: 90, Severity: "warning", Title: map[string]string{"en": "Disk"}, Runbook: map[string]string{}}}
		},
		Reload: func(context.Context) error { return nil },
		Query:  echo, Releases: memReleases{}, Ingest: echo, Alertmanager: &alertmanager{}, Metrics: echo,
		UI: fstest.MapFS{
			"index.html":          {Data: []byte("<!doctype html>\n<html lang=\"en\"><head><!--base--><!--boot--></head><body></body></html>")},
			"assets/app-1234.js":  {Data: []byte("let a = 1")},
			"assets/raw-1.js":     {Data: []byte("let b = 1")},
			"assets/zip-1.css.gz": {Data: zipped("a{}")},
		},
	}
	for _, f := range change {
		f(&cfg, &deps)
	}
	var err error
	b.api, err = api.New(cfg, deps)
	require.NoError(t, err)
	b.handler = b.api.Handler()
	return b
}

// call sends a request with a bearer token (none when empty).
func (b *bench) call(token, method, path string, body any, header ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	var sent io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(v)
	default:
		j, err := json.Marshal(v)
		require.NoError(b.t, err)
		sent = bytes.NewReader(j)
	}
	r := httptest.NewRequest(method, path, sent)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// get calls and decodes the answer, which must have the status.
func (b *bench) want(status int, out any, w *httptest.ResponseRecorder) {
	b.t.Helper()
	require.Equal(b.t, status, w.Code, w.Body.String())
	if out != nil {
		require.NoError(b.t, json.Unmarshal(w.Body.Bytes(), out), w.Body.String())
	}
}

type failure struct {
	Error struct {
		Code, Message, Field string
		Fields               []struct{ Field, Message string }
	}
}

type obj = map[string]any

var shop = obj{"name": "shop", "type": "http", "target": "https://shop.example/", "http": obj{"method": "GET"}}

func TestCheckLifecycle(t *testing.T) {
	b := setUp(t)
	w := b.call("editor", "POST", "/v1/checks", shop)
	var c obj
	b.want(201, &c, w)
	id := c["id"].(string)
	require.Equal(t, "/v1/checks/"+id, w.Header().Get("Location"))
	require.Equal(t, `"1"`, w.Header().Get("ETag"))
	require.Equal(t, "shop", c["name"])
	require.Equal(t, obj{"method": "GET"}, c["http"])

	b.checks.set(id, model.StatusDown)
	b.want(200, &c, b.call("viewer", "GET", "/v1/checks/shop", nil))
	require.Equal(t, "down", c["state"].(obj)["status"])

	// What was read can be written, with the revision that was read.
	c["target"] = "https://shop.example/health"
	w = b.call("editor", "PUT", "/v1/checks/"+id, c, "If-Match", `"1"`)
	b.want(200, &c, w)
	require.Equal(t, `"2"`, w.Header().Get("ETag"))

	var f failure
	b.want(412, &f, b.call("editor", "PUT", "/v1/checks/"+id, c, "If-Match", `"1"`))
	require.Equal(t, "revision", f.Error.Code)
	b.want(400, &f, b.call("editor", "PUT", "/v1/checks/"+id, c, "If-Match", `yesterday`))
	require.Equal(t, "If-Match", f.Error.Field)

	b.want(200, &c, b.call("editor", "PATCH", "/v1/checks/"+id, obj{"paused": true}))
	require.Equal(t, true, c["paused"])
	b.want(409, &f, b.call("editor", "POST", "/v1/checks", shop))
	b.want(412, nil, b.call("editor", "DELETE", "/v1/checks/"+id, nil, "If-Match", `"1"`))
	b.want(204, nil, b.call("editor", "DELETE", "/v1/checks/"+id, nil))
	b.want(404, &f, b.call("viewer", "GET", "/v1/checks/"+id, nil))
	require.Equal(t, "not_found", f.Error.Code)
}

func TestFaultsNameTheField(t *testing.T) {
	b := setUp(t)
	var f failure
	b.want(400, &f, b.call("editor", "POST", "/v1/checks", obj{"name": "a", "type": "http", "tarjet": "x"}))
	require.Equal(t, "invalid", f.Error.Code)
	require.Equal(t, "tarjet", f.Error.Field)
	require.Equal(t, "tarjet", f.Error.Fields[0].Field)

	b.want(400, &f, b.call("editor", "POST", "/v1/checks", `{"name":`))
	b.want(400, &f, b.call("editor", "POST", "/v1/checks", `[]`))
	b.want(400, &f, b.call("editor", "POST", "/v1/checks", `null`))
	b.want(400, &f, b.call("editor", "POST", "/v1/checks/test", obj{"type": "http", "interval": "soon"}))
	b.want(400, &f, b.call("admin", "POST", "/v1/login", `{"name":"a","pass":"b"}`))
	require.Equal(t, "pass", f.Error.Field)
	b.want(413, &f, b.call("editor", "POST", "/v1/checks", `{"name":"`+strings.Repeat("a", 257<<10)+`"}`))
	require.Equal(t, "too_large", f.Error.Code)
	b.want(413, &f, b.call("editor", "POST", "/v1/apply", `{"documents":[`+strings.Repeat(`{"kind":"check"},`, 1<<20)+`]}`))
	many := obj{"documents": make([]obj, 10_001)}
	b.want(413, &f, b.call("editor", "POST", "/v1/apply", many))

	b.cat.down = model.ErrUnavailable
	w := b.call("editor", "POST", "/v1/checks", shop)
	b.want(503, &f, w)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	var me struct {
		Writable bool
		Reason   string `json:"writable_reason"`
	}
	b.want(200, &me, b.call("viewer", "GET", "/v1/me", nil))
	require.False(t, me.Writable)
	require.NotEmpty(t, me.Reason)
	b.cat.down = context.Canceled // anything unforeseen is told to the log only
	b.want(500, &f, b.call("editor", "POST", "/v1/checks", shop))
	require.Equal(t, "internal", f.Error.Code)
	require.NotContains(t, f.Error.Message, "cancel")
}

func TestMethodsAndUnknownPaths(t *testing.T) {
	b := setUp(t)
	b.want(404, nil, b.call("admin", "GET", "/v1/nothing", nil))
	b.want(404, nil, b.call("", "GET", "/v1/nothing", nil))
	b.want(404, nil, b.call("", "GET", "/-/nothing", nil))
	b.want(404, nil, b.call("admin", "POST", "/nothing", nil))
	w := b.call("admin", "PUT", "/v1/checks", nil)
	b.want(405, nil, w)
	require.Equal(t, "GET, POST", w.Header().Get("Allow"))
}

func TestHealthTellsStrangersLittle(t *testing.T) {
	b := setUp(t)
	var h obj
	b.want(200, &h, b.call("", "GET", "/api/health", nil))
	require.Equal(t, obj{"status": "warning", "score": 90.0}, h)
	b.want(200, &h, b.call("viewer", "GET", "/api/health", nil))
	require.Equal(t, "warning", h["levels"].(obj)["L3"].(obj)["status"])
	require.Equal(t, "ok", h["levels"].(obj)["L1"].(obj)["status"])
	b.want(200, nil, b.call("", "GET", "/-/healthy", nil))
	b.want(200, nil, b.call("", "GET", "/-/ready", nil))

	notYet := setUp(t, func(_ *api.Config, d *api.Deps) { d.Ready = func() error { return model.ErrUnavailable } })
	notYet.want(503, nil, notYet.call("", "GET", "/-/ready", nil))
}

func TestOverview(t *testing.T) {
	b := setUp(t)
	for _, n := range []string{"a", "b", "c"} {
		var c obj
		b.want(201, &c, b.call("editor", "POST", "/v1/checks", obj{"name": n, "type": "http"}))
		b.checks.set(c["id"].(string), map[string]model.Status{"a": model.StatusUp, "b": model.StatusDegraded, "c": model.StatusDown}[n])
	}
	b.events.list = []model.Event{{ID: "1", Kind: model.EventState, Subject: "check/x"}, {ID: "2", Kind: model.EventAudit, Subject: "user/x"}}
	var o struct {
		Health struct{ Score int }
		Checks map[string]int
		Alerts map[string]int
		Worst  []obj
		Events []obj
	}
	b.want(200, &o, b.call("viewer", "GET", "/v1/overview", nil))
	require.Equal(t, 90, o.Health.Score)
	require.Equal(t, 3, o.Checks["total"])
	require.Equal(t, 1, o.Checks["down"])
	require.Equal(t, 1, o.Alerts["critical"])
	require.Len(t, o.Worst, 2)
	require.Equal(t, "c", o.Worst[0]["name"])
	require.Len(t, o.Events, 1)
}

func TestSilences(t *testing.T) {
	b := setUp(t)
	var f failure
	b.want(400, &f, b.call("editor", "POST", "/v1/silences", obj{"matchers": []string{}, "ends_at": time.Now().Add(time.Hour)}))
	require.Equal(t, "matchers", f.Error.Field)
	b.want(400, &f, b.call("editor", "POST", "/v1/silences", obj{"matchers": []string{"a=~\"(\""}, "ends_at": time.Now().Add(time.Hour)}))
	require.Equal(t, "matchers[0]", f.Error.Field)
	var s obj
	b.want(201, &s, b.call("editor", "POST", "/v1/silences", obj{"matchers": []string{`team="web"`, "-region=~cn|us"}, "ends_at": time.Now().Add(time.Hour)}))
	require.Equal(t, "editor", s["created_by"])
	var list struct{ Items []obj }
	b.want(200, &list, b.call("viewer", "GET", "/v1/silences", nil))
	require.Equal(t, []any{`team="web"`, `region!~"cn|us"`}, list.Items[0]["matchers"])
	b.want(204, nil, b.call("editor", "DELETE", "/v1/silences/S1", nil))
	b.want(404, nil, b.call("editor", "DELETE", "/v1/silences/S2", nil))

	var p struct{ Alerts []obj }
	b.want(200, &p, b.call("viewer", "POST", "/v1/silences/preview", obj{"matchers": []string{"team=web"}}))
	require.Len(t, p.Alerts, 1)
	b.want(200, &p, b.call("viewer", "POST", "/v1/silences/preview", obj{"matchers": []string{"team!=web"}}))
	require.Empty(t, p.Alerts)
	b.want(200, &list, b.call("viewer", "GET", "/v1/alerts?q=severity%3D~crit.*", nil))
	require.Len(t, list.Items, 1)
}

func nopLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

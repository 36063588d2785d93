package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
)

// named returns the values of a field of the items of a list.
func named(t *testing.T, a *app.App, path, field string) map[string]int {
	t.Helper()
	code, list := call(t, a, "GET", path, "")
	require.Equal(t, http.StatusOK, code, mustJSON(t, list))
	out := map[string]int{}
	items, _ := list["items"].([]any)
	for _, i := range items {
		v, _ := i.(map[string]any)[field].(string)
		out[v]++
	}
	return out
}

// matrix asks for a range of samples.
func matrix(t *testing.T, a *app.App, path string, query url.Values) [][][2]float64 {
	t.Helper()
	code, got := call(t, a, "GET", path+"?"+query.Encode(), "")
	require.Equal(t, http.StatusOK, code, mustJSON(t, got))
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(mustJSON(t, got)), &answer))
	var out [][][2]float64
	for _, r := range answer.Data.Result {
		var ps [][2]float64
		for _, v := range r.Values {
			f, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			require.NoError(t, err)
			ps = append(ps, [2]float64{v[0].(float64), f})
		}
		out = append(out, ps)
	}
	return out
}

// A prometheus.yml is taken over by a running cluster: every target has one
// server, a rule fires once, and when a server goes nothing seems to end.
func TestPrometheusIsTakenOver(t *testing.T) {
	const n, interval = 20, time.Second
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, "jobs_waiting 7\n")
	}))
	t.Cleanup(target.Close)
	var groups []string
	for i := range n {
		groups = append(groups, fmt.Sprintf("{targets: ['%s'], labels: {n: '%d'}}", strings.TrimPrefix(target.URL, "http://"), i))
	}
	yml := "global: {scrape_interval: 1s, evaluation_interval: 2s}\nrule_files: [rules/*.yml]\nremote_write: [{url: 'http://mimir/push'}]\n" +
		"scrape_configs:\n- {job_name: shop, static_configs: [" + strings.Join(groups, ",") + "]}\n- {job_name: gone, static_configs: [{targets: ['127.0.0.1:1']}]}\n"
	body, err := json.Marshal(map[string]any{"config": yml, "files": map[string]string{
		"shop.yml": "groups: [{name: g, rules: [{alert: Waiting, expr: 'sum(jobs_waiting) > 1', for: 2s}, {record: 'jobs:sum', expr: 'sum(jobs_waiting)'}]}]",
		"bad.yml":  "groups: [{name: b, rules: [{alert: X, expr: 'up =='}]}]",
	}})
	require.NoError(t, err)

	c := grow(t, "eu", "eu", "eu")
	a := c[0].app
	code, got := call(t, a, "POST", "/v1/import/prometheus?dry_run=true", string(body))
	require.Equal(t, http.StatusOK, code, mustJSON(t, got))
	require.Equal(t, map[string]int{}, named(t, a, "/v1/scrapes", "name"))
	code, got = call(t, a, "POST", "/v1/import/prometheus", string(body))
	require.Equal(t, http.StatusOK, code, mustJSON(t, got))
	require.Len(t, got["changes"], 3)
	notes := mustJSON(t, got["notes"])
	require.Contains(t, notes, "remote_write[0]")
	require.Contains(t, notes, "rules bad: groups[0].rules[0].expr")

	up := func(m *member) bool {
		h := named(t, m.app, "/v1/scrape-targets", "health")
		return h["up"] == n && h["down"] == 1
	}
	for _, m := range c {
		require.Eventually(t, func() bool { return up(m) }, 30*time.Second, 200*time.Millisecond, "%s shows all targets", m.cfg.Node)
		require.Eventually(t, func() bool { return named(t, m.app, "/v1/rule-groups", "state")["firing"] == 1 }, 30*time.Second, 200*time.Millisecond)
		require.Eventually(t, func() bool { return len(named(t, m.app, "/v1/alerts?q=alertname%3DWaiting", "fingerprint")) == 1 }, 30*time.Second, 100*time.Millisecond)
	}
	require.Greater(t, len(named(t, a, "/v1/scrape-targets", "server")), 1, "the targets are divided")
	_, firing := call(t, a, "GET", "/v1/alerts?q=alertname%3DWaiting", "")
	began := firing["items"].([]any)[0].(map[string]any)["starts_at"]

	// The server that evaluates the group goes, with the targets that it has.
	var leaves *member
	stays := make([]*member, 0, 2)
	owner := named(t, a, "/v1/rule-groups", "server")
	for _, m := range c {
		if owner[m.cfg.Node] == 1 {
			leaves = m
		} else {
			stays = append(stays, m)
		}
	}
	require.NotNil(t, leaves)
	went := time.Now()
	require.NoError(t, leaves.end())
	via := stays[0]
	require.Eventually(t, func() bool {
		_, list := call(t, via.app, "GET", "/v1/scrape-targets?state=up", "")
		items, _ := list["items"].([]any)
		fresh := 0
		for _, i := range items {
			i := i.(map[string]any)
			at, err := time.Parse(time.RFC3339, i["last_scrape"].(string))
			require.NoError(t, err)
			if i["server"] != leaves.cfg.Node && at.After(went.Add(4*interval)) {
				fresh++
			}
		}
		return fresh == n
	}, 40*time.Second, 200*time.Millisecond, "others scrape what it had")
	require.Eventually(t, func() bool {
		g := named(t, via.app, "/v1/rule-groups", "server")
		return len(g) == 1 && g[leaves.cfg.Node] == 0 && named(t, via.app, "/v1/rule-groups", "state")["firing"] == 1
	}, 20*time.Second, 200*time.Millisecond, "another one evaluates the group")
	_, firing = call(t, via.app, "GET", "/v1/alerts?q=alertname%3DWaiting", "")
	require.Len(t, firing["items"], 1)
	require.Equal(t, began, firing["items"].([]any)[0].(map[string]any)["starts_at"], "the alert goes on")

	// A stale marker would make a series disappear for a moment.
	end := time.Now()
	seconds := func(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }
	steps := matrix(t, via.app, "/api/v1/query_range", url.Values{"query": {`count(up{job="shop"})`}, "start": {seconds(went)}, "end": {seconds(end)}, "step": {"0.1"}})
	require.Len(t, steps, 1)
	for _, p := range steps[0] {
		require.Equal(t, float64(n), p[1], "series at %f, %s after the server went", p[0], time.Duration((p[0]-float64(went.UnixMilli())/1000)*float64(time.Second)))
	}
	for _, ps := range matrix(t, via.app, "/api/v1/query", url.Values{"query": {`up{job="shop"}[1m]`}, "time": {seconds(end)}}) {
		close := 0
		for i := 1; i < len(ps); i++ {
			if ps[i][0] > float64(went.UnixMilli())/1000-2 && ps[i][0]-ps[i-1][0] < 0.4 {
				close++
			}
		}
		// Two servers would make one each second; one that stood still makes up for it once.
		require.LessOrEqual(t, close, 3, "samples of two servers at instants of their own")
	}

	// What was decided before is there, and can be put back.
	_, versions := call(t, via.app, "GET", "/v1/rules/shop/versions", "")
	require.Len(t, versions["items"], 1)
	code, trial := call(t, via.app, "POST", "/v1/rules/try", `{"group":{"name":"t","interval":"1s","rules":[{"alert":"W","expr":"jobs_waiting > 1"}]},"range":"1m"}`)
	require.Equal(t, http.StatusOK, code, mustJSON(t, trial))
	require.Contains(t, mustJSON(t, trial), `"fired_at"`)
	code, _ = call(t, via.app, "GET", "/v1/sd?shard=a&shards=a,b", "")
	require.Equal(t, http.StatusOK, code)
}

// Files of rules are read from the data directory; jobs name only files that
// lie where the server allows it.
func TestFilesOfRulesAndTargets(t *testing.T) {
	dir := t.TempDir()
	a, _ := server(t, dir)
	require.Eventually(t, func() bool { code, _ := call(t, a, "GET", "/-/ready", ""); return code == http.StatusOK }, 30*time.Second, 50*time.Millisecond)
	rule := func(expr string) string {
		return "groups: [{name: own, interval: 1s, rules: [{alert: Own, expr: '" + expr + "'}]}]"
	}
	file := filepath.Join(dir, "rules", "own.yml")
	require.NoError(t, os.WriteFile(file, []byte(rule("vector(1)")), 0o600))
	require.Eventually(t, func() bool { return named(t, a, "/v1/rule-groups", "source")[file] == 1 }, 20*time.Second, 100*time.Millisecond)
	// One rule of it fails, the other one fires on: both are counted and found.
	mixed := "groups: [{name: own, interval: 1s, limit: 1, rules: [{alert: Own, expr: 'vector(1)'}, {alert: Two, expr: 'vector(1) or label_replace(vector(1), \"a\", \"b\", \"\", \"\")'}]}]"
	require.NoError(t, os.WriteFile(file, []byte(mixed), 0o600))
	for _, state := range []string{"broken", "firing"} {
		require.Eventually(t, func() bool {
			_, list := call(t, a, "GET", "/v1/rule-groups?state="+state, "")
			items, _ := list["items"].([]any)
			if len(items) != 1 {
				return false
			}
			counts, _ := items[0].(map[string]any)["counts"].(map[string]any)
			return counts["broken"] == 1.0 && counts["firing"] == 1.0 && list["counts"].(map[string]any)["firing"] == 1.0
		}, 20*time.Second, 100*time.Millisecond, state)
	}
	require.NoError(t, os.WriteFile(file, []byte(rule("vector(1)")), 0o600))
	require.Eventually(t, func() bool { return named(t, a, "/v1/rule-groups?state=broken", "state")["broken"] == 0 }, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules", "bad.yml"), []byte("groups: ["), 0o600))
	require.Eventually(t, func() bool { return named(t, a, "/v1/rule-groups?state=broken", "state")["broken"] == 1 }, 20*time.Second, 100*time.Millisecond)

	leak := `{"name":"leak","config":{"bearer_token_file":"` + dir + `/seal.key","static_configs":[{"targets":["127.0.0.1:1"]}]}}`
	code, got := call(t, a, "POST", "/v1/scrapes", leak)
	require.Equal(t, http.StatusBadRequest, code, mustJSON(t, got))
	require.Contains(t, mustJSON(t, got), `"field":"config.bearer_token_file"`)
	require.Contains(t, mustJSON(t, got), "scrape.files_dirs")
	code, got = call(t, a, "POST", "/v1/import/prometheus", `{"config":"scrape_configs: [{job_name: leak, bearer_token_file: `+dir+`/seal.key, static_configs: [{targets: ['127.0.0.1:1']}]}, {job_name: fine, static_configs: [{targets: ['127.0.0.1:1']}]}]"}`)
	require.Equal(t, http.StatusOK, code, mustJSON(t, got))
	require.Len(t, got["changes"], 1)
	require.Regexp(t, "scrape leak: config.bearer_token_file: .*; the job is not taken over", mustJSON(t, got["notes"]))
	sd := filepath.Join(dir, "sd", "t.json")
	require.NoError(t, os.WriteFile(sd, []byte(`[{"targets":["127.0.0.1:1"]}]`), 0o600))
	code, got = call(t, a, "POST", "/v1/scrapes", `{"name":"files","config":{"file_sd_configs":[{"files":["`+sd+`"]}]}}`)
	require.Equal(t, http.StatusCreated, code, mustJSON(t, got))
	require.Eventually(t, func() bool { return named(t, a, "/v1/scrape-targets", "job")["files"] == 1 }, 20*time.Second, 100*time.Millisecond)
	require.Zero(t, named(t, a, "/v1/scrape-targets", "job")["leak"])
}

// A secret that stands as <redacted> in a job that came as YAML stays what it was.
func TestSecretsOfJobsInYAMLStay(t *testing.T) {
	var seen atomic.Pointer[string]
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pass, _ := r.BasicAuth()
		seen.Store(&pass)
		_, _ = io.WriteString(w, "answers 1\n")
	}))
	defer target.Close()
	a, _ := server(t, t.TempDir())
	settled(t, a)
	job := func(pass string) string {
		config := "static_configs: [{targets: ['" + strings.TrimPrefix(target.URL, "http://") + "']}]\nscrape_interval: 1s\nbasic_auth: {username: me, password: '" + pass + "'}\n"
		text, err := json.Marshal(config)
		require.NoError(t, err)
		return `{"name":"shop","config":` + string(text) + `}`
	}
	code, out := call(t, a, "POST", "/v1/scrapes", job("open sesame"))
	require.Equal(t, http.StatusCreated, code, out)
	asked := func() bool { p := seen.Load(); return p != nil && *p == "open sesame" }
	require.Eventually(t, asked, 20*time.Second, 50*time.Millisecond)
	code, out = call(t, a, "PUT", "/v1/scrapes/shop", job("<redacted>"))
	require.Equal(t, http.StatusOK, code, out)
	seen.Store(nil)
	require.Eventually(t, asked, 20*time.Second, 50*time.Millisecond)
	code, out = call(t, a, "POST", "/v1/scrapes", strings.Replace(job("<redacted>"), "shop", "other", 1))
	require.Equal(t, http.StatusBadRequest, code, out)
}

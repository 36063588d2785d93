package app_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// What team b has is called zebra, and there is a giraffe in all of it: nobody
// asks for a giraffe, so that none may be in an answer to team a.
const (
	zebra   = "zebra"
	giraffe = "giraffe"
)

// ask is a request of somebody of team a.
type ask struct {
	method, path, body string
	kind               string // of the body
}

// TestNoRouteShowsWhatOthersHave asks every route that is open to those who are
// bound to labels. A route that was added to the list and is not asked here fails.
func TestNoRouteShowsWhatOthersHave(t *testing.T) {
	a, _ := server(t, t.TempDir())
	require.Eventually(t, func() bool { code, _ := call(t, a, "GET", "/v1/me", ""); return code == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
	must := func(method, path, body string) map[string]any {
		t.Helper()
		code, out := call(t, a, method, path, body)
		require.Less(t, code, 300, "%s %s: %v", method, path, out)
		return out
	}
	secret, _ := must("POST", "/v1/keys", `{"name":"a","role":"editor","matchers":["team=\"a\""]}`)["key"].(string)
	send := func(secret string, q ask, more ...string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, q.method, a.URL()+strings.ReplaceAll(q.path, " ", "%20"), strings.NewReader(q.body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("Content-Type", "application/json")
		if q.kind != "" {
			req.Header.Set("Content-Type", q.kind)
		}
		for i := 0; i+1 < len(more); i += 2 {
			req.Header.Set(more[i], more[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}

	// What team b has.
	check := must("POST", "/v1/checks", `{"name":"zebra-check","type":"http","target":"http://127.0.0.1:1/giraffe","interval":"1s","timeout":"500ms","description":"giraffe","labels":{"team":"b","secret":"giraffe"}}`)["id"].(string)
	rules := must("POST", "/v1/rules", `{"name":"zebra-rules","labels":{"team":"b"},"groups":[{"name":"zebra-group","interval":"1s","rules":[{"alert":"ZebraAlert","expr":"vector(1)","labels":{"team":"b","secret":"giraffe"},"annotations":{"summary":"giraffe"}},{"record":"zebra_recorded","expr":"vector(1)","labels":{"team":"b","secret":"giraffe"}}]}]}`)["id"].(string)
	ends := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	silence := must("POST", "/v1/silences", `{"matchers":["team=\"b\"","secret=\"giraffe\""],"ends_at":"`+ends+`","comment":"giraffe"}`)["id"].(string)
	now := time.Now().UnixMilli()
	write := prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{{
			Labels:    []prompb.Label{{Name: "__name__", Value: "zebra_metric"}, {Name: "secret", Value: giraffe}, {Name: "team", Value: "b"}},
			Samples:   []prompb.Sample{{Value: 1, Timestamp: now}},
			Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: giraffe}}, Value: 1, Timestamp: now}},
		}},
		Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "zebra_metric", Help: giraffe}},
	}
	raw, err := write.Marshal()
	require.NoError(t, err)
	protobuf := "application/x-protobuf"
	code, out := send(key, ask{"POST", "/api/v1/write", string(snappy.Encode(nil, raw)), protobuf}, "Content-Encoding", "snappy")
	require.Less(t, code, 300, out)
	code, out = send(key, ask{"POST", "/metrics/job/zebra/team/b/secret/giraffe", "zebra_pushed 1\n", "text/plain"})
	require.Less(t, code, 300, out)
	// Somebody asks slowly enough to be on the list of slow queries, perhaps.
	send(key, ask{method: "GET", path: `/api/v1/query?query=zebra_metric{secret="giraffe"}`})
	require.Eventually(t, func() bool {
		_, list := send(key, ask{method: "GET", path: "/v1/alerts"})
		return strings.Contains(list, "ZebraAlert") && strings.Contains(list, "zebra-check")
	}, 60*time.Second, 100*time.Millisecond, "alerts of team b")

	theft := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "__name__", Value: "stolen"}, {Name: "team", Value: "b"}}, Samples: write.Timeseries[0].Samples}}}
	read := prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: now - 3_600_000, EndTimestampMs: now + 3_600_000, Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "__name__", Value: ".+"}}}}}
	raw, err = read.Marshal()
	require.NoError(t, err)
	all := `{__name__=~".%2B"}`
	foreign := []string{check, "zebra-check"}
	foreignRules := []string{rules, "zebra-rules"}
	each := func(method string, ids []string, before, after, body string) (list []ask) {
		for _, id := range ids {
			list = append(list, ask{method: method, path: before + id + after, body: body})
		}
		return list
	}
	get := func(paths ...string) (list []ask) {
		for _, p := range paths {
			list = append(list, ask{method: "GET", path: p})
		}
		return list
	}
	aCheck := `{"name":"mine","type":"http","target":"http://127.0.0.1:1/","interval":"1h"}`
	aGroup := `{"name":"g","rules":[{"alert":"Mine","expr":"count({__name__=~\".+\"}) by (__name__, secret, team)"}]}`
	asks := map[string][]ask{
		"GET /v1/me": get("/v1/me"), "PATCH /v1/me": {{method: "PATCH", path: "/v1/me", body: `{"language":"en"}`}},
		"GET /v1/overview": get("/v1/overview"), "GET /v1/openapi.json": get("/v1/openapi.json"), "GET /": get("/", "/checks"),
		"GET /v1/regions": get("/v1/regions"), "GET /v1/check-types": get("/v1/check-types"),
		"GET /v1/checks":             get("/v1/checks", "/v1/checks?q=zebra", "/v1/checks?sort=-name&bars=5", "/v1/checks?label=team:b", "/v1/checks?q=secret:giraffe"),
		"POST /v1/checks":            {{method: "POST", path: "/v1/checks", body: aCheck}, {method: "POST", path: "/v1/checks", body: `{"name":"zebra-check","type":"http","target":"http://127.0.0.1:1/"}`}},
		"POST /v1/checks/test":       {{method: "POST", path: "/v1/checks/test", body: `{"name":"zebra-check","type":"http","target":"http://127.0.0.1:1/"}`}},
		"GET /v1/checks/{id}":        each("GET", foreign, "/v1/checks/", "", ""),
		"GET /v1/checks/{id}/uptime": each("GET", foreign, "/v1/checks/", "/uptime", ""), "GET /v1/checks/{id}/bars": each("GET", foreign, "/v1/checks/", "/bars", ""),
		"POST /v1/checks/{id}/run": each("POST", foreign, "/v1/checks/", "/run", ""), "PUT /v1/checks/{id}": each("PUT", foreign, "/v1/checks/", "", aCheck),
		"PATCH /v1/checks/{id}": each("PATCH", foreign, "/v1/checks/", "", `{"paused":true}`), "DELETE /v1/checks/{id}": each("DELETE", foreign, "/v1/checks/", "", ""),
		"GET /v1/rules":      get("/v1/rules", "/v1/rules?q=zebra"),
		"POST /v1/rules":     {{method: "POST", path: "/v1/rules", body: `{"name":"mine","groups":[` + aGroup + `]}`}, {method: "POST", path: "/v1/rules", body: `{"name":"zebra-rules","groups":[` + aGroup + `]}`}},
		"GET /v1/rules/{id}": each("GET", foreignRules, "/v1/rules/", "", ""), "GET /v1/rules/{id}/versions": each("GET", foreignRules, "/v1/rules/", "/versions", ""),
		"PUT /v1/rules/{id}":    each("PUT", foreignRules, "/v1/rules/", "", `{"name":"x","groups":[`+aGroup+`]}`),
		"PATCH /v1/rules/{id}":  each("PATCH", foreignRules, "/v1/rules/", "", `{"disabled":true}`),
		"DELETE /v1/rules/{id}": each("DELETE", foreignRules, "/v1/rules/", "", ""),
		"POST /v1/rules/try":    {{method: "POST", path: "/v1/rules/try", body: `{"group":` + aGroup + `,"range":"1h"}`}, {method: "POST", path: "/v1/rules/try", body: `{"group":` + aGroup + `,"range":"1h","matchers":["team=\"b\""]}`}},
		"GET /v1/rule-groups":   get("/v1/rule-groups", "/v1/rule-groups?q=zebra"),
		"GET /v1/alerts":        get("/v1/alerts", `/v1/alerts?q=team="b"`),
		"GET /v1/silences":      get("/v1/silences"), "POST /v1/silences": {{method: "POST", path: "/v1/silences", body: `{"matchers":["alertname=~\".+\""],"ends_at":"` + ends + `"}`}},
		"POST /v1/silences/preview": {{method: "POST", path: "/v1/silences/preview", body: `{"matchers":["alertname=~\".+\""]}`}, {method: "POST", path: "/v1/silences/preview", body: `{"matchers":["team=\"b\""]}`}},
		"DELETE /v1/silences/{id}":  {{method: "DELETE", path: "/v1/silences/" + silence}},
		"GET /v1/events":            get("/v1/events", "/v1/events?q=zebra", "/v1/events?subject=check/"+check, "/v1/events?kind=audit,node,delivery", "/v1/events?limit=1000"),
		"GET /v1/explain":           get("/v1/explain?query=" + all),
		"GET /v1/slow-queries":      get("/v1/slow-queries"), "GET /v1/push-groups": get("/v1/push-groups"), "GET /api/v1/metrics": get("/api/v1/metrics"),
		"GET /federate": get("/federate?match[]=" + all),
		"GET /api/v1/": get("/api/v1/query?query="+all, "/api/v1/query?query=zebra_metric", `/api/v1/query?query=count by (secret) ({team="b"} or {team!="a"})`, `/api/v1/query?query=absent(zebra_metric{team="b"})`,
			"/api/v1/query_range?query="+all+"&start=0&end=60&step=30", "/api/v1/query_exemplars?query="+all+"&start=0&end=9999999999", "/api/v1/series?match[]="+all, `/api/v1/series?match[]={team="b"}`,
			"/api/v1/labels", "/api/v1/labels?match[]="+all, "/api/v1/label/__name__/values", "/api/v1/label/secret/values", "/api/v1/label/team/values", `/api/v1/label/secret/values?match[]={team="b"}`,
			"/api/v1/metadata", "/api/v1/metadata?metric=zebra_metric", "/api/v1/rules", "/api/v1/alerts", "/api/v1/targets", "/api/v1/scrape_pools", "/api/v1/alertmanagers", "/api/v1/targets/metadata",
			"/api/v1/targets/relabel_steps", "/api/v1/features", "/api/v1/notifications", "/api/v1/format_query?query=up", "/api/v1/parse_query?query=up", "/api/v1/status/config", "/api/v1/status/flags",
			"/api/v1/status/runtimeinfo", "/api/v1/status/buildinfo", "/api/v1/status/tsdb", "/api/v1/status/tsdb/blocks", "/api/v1/status/walreplay", "/api/v1/nothing"),
		"POST /api/v1/": {{"POST", "/api/v1/read", string(snappy.Encode(nil, raw)), protobuf}, {"POST", "/api/v1/query", "query=" + all, "application/x-www-form-urlencoded"},
			{"POST", "/api/v1/series", "match[]=" + all, "application/x-www-form-urlencoded"}, {"POST", "/api/v1/labels", "", "application/x-www-form-urlencoded"}, {"POST", "/api/v1/query_exemplars", "query=" + all + "&start=0&end=9999999999", "application/x-www-form-urlencoded"}},
		"POST /api/v1/write":           {{"POST", "/api/v1/write", string(snappy.Encode(nil, mustMarshal(t, &theft))), protobuf}},
		"POST /api/v1/otlp/v1/metrics": {{method: "POST", path: "/api/v1/otlp/v1/metrics", body: `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"otlp_stolen","gauge":{"dataPoints":[{"asDouble":1,"timeUnixNano":"1","attributes":[{"key":"team","value":{"stringValue":"b"}}]}]}}]}]}]}`}},
		"PUT /metrics/job/":            {{"PUT", "/metrics/job/zebra/team/b/secret/giraffe", "stolen 1\n", "text/plain"}}, "POST /metrics/job/": {{"POST", "/metrics/job/zebra/team/b/secret/giraffe", "stolen 1\n", "text/plain"}},
		"DELETE /metrics/job/":     {{method: "DELETE", path: "/metrics/job/zebra/team/b/secret/giraffe"}},
		"PUT /metrics/job@base64/": {{"PUT", "/metrics/job@base64/emVicmE/team/b/secret/giraffe", "stolen 1\n", "text/plain"}}, "POST /metrics/job@base64/": {{"POST", "/metrics/job@base64/emVicmE/team/b/secret/giraffe", "stolen 1\n", "text/plain"}},
		"DELETE /metrics/job@base64/": {{method: "DELETE", path: "/metrics/job@base64/emVicmE/team/b/secret/giraffe"}},
		"GET /v1/stream":              nil, // below
	}
	asks["/"] = asks["GET /"]

	// The stream: whatever happens to team b while team a listens.
	heard := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", a.URL()+"/v1/stream", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Last-Event-ID", "1")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	go func() {
		defer resp.Body.Close()
		var b strings.Builder
		for sc := bufio.NewScanner(resp.Body); sc.Scan() && !strings.Contains(b.String(), "last-of-a"); {
			b.WriteString(sc.Text() + "\n")
		}
		heard <- b.String()
	}()

	list, err := os.ReadFile("../api/testdata/bound.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(list)) {
		pattern := strings.TrimSpace(line)
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		tries, ok := asks[pattern]
		require.True(t, ok, "%s is open to those who are bound, and nothing of it is asked here", pattern)
		for _, q := range tries {
			code, out := send(secret, q, encodingOf(q)...)
			require.NotEqual(t, http.StatusUnauthorized, code, "%s: %s", q.path, out)
			if dec, err := snappy.Decode(nil, []byte(out)); err == nil && strings.HasSuffix(q.path, "/read") {
				out = string(dec)
			}
			if !strings.Contains(q.path, giraffe) { // what it says itself it may hear
				require.NotContains(t, out, giraffe, "%s %s", q.method, q.path)
			}
			if !strings.Contains(strings.ToLower(q.path+q.body), zebra) {
				require.NotContains(t, strings.ToLower(out), zebra, "%s %s", q.method, q.path)
			}
			if strings.Contains(q.path, check) || strings.Contains(q.path, "zebra-") || strings.Contains(q.path, rules) || strings.Contains(q.path, silence) {
				require.True(t, code == http.StatusNotFound || strings.Contains(q.path, "?"), "%s %s answers %d: %s", q.method, q.path, code, out)
			}
			if strings.Contains(q.path, "/team/b") || strings.HasSuffix(q.path, "/write") || strings.Contains(q.path, "otlp") {
				require.GreaterOrEqual(t, code, 400, "%s %s: %s", q.method, q.path, out)
			}
		}
	}
	// A field that a decoder takes for another one leads nowhere.
	for _, body := range []string{`{"name":"c2","type":"http","target":"http://127.0.0.1:1/","labelſ":{"team":"b"}}`, `{"name":"c2","type":"http","target":"http://127.0.0.1:1/","LABELS":{"team":"b"}}`} {
		code, out := send(secret, ask{method: "POST", path: "/v1/checks", body: body})
		require.Equal(t, http.StatusBadRequest, code, out)
	}
	must("PATCH", "/v1/checks/zebra-check", `{"description":"giraffe two"}`)
	code, out = send(secret, ask{method: "POST", path: "/v1/checks", body: strings.Replace(aCheck, "mine", "last-of-a", 1)})
	require.Less(t, code, 300, out)
	_, out = send(secret, ask{method: "PATCH", path: "/v1/checks/last-of-a", body: `{"description":"x"}`})
	require.NotContains(t, out, giraffe)
	select {
	case text := <-heard:
		require.NotContains(t, text, giraffe)
		require.NotContains(t, strings.ToLower(text), zebra)
	case <-time.After(5 * time.Second):
		cancel()
		text := <-heard
		require.NotContains(t, text, giraffe)
		require.NotContains(t, strings.ToLower(text), zebra)
	}

	// Nothing of team b was changed.
	_, out = send(key, ask{method: "GET", path: "/v1/checks/zebra-check"})
	require.Contains(t, out, "giraffe two")
	require.NotContains(t, out, `"paused":true`)
	_, out = send(key, ask{method: "GET", path: "/v1/rules/zebra-rules"})
	require.Contains(t, out, "ZebraAlert")
	require.NotContains(t, out, `"disabled":true`)
	_, out = send(key, ask{method: "GET", path: `/api/v1/query?query={__name__=~"stolen|otlp_stolen"}`})
	require.NotContains(t, out, `"metric"`)
	_, out = send(key, ask{method: "GET", path: "/v1/silences"})
	require.Contains(t, out, silence)
	_, out = send(key, ask{method: "GET", path: "/v1/push-groups"})
	require.Contains(t, out, zebra)

	// All that is not on the list is closed.
	for _, q := range get("/v1/hosts", "/v1/hosts/x", "/v1/hosts/x/snapshot", "/v1/nodes", "/v1/nodes/x", "/v1/hostgroups", "/v1/scrapes", "/v1/scrape-targets", "/v1/sd", "/v1/receivers", "/v1/routes", "/v1/inhibitions",
		"/v1/intervals", "/v1/maintenances", "/v1/settings", "/v1/export", "/v1/cluster", "/v1/receiver-types", "/v1/self-monitoring/rules", "/v1/agent-install", "/v1/users", "/v1/keys", "/v1/tokens", "/v1/backup",
		"/api/v2/alerts", "/api/v2/silences", "/api/v2/status", "/api/v1/admin/tsdb/snapshot", "/debug/pprof/", "/metrics") {
		code, out := send(secret, q)
		require.Equal(t, http.StatusForbidden, code, "%s: %s", q.path, out)
	}
}

func encodingOf(q ask) []string {
	if q.kind == "application/x-protobuf" {
		return []string{"Content-Encoding", "snappy"}
	}
	return nil
}

func mustMarshal(t *testing.T, m interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.Marshal()
	require.NoError(t, err)
	return bytes.Clone(b)
}

package query_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/query"
)

// TestGrafana replays what Grafana's data source for Prometheus asks: when it is
// set up, in the editor, in variables and in panels.
func TestGrafana(t *testing.T) {
	db, now := openDB(t), time.Now().Truncate(time.Second)
	fill(t, db, now)
	h := newQuery(t, query.Config{CacheBytes: 1 << 20}, query.Deps{Storage: db, Metadata: func(string) map[string]query.Metadata {
		return map[string]query.Metadata{"up": {Type: "gauge", Help: "Whether it is."}}
	}}).Handler()
	call := func(method, path string, form url.Values) json.RawMessage {
		t.Helper()
		r := httptest.NewRequest(method, path, nil)
		if method == http.MethodPost {
			r = httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		} else {
			r.URL.RawQuery = form.Encode()
		}
		for k, v := range map[string]string{"X-Grafana-Org-Id": "1", "X-Dashboard-Uid": "abc", "X-Panel-Id": "2", "X-Datasource-Uid": "p", "Accept-Encoding": "identity", "User-Agent": "Grafana/12.0.0"} {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, "%s %s: %s", method, path, w.Body)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		var out struct {
			Status string          `json:"status"`
			Data   json.RawMessage `json:"data"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), w.Body)
		require.Equal(t, "success", out.Status)
		return out.Data
	}
	into := func(data json.RawMessage, v any) {
		t.Helper()
		require.NoError(t, json.Unmarshal(data, v), "%s", data)
	}
	both := []string{http.MethodGet, http.MethodPost}
	unix := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	span := func(v url.Values) url.Values {
		v.Set("start", unix(now.Add(-time.Hour)))
		v.Set("end", unix(now.Add(time.Minute)))
		return v
	}

	var build struct{ Version, GoVersion string }
	into(call(http.MethodGet, "/api/v1/status/buildinfo", nil), &build)
	require.Regexp(t, `^3\.\d+\.\d+$`, build.Version, "decides which features are used")

	for _, method := range both {
		var number struct {
			ResultType string `json:"resultType"`
			Result     [2]any `json:"result"`
		}
		into(call(method, "/api/v1/query", url.Values{"query": {"1+1"}, "time": {unix(now)}}), &number)
		require.Equal(t, "scalar", number.ResultType)
		require.Equal(t, "2", number.Result[1], "the connection test")

		type series struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
			Values [][2]any          `json:"values"`
		}
		var vector struct {
			ResultType string   `json:"resultType"`
			Result     []series `json:"result"`
		}
		into(call(method, "/api/v1/query", url.Values{"query": {"up"}, "time": {unix(now) + ".123"}, "timeout": {"60s"}}), &vector)
		require.Equal(t, "vector", vector.ResultType)
		require.Len(t, vector.Result, 2)
		into(call(method, "/api/v1/query", url.Values{"query": {"up"}, "time": {unix(now)}, "limit": {"1"}}), &vector)
		require.Len(t, vector.Result, 1)
		into(call(method, "/api/v1/query_range", span(url.Values{"query": {"sum by (instance) (up)"}, "step": {"15"}})), &vector)
		require.Equal(t, "matrix", vector.ResultType)
		require.Len(t, vector.Result, 2)
		require.NotEmpty(t, vector.Result[0].Values)
		_, isNumber := vector.Result[0].Values[0][0].(float64)
		_, isText := vector.Result[0].Values[0][1].(string)
		require.True(t, isNumber && isText)

		var names []string
		into(call(method, "/api/v1/labels", span(url.Values{"match[]": {`{__name__="up"}`}})), &names)
		require.Equal(t, []string{"__name__", "instance", "job"}, names)
		into(call(method, "/api/v1/labels", span(url.Values{"match[]": {`up`}, "limit": {"1"}})), &names)
		require.Len(t, names, 1)
		var labelSets []map[string]string
		into(call(method, "/api/v1/series", span(url.Values{"match[]": {`up{instance="a"}`}, "limit": {"40000"}})), &labelSets)
		require.Equal(t, []map[string]string{{"__name__": "up", "job": "node", "instance": "a"}}, labelSets)
		var exemplars []any
		into(call(method, "/api/v1/query_exemplars", span(url.Values{"query": {"up"}})), &exemplars)
		require.NotNil(t, exemplars, "an empty list is one")
	}

	var values []string
	into(call(http.MethodGet, "/api/v1/label/__name__/values", span(url.Values{"limit": {"40000"}})), &values)
	require.Contains(t, values, "up")
	into(call(http.MethodGet, "/api/v1/label/instance/values", span(url.Values{"match[]": {`up{job="node"}`}})), &values)
	require.Equal(t, []string{"a", "b"}, values)
	into(call(http.MethodGet, "/api/v1/label/no_such/values", nil), &values)
	require.Empty(t, values)

	var metadata map[string][]struct{ Type, Help, Unit string }
	into(call(http.MethodGet, "/api/v1/metadata", url.Values{"limit": {"5000"}}), &metadata)
	require.Equal(t, "gauge", metadata["up"][0].Type)
	var rules struct{ Groups []any }
	into(call(http.MethodGet, "/api/v1/rules", nil), &rules)
	require.NotNil(t, rules.Groups)
	var text string
	into(call(http.MethodGet, "/api/v1/format_query", url.Values{"query": {"sum(up)by(job)"}}), &text)
	require.Equal(t, "sum by (job) (up)", text)
	var tree struct{ Type string }
	into(call(http.MethodPost, "/api/v1/parse_query", url.Values{"query": {"sum(up)"}}), &tree)
	require.Equal(t, "aggregation", tree.Type)

	for value, code := range map[string]int{"auto": 200, "5m": 200, "3600": 200, "0s": 200, "much": 400, "-5m": 400} {
		w := do(h, http.MethodGet, "/api/v1/query", url.Values{"query": {"up"}, "max_source_resolution": {value}})
		require.Equal(t, code, w.Code, value)
	}

	// What is wrong is said where Grafana looks for it.
	w := do(h, http.MethodPost, "/api/v1/query_range", span(url.Values{"query": {"up{"}, "step": {"15"}}))
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), `"errorType":"bad_data"`)
}

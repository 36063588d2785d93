//go:build e2e

package remotewrite

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

const ruleText = `groups:
- name: shapes
  interval: 1s
  rules:
  - record: conf:depth:double
    expr: conf_depth * 2
    labels: {kind: derived}
  - alert: Deep
    expr: max_over_time(conf_depth[1h]) > 0
    labels: {severity: page}
    annotations: {summary: "it is {{ $value | humanize }} deep"}
  - alert: Late
    expr: max_over_time(conf_depth[1h]) > 0
    for: 1h
    keep_firing_for: 5m
  - alert: Never
    expr: conf_depth < -1
- name: broken
  interval: 1s
  rules:
  - record: conf:broken
    expr: max_over_time(conf_depth[1h]) * on (zone) group_left () max_over_time(conf_requests_total[1h])
`

// Every call that Grafana's data source makes, and the errors it may meet, are
// answered as a real Prometheus answers them: the same keys in the same order,
// the same values, codes and kinds of errors.
func TestShapesOfAnswers(t *testing.T) {
	conformance(t)
	srv := harness.Start(t, harness.Binary(t), t.TempDir())
	addr, gone := target(t)
	rules := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(rules, []byte(ruleText), 0o600))
	base := startPrometheus(t, map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "scrape_protocols": []string{"PrometheusProto"}},
		"rule_files": []string{rules},
		"scrape_configs": []any{map[string]any{
			"job_name": "conf", "scrape_native_histograms": true, "always_scrape_classic_histograms": true,
			"static_configs": []any{map[string]any{"targets": []string{addr}, "labels": map[string]any{"zone": "ü"}}},
		}},
		"remote_write": []any{map[string]any{
			"url": srv.URL + "/api/v1/write", "send_exemplars": true, "send_native_histograms": true,
			"authorization": map[string]any{"credentials": harness.APIKey}, "queue_config": map[string]any{"batch_send_deadline": "200ms", "max_shards": 1},
			"metadata_config": map[string]any{"send": true, "send_interval": "1s"},
			// We evaluate the same rules.
			"write_relabel_configs": []any{map[string]any{"source_labels": []string{"__name__"}, "regex": "ALERTS.*|conf:.*", "action": "drop"}},
		}},
	}, "--enable-feature=promql-per-step-stats") // as ours
	out, err := srv.CLI("kind: rules\nname: shapes\nspec:\n  "+strings.ReplaceAll(ruleText, "\n", "\n  "), "apply", "-f", "-")
	require.NoError(t, err, out)
	begin := time.Now().Truncate(time.Second)
	require.Eventually(t, func() bool { return number(t, base, "count_over_time(conf_depth[1m])") >= 8 }, patience, 200*time.Millisecond)
	gone()
	require.Eventually(t, func() bool { return number(t, base, `absent(conf_depth)`) == 1 }, patience, 200*time.Millisecond)
	end := time.Now().Truncate(time.Second)
	require.Eventually(t, func() bool {
		q := url.Values{"query": {fmt.Sprintf(`{job="conf",__name__!~"ALERTS.*|conf:.*"}[%ds]`, end.Unix()-begin.Unix()+5)}, "time": {fmt.Sprint(end.Unix())}}
		want, err := ask(base, "/api/v1/query", q)
		require.NoError(t, err)
		got, err := ask(srv.URL, "/api/v1/query", q)
		return err == nil && want == got
	}, patience, 300*time.Millisecond, "both have the same")
	for _, b := range []string{base, srv.URL} {
		require.Eventually(t, func() bool {
			text, err := ask(b, "/api/v1/rules", nil)
			return err == nil && strings.Contains(text, `"health": "err"`) && !strings.Contains(text, `"health": "unknown"`) &&
				number(t, b, `count(ALERTS)`) >= 2 && number(t, b, `count(count_over_time(conf:depth:double[1h]))`) == 1
		}, patience, 200*time.Millisecond, "rules were evaluated by %s", b)
	}
	compareCalls(t, grafanaCalls(begin, end), base, srv.URL)
}

// form makes one of pairs of keys and values.
func form(pairs ...string) url.Values {
	out := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Add(pairs[i], pairs[i+1])
	}
	return out
}

func grafanaCalls(begin, end time.Time) (out []call) {
	at, from, to := fmt.Sprint(end.Add(-5*time.Second).Unix()), fmt.Sprint(begin.Unix()), fmt.Sprint(end.Unix())
	add := func(c call) { out = append(out, c) }
	both := func(path string, pairs ...string) {
		for _, m := range []string{http.MethodGet, http.MethodPost} {
			add(call{method: m, path: "/api/v1/" + path, form: form(pairs...)})
		}
	}
	get := func(path, varies string, pairs ...string) {
		add(call{method: http.MethodGet, path: "/api/v1/" + path, form: form(pairs...), varies: varies})
	}
	span := []string{"start", from, "end", to}
	spanning := func(path string, pairs ...string) { both(path, append(pairs, span...)...) }

	// Panels and the editor.
	for _, q := range []string{"1+1", `"text"`, "conf_depth", "conf_depth[10s]", "conf_native_seconds", `sum by (code) (conf_requests_total)`, "no_such", "time()",
		"rate(conf_depth[10s])", "histogram_quantile(2, conf_classic_seconds_bucket)", "sort_desc(conf_requests_total)", "topk(1, conf_requests_total)",
		"conf_depth / 0", "-conf_depth / 0", "0 * conf_depth / 0", "sum(conf_native_seconds) + sum(conf_depth)"} {
		both("query", "query", q, "time", at)
	}
	both("query", "query", "conf_requests_total", "time", at, "limit", "1")
	both("query", "query", "conf_requests_total", "time", at, "timeout", "30s", "lookback_delta", "20s")
	both("query", "query", "conf_depth", "time", end.Add(-5*time.Second).UTC().Format(time.RFC3339))
	get("query", "Time|samples|Samples", "query", "conf_depth", "time", at, "stats", "true")
	get("query", "Time|samples|Samples", "query", "conf_depth", "time", at, "stats", "all")
	for _, q := range []string{"conf_depth", "1", "conf_native_seconds", "sum by (code) (rate(conf_requests_total[5s]))", "no_such", "rate(conf_depth[10s])", "histogram_quantile(0.9, rate(conf_native_seconds[5s]))"} {
		spanning("query_range", "query", q, "step", "1")
		spanning("query_range", "query", q, "step", "5s")
	}
	spanning("query_range", "query", "conf_requests_total", "step", "1", "limit", "1")
	get("query_range", "Time|samples|Samples", append([]string{"query", "conf_depth", "step", "5", "stats", "true"}, span...)...)

	// Variables and completion.
	for _, m := range []string{http.MethodGet, http.MethodPost} { // histograms come in an order of their own
		add(call{method: m, path: "/api/v1/series", form: form(append([]string{"match[]", `{job="conf"}`}, span...)...), unordered: true})
	}
	spanning("labels", "match[]", `{job="conf"}`)
	get("label/__name__/values", "", append([]string{"match[]", `{job="conf"}`}, span...)...)
	for _, m := range []string{"conf_depth", "no_such", `{__name__=~"conf_.*_total"}`, `conf_requests_total{code!="200"}`} {
		spanning("series", "match[]", m)
		spanning("labels", "match[]", m)
		get("label/code/values", "", append([]string{"match[]", m}, span...)...)
		get("label/__name__/values", "", append([]string{"match[]", m}, span...)...)
	}
	spanning("series", "match[]", "conf_depth", "match[]", "conf_requests_total")
	spanning("series", "match[]", `{job="conf"}`, "limit", "2")
	spanning("labels", "match[]", `{job="conf"}`, "limit", "2")
	get("label/__name__/values", "", append([]string{"match[]", `{job="conf"}`, "limit", "2"}, span...)...)
	get("label/no_such/values", "")
	get("label/U__a_2e_b/values", "")

	for _, m := range []string{"conf_requests_total", "conf_depth", "conf_native_seconds", "conf_summary_seconds", "no_such"} {
		get("metadata", "", "metric", m)
	}
	get("metadata", "", "metric", "conf_depth", "limit", "1", "limit_per_metric", "1")
	get("metadata", "", "limit", "x")
	get("metadata", "", "limit_per_metric", "x")
	spanning("query_exemplars", "query", "conf_requests_total")
	spanning("query_exemplars", "query", "conf_classic_seconds_bucket")
	spanning("query_exemplars", "query", "no_such")
	for _, q := range []string{"sum(up)by(job)", "up{", "", "1 +", "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m] offset 3m)))", "a and on (b) c"} {
		both("format_query", "query", q)
		both("parse_query", "query", q)
	}

	// Alerting.
	vary := "evaluationTime|lastEvaluation|activeAt|/file|lastError|groupNextToken" // a token is a hash of the file's name
	get("rules", vary)
	get("rules", vary, "type", "alert")
	get("rules", vary, "type", "record")
	get("rules", vary, "rule_name[]", "Deep")
	get("rules", vary, "rule_group[]", "shapes", "exclude_alerts", "true")
	get("rules", vary, "match[]", `{severity="page"}`)
	get("rules", vary, "group_limit", "1")
	get("rules", vary, "type", "other")
	get("rules", vary, "rule_group[]", "no_such")
	get("rules", vary, "group_next_token", "abc")
	get("rules", vary, "group_limit", "-1")
	get("rules", vary, "match[]", "up{")
	get("alerts", "activeAt")
	get("alertmanagers", "")
	for _, path := range []string{"buildinfo", "config", "runtimeinfo", "walreplay"} {
		get("status/"+path, "data/")
	}
	get("notifications", "")

	// What goes wrong.
	for _, q := range []string{"up{", "", "foo bar", "sum(", "rate(conf_depth)", "conf_depth[5m:", "no_such_function(1)", "conf_requests_total + on (job) conf_requests_total", "sum_over_time(conf_depth[1m:0s])"} {
		both("query", "query", q, "time", at)
		spanning("query_range", "query", q, "step", "1")
	}
	both("query", "query", "up", "time", "yesterday")
	both("query", "query", "up", "timeout", "long")
	both("query", "query", "up", "limit", "x")
	both("query", "query", "up", "lookback_delta", "x")
	heavy := "quantile_over_time(0.5, vector(1)[3000s:1s])" // sorts millions of values
	both("query_range", "query", heavy, "start", fmt.Sprint(begin.Unix()-3000), "end", to, "step", "1", "timeout", "0.01")
	both("query_range", "query", "up", "start", to, "end", from, "step", "1")
	both("query_range", "query", "up", "start", from, "end", to)
	both("query_range", "query", "up", "start", from, "end", to, "step", "0")
	both("query_range", "query", "up", "start", from, "end", to, "step", "-5")
	both("query_range", "query", "up", "start", from, "end", to, "step", "x")
	both("query_range", "query", "up", "start", "x", "end", to, "step", "1")
	both("query_range", "query", "up", "start", from, "end", "x", "step", "1")
	both("query_range", "query", "up", "start", "0", "end", to, "step", "1")
	both("series")
	both("series", "match[]", "")
	both("series", "match[]", "up{")
	both("series", "match[]", `{a=""}`)
	both("series", "match[]", "up", "start", "x")
	both("series", "match[]", "up", "limit", "-1")
	both("labels", "match[]", "up{")
	both("labels", "start", to, "end", from)
	get("label/code/values", "", "match[]", "up{")
	get("label/0bad/values", "")
	get("label/code/values", "", "start", "x")
	both("query_exemplars", "query", "up{")
	both("query_exemplars", "query", "conf_depth", "start", to, "end", from)
	for _, path := range []string{"/api/v1/no_such", "/api/v1/", "/api/v1/query/deeper"} {
		add(call{method: http.MethodGet, path: path, form: url.Values{}})
	}
	add(call{method: http.MethodPost, path: "/api/v1/label/job/values", form: url.Values{}})
	for method, path := range map[string]string{http.MethodDelete: "query", http.MethodPut: "labels", http.MethodPatch: "rules"} {
		add(call{method: method, path: "/api/v1/" + path, form: url.Values{}, differs: "who uses a wrong method is told as everywhere in our API, in JSON"})
	}
	return out
}

//go:build e2e

package remotewrite

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"

	"panoptes/test/harness"
)

// federated are series of every kind that federation knows.
func federated(now time.Time) []prompb.TimeSeries {
	series := func(name string, labels ...string) prompb.TimeSeries {
		ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: name}}}
		for i := 0; i+1 < len(labels); i += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
		}
		return ts
	}
	at := func(ago time.Duration) int64 { return now.Add(-ago).UnixMilli() }
	float := func(ts prompb.TimeSeries, values ...float64) prompb.TimeSeries {
		for i, v := range values {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: at(time.Duration(len(values)-i) * 5 * time.Second), Value: v})
		}
		return ts
	}
	histograms := func(ts prompb.TimeSeries, hint prompb.Histogram_ResetHint, more func(*prompb.Histogram)) prompb.TimeSeries {
		for i := range 3 {
			n := uint64(i + 3)
			h := prompb.Histogram{
				Count: &prompb.Histogram_CountInt{CountInt: n + 3}, Sum: 1.5 * float64(n), Schema: 2, ZeroThreshold: 1e-128, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1},
				PositiveSpans: []prompb.BucketSpan{{Offset: 1, Length: 1}, {Offset: 3, Length: 1}}, PositiveDeltas: []int64{int64(n), 1 - int64(n)},
				NegativeSpans: []prompb.BucketSpan{{Length: 1}}, NegativeDeltas: []int64{1}, ResetHint: hint, Timestamp: at(time.Duration(3-i) * 5 * time.Second),
			}
			if more != nil {
				more(&h)
			}
			ts.Histograms = append(ts.Histograms, h)
		}
		return ts
	}
	custom := func(h *prompb.Histogram) {
		h.Schema, h.ZeroThreshold, h.ZeroCount, h.NegativeSpans, h.NegativeDeltas = -53, 0, nil, nil, nil
		h.CustomValues, h.PositiveSpans, h.PositiveDeltas = []float64{0.5, 1, 5}, []prompb.BucketSpan{{Length: 2}, {Offset: 1, Length: 1}}, []int64{2, 1, -2}
		h.Count = &prompb.Histogram_CountInt{CountInt: 6}
	}
	floats := func(h *prompb.Histogram) {
		h.Count, h.ZeroCount = &prompb.Histogram_CountFloat{CountFloat: 4.75}, &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: 0.25}
		h.PositiveDeltas, h.NegativeDeltas, h.PositiveCounts, h.NegativeCounts = nil, nil, []float64{2.5, 1.5}, []float64{0.5}
	}
	stale := math.Float64frombits(value.StaleNaN)
	old := series("fed_old", "instance", "a")
	old.Samples = []prompb.Sample{{Timestamp: at(6 * time.Minute), Value: 1}}
	aging := series("fed_aging", "instance", "a")
	aging.Samples = []prompb.Sample{{Timestamp: at(2 * time.Minute), Value: 7}}
	return []prompb.TimeSeries{
		float(series("fed_requests_total", "code", "200", "instance", "a", "job", "web"), 1, 2, 3),
		float(series("fed_requests_total", "code", "500", "instance", "a", "job", "web"), 1, 1, 1),
		float(series("fed_requests_total", "code", "200", "instance", "b", "job", "web"), 10, 20, 30),
		float(series("fed_aggregated"), 0.1, 1e300),
		float(series("fed_quoted", "instance", "a", "text", "a \"quote\", a \\ and\na line"), math.Inf(1)),
		float(series("fed_small", "instance", ""), -1e-300),
		float(series("fed_nan", "instance", "a"), math.NaN()),
		float(series("fed_gone", "instance", "a"), 1, stale),
		float(series("fed_back", "instance", "a"), stale, 2),
		float(series("fed:rule:sum", "zone", "ü"), 42),
		float(series("fed.utf8 name", "instance", "a", "a label", "x"), 5),
		old, aging,
		histograms(series("fed_native", "instance", "a"), prompb.Histogram_UNKNOWN, nil),
		histograms(series("fed_native_gauge", "instance", "a"), prompb.Histogram_GAUGE, nil),
		histograms(series("fed_native_floats", "instance", "a"), prompb.Histogram_UNKNOWN, floats),
		histograms(series("fed_native_custom", "instance", "a"), prompb.Histogram_UNKNOWN, custom),
	}
}

func writeTo(t testing.TB, base string, series []prompb.TimeSeries) {
	t.Helper()
	raw, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	require.NoError(t, err)
	req, err := http.NewRequest(http.MethodPost, base+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, raw)))
	require.NoError(t, err)
	for k, v := range map[string]string{"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0", "Authorization": "Bearer " + harness.APIKey} {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, 2, res.StatusCode/100, "%d %s", res.StatusCode, body)
}

// federation asks for metrics and returns what says the same whatever the order
// of series of a name: the lines, or the families as text.
func federation(base, accept string, matches []string) (code int, contentType string, lines []string, err error) {
	req, err := http.NewRequest(http.MethodGet, base+"/federate?"+url.Values{"match[]": matches}.Encode(), nil)
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	code, contentType = res.StatusCode, res.Header.Get("Content-Type")
	if strings.Contains(contentType, "encoding=delimited") {
		r := bufio.NewReader(res.Body)
		for {
			var f dto.MetricFamily
			if err := protodelim.UnmarshalFrom(r, &f); err == io.EOF {
				break
			} else if err != nil {
				return 0, "", nil, err
			}
			for _, m := range f.Metric {
				one := dto.MetricFamily{Name: f.Name, Type: f.Type, Help: f.Help, Metric: []*dto.Metric{m}}
				// Between some words prototext puts one space or two, as it likes.
				lines = append(lines, strings.Join(strings.Fields(prototext.Format(&one)), " "))
			}
		}
	} else {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return 0, "", nil, err
		}
		for _, line := range strings.Split(string(body), "\n") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	slices.Sort(lines)
	return code, contentType, lines, nil
}

// integers is our one other way: counts of classic buckets that are whole are
// written as integers, which older readers of the binary format understand.
func integers(lines []string) []string {
	out := slices.Clone(lines)
	for i, line := range out { // the one histogram with buckets counts six
		out[i] = strings.ReplaceAll(line, "cumulative_count_float", "cumulative_count")
		out[i] = regexp.MustCompile(`sample_count_float: ?6\b`).ReplaceAllStringFunc(out[i], func(s string) string { return strings.Replace(s, "_float", "", 1) })
	}
	slices.Sort(out)
	return out
}

// What /federate gives is what a real Prometheus gives that has the same samples.
func TestFederation(t *testing.T) {
	conformance(t)
	srv := harness.Start(t, harness.Binary(t), t.TempDir())
	base := startPrometheus(t, map[string]any{"storage": map[string]any{"tsdb": map[string]any{"out_of_order_time_window": "1h"}}}, "--web.enable-remote-write-receiver")
	now := time.Now()
	for _, b := range []string{base, srv.URL} {
		writeTo(t, b, federated(now))
	}
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding="
	all := `{__name__=~"fed.*"}`
	compared, most := 0, 0
	for _, accept := range []string{
		"", "*/*", "text/plain", "text/plain;version=0.0.4", "text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain;version=1.0.0;escaping=dots",
		"text/plain;version=1.0.0;escaping=values", "text/plain;version=0.0.4;escaping=underscores", "application/json", "text/html,*/*;q=0.8",
		proto + "delimited", proto + "delimited;escaping=allow-utf-8;q=0.7,text/plain;q=0.1", proto + "text", proto + "compact-text", proto + "compact-text;escaping=allow-utf-8",
	} {
		for _, matches := range [][]string{
			{all}, {"fed_requests_total"}, {`fed_requests_total{code="200"}`, `{instance="b"}`}, {"fed_requests_total", "fed_requests_total"},
			{`{__name__=~"fed:.*"}`, "fed_aging"}, {"no_such"}, {`{__name__="fed.utf8 name"}`}, {`{__name__=~"fed_native.*",instance!="b"}`}, {`{"fed.utf8 name","a label"="x"}`},
			{"up{"}, {""}, {`{a="",__name__=~"fed.*"}`}, {`{job=~".*",__name__=~"fed.*"}`},
		} {
			what := fmt.Sprintf("Accept: %s, match[]=%q", accept, matches)
			code, contentType, want, err := federation(base, accept, matches)
			require.NoError(t, err, what)
			gotCode, gotType, got, err := federation(srv.URL, accept, matches)
			require.NoError(t, err, what)
			require.Equal(t, code, gotCode, what)
			compared++
			if code != 200 {
				continue // in JSON, as all refusals of queries; theirs is text
			}
			require.Equal(t, contentType, gotType, what)
			require.Equal(t, integers(want), got, what)
			most = max(most, len(want))
		}
	}
	require.Greater(t, most, 20)
	t.Logf("%d answers of /federate are the same", compared)

	// Where we answer otherwise, and mean it.
	code, _, _, err := federation(base, "", nil)
	require.NoError(t, err)
	require.Equal(t, 200, code)
	code, _, _, err = federation(srv.URL, "", nil)
	require.NoError(t, err)
	require.Equal(t, 400, code, "who names no series is told so, instead of getting nothing")
	const openMetrics = "application/openmetrics-text;version=1.0.0"
	_, contentType, _, err := federation(base, openMetrics, []string{"fed_aging"})
	require.NoError(t, err)
	require.Contains(t, contentType, "text/plain")
	_, contentType, _, err = federation(srv.URL, openMetrics, []string{"fed_aging"})
	require.NoError(t, err)
	require.Contains(t, contentType, "application/openmetrics-text", "OpenMetrics is given to who wants it")

	// A Prometheus that federates from both gets the same.
	job := func(name, from string) map[string]any {
		return map[string]any{
			"job_name": name, "honor_labels": true, "metrics_path": "/federate", "params": map[string]any{"match[]": []string{all}}, "scrape_native_histograms": true,
			"authorization":          map[string]any{"credentials": harness.APIKey},
			"static_configs":         []any{map[string]any{"targets": []string{strings.TrimPrefix(from, "http://")}}},
			"metric_relabel_configs": []any{map[string]any{"target_label": "origin", "replacement": name}},
		}
	}
	for _, protocols := range [][]string{{"PrometheusProto"}, {"PrometheusText1.0.0"}, {"OpenMetricsText1.0.0", "PrometheusText0.0.4"}} {
		top := startPrometheus(t, map[string]any{
			"global":         map[string]any{"scrape_interval": "1s", "scrape_protocols": protocols},
			"storage":        map[string]any{"tsdb": map[string]any{"out_of_order_time_window": "1h"}},
			"scrape_configs": []any{job("ours", srv.URL), job("theirs", base)},
		})
		require.Eventually(t, func() bool { return number(t, top, `count(count by (origin) ({__name__=~"fed.*"}))`) == 2 }, patience, 200*time.Millisecond)
		at := fmt.Sprint(time.Now().Unix())
		of := func(origin string) []string {
			text, err := ask(top, "/api/v1/query", url.Values{"query": {fmt.Sprintf(`{__name__=~"fed.*",origin=%q}[10m]`, origin)}, "time": {at}})
			require.NoError(t, err)
			var data struct{ Result []json.RawMessage }
			decode(t, []byte(text), &data)
			var out []string
			for _, r := range data.Result {
				out = append(out, strings.ReplaceAll(string(r), fmt.Sprintf("%q", origin), `"both"`))
			}
			slices.Sort(out)
			return out
		}
		want := of("theirs")
		require.Greater(t, len(want), 5, "%v", protocols)
		require.Equal(t, want, of("ours"), "%v", protocols)
	}
}

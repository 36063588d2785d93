//go:build e2e

package remotewrite

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"panoptes/test/harness"
)

// startPushgateway builds the original, unless it is there, and starts it.
func startPushgateway(t testing.TB) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin/pushgateway")
	require.NoError(t, err)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/prometheus/pushgateway")
	build.Dir = "../pushgateway"
	out, err := build.CombinedOutput()
	require.NoError(t, err, "build pushgateway: %s", out)
	addr := harness.FreeAddr(t, "127.0.0.1")
	log := &harness.LogBuffer{}
	cmd := exec.Command(bin, "--web.listen-address="+addr, "--web.enable-admin-api")
	cmd.Env, cmd.Stdout, cmd.Stderr = os.Environ(), log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ends is not what is tested
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("pushgateway said:\n%s", log)
		}
	})
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond)
	return "http://" + addr
}

// push is one request to both.
type push struct {
	method, path string
	body         string
	header       []string
	differs      string // codes of theirs and ours and why they are not the same
}

func (p push) send(t testing.TB, base string) int {
	t.Helper()
	req, err := http.NewRequest(p.method, base, strings.NewReader(p.body))
	require.NoError(t, err)
	path, err := url.PathUnescape(p.path)
	if err != nil {
		path = p.path
	}
	req.URL.Path, req.URL.RawPath = path, p.path
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	for i := 0; i+1 < len(p.header); i += 2 {
		req.Header.Set(p.header[i], p.header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	require.NoError(t, err, "%s %s", p.method, p.path)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res.StatusCode
}

// pushedFamilies is a push in protobuf.
func pushedFamilies(t testing.TB) string {
	var b bytes.Buffer
	for _, f := range []*dto.MetricFamily{
		{Name: proto.String("proto_gauge"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Label: []*dto.LabelPair{{Name: proto.String("a"), Value: proto.String("b")}}, Gauge: &dto.Gauge{Value: proto.Float64(2.5)}}}},
		{Name: proto.String("proto_seconds"), Type: dto.MetricType_HISTOGRAM.Enum(), Help: proto.String("With buckets."), Metric: []*dto.Metric{{Histogram: &dto.Histogram{
			SampleCount: proto.Uint64(5), SampleSum: proto.Float64(7), Bucket: []*dto.Bucket{{UpperBound: proto.Float64(0.5), CumulativeCount: proto.Uint64(2)}, {UpperBound: proto.Float64(math.Inf(1)), CumulativeCount: proto.Uint64(5)}},
		}}}},
	} {
		_, err := protodelim.MarshalTo(&b, f)
		require.NoError(t, err)
	}
	return b.String()
}

func pushes(t testing.TB) []push {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("zipped 1\n"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	return []push{
		{method: "PUT", path: "/metrics/job/a", body: "x 1\n"},
		{method: "POST", path: "/metrics/job/a", body: "y{l=\"1\"} 2\ny{l=\"2\"} 3\n"},
		{method: "POST", path: "/metrics/job/a", body: "# HELP y Help of y.\n# TYPE y gauge\ny{l=\"3\"} 4\n"},
		{method: "PUT", path: "/metrics/job/a", body: "z -Inf\nnan NaN\nbig 1e300\n"},
		{method: "PUT", path: "/metrics/job/a/instance/i", body: "# TYPE requests_total counter\nrequests_total{code=\"200\",instance=\"other\",job=\"other\"} 7\n"},
		{method: "POST", path: "/metrics/job/a/instance/i", body: "requests_total{code=\"500\"} 1\n"},
		{method: "PUT", path: "/metrics/job/b", body: "# TYPE requests_total gauge\nrequests_total 1\n"},
		{method: "PUT", path: "/metrics/job/b", body: "# HELP requests_total Other help.\n# TYPE requests_total counter\nrequests_total 1\n"},
		{method: "PUT", path: "/metrics/job/c/z/1/y/2", body: "# TYPE d summary\nd{quantile=\"0.5\"} 1\nd{quantile=\"0.9\"} 2\nd_sum 3\nd_count 4\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"},
		{method: "POST", path: "/metrics/job/c/y/2/z/1", body: "same_group 1\n"},
		{method: "PUT", path: "/metrics/job@base64/YS9i/path@base64/L3Zhci90bXA=", body: "x 1\n"},
		{method: "POST", path: "/metrics/job@base64/YS9i/path@base64/L3Zhci90bXA", body: "w 1\n"},
		{method: "PUT", path: "/metrics/job/d/empty@base64/=", body: "x 2\n"},
		{method: "PUT", path: "/metrics/job/d/empty/", body: "x 3\n"},
		{method: "PUT", path: "/metrics/job/%C3%BC%20%2B/k/%22", body: "x 4\n"},
		{method: "PUT", path: "/metrics/job/e%2Ff", body: "x 5\n", differs: "400, ours 200: a slash may be escaped"},
		{method: "PUT", path: "/metrics/job/p", body: pushedFamilies(t), header: []string{"Content-Type", protobuf}},
		{method: "PUT", path: "/metrics/job/zip", body: zipped.String(), header: []string{"Content-Encoding", "gzip"}},
		{method: "PUT", path: "/metrics/job/snap", body: string(snappyStream(t, "snapped 1\n")), header: []string{"Content-Encoding", "snappy"}},
		{method: "PUT", path: "/metrics/job/plain", body: "plain 1\n", header: []string{"Content-Type", "text/plain; version=0.0.4"}},
		{method: "PUT", path: "/metrics/job/plain", body: "plain 1\n", header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{method: "PUT", path: "/metrics/job/void", body: ""},
		{method: "POST", path: "/metrics/job/void", body: "v 1\n"},
		{method: "POST", path: "/metrics/job/void", body: ""},
		{method: "PUT", path: "/metrics/job/own", body: "instance_less{instance=\"x\"} 1\n"},

		// What is wrong.
		{method: "PUT", path: "/metrics/job/bad", body: "no metric at all\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "x 1", differs: "400, ours 200: the last line needs no end"},
		{method: "PUT", path: "/metrics/job/bad", body: "x 1 1700000000000\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "x 1\nx 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "x{a=\"1\",a=\"2\"} 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "# TYPE x counter\n# TYPE x gauge\nx 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "x{a=\"\xff\"} 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "0x 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "push_time_seconds 1\n"},
		{method: "PUT", path: "/metrics/job/bad", body: "junk", header: []string{"Content-Type", protobuf}},
		{method: "PUT", path: "/metrics/job/bad", body: "junk", header: []string{"Content-Encoding", "gzip"}},
		{method: "POST", path: "/metrics/job/a", body: "z 1\nz 1\n"},
		{method: "PUT", path: "/metrics/job/bad/a", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job/", body: "x 1\n", differs: "307, ours 400: the job is missing"},
		{method: "PUT", path: "/metrics/job", body: "x 1\n", differs: "404, ours 307: to where it is said that the job is missing"},
		{method: "PUT", path: "/metrics/job@base64/=", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job@base64/!!", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job/bad/0a/b", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job/bad/__name__/b", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job/bad/a-b/c", body: "x 1\n"},
		{method: "PUT", path: "/metrics/job/twice/a/1/a/2", body: "x 1\n", differs: "200, ours 400: nobody says which of two values is meant"},
		{method: "PUT", path: "/metrics/job/first/job/second", body: "x 1\n"},
		{method: "PUT", path: "/metrics/jobs/bad", body: "x 1\n"},
		{method: "GET", path: "/metrics/job/a", differs: "405, ours 200: a page for people"},
		{method: "PATCH", path: "/metrics/job/a", body: "x 1\n"},
		{method: "POST", path: "/api/v1/metrics", body: "x", differs: "405, ours 404: no such call of the API"},
		{method: "GET", path: "/api/v1/admin/wipe", differs: "405, ours 404: no such call of the API"},

		{method: "DELETE", path: "/metrics/job/a"},
		{method: "DELETE", path: "/metrics/job/a"},
		{method: "DELETE", path: "/metrics/job/never"},
		{method: "DELETE", path: "/metrics/job/c/z/1/y/2"},
		{method: "DELETE", path: "/metrics/job@base64/YS9i/path@base64/L3Zhci90bXA"},
		{method: "DELETE", path: "/metrics/job/bad/a"},
		{method: "DELETE", path: "/metrics/job/bad/0a/b"},
		{method: "PUT", path: "/metrics/job/a", body: "# TYPE z gauge\nz 5\n"},
		{method: "PUT", path: "/api/v1/admin/wipe"},
		{method: "PUT", path: "/metrics/job/again", body: "# TYPE x counter\nx 1\n"},
	}
}

func snappyStream(t testing.TB, text string) []byte {
	var b bytes.Buffer
	w := snappy.NewBufferedWriter(&b)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// groups returns what GET /api/v1/metrics says, ordered, without the times.
func groups(t testing.TB, base string) []string {
	t.Helper()
	var doc struct {
		Status string
		Data   []map[string]any
	}
	decode(t, do(t, http.MethodGet, base+"/api/v1/metrics", nil, 200, ""), &doc)
	require.Equal(t, "success", doc.Status)
	var out []string
	for _, g := range doc.Data {
		for name, family := range g {
			f, ok := family.(map[string]any)
			if !ok || name == "labels" {
				continue
			}
			f["time_stamp"] = fmt.Sprintf("%T", f["time_stamp"])
			if strings.HasPrefix(name, "push_") {
				for _, m := range f["metrics"].([]any) {
					m := m.(map[string]any)
					m["value"] = m["value"] != "0"
				}
			}
		}
		text, err := json.Marshal(g)
		require.NoError(t, err)
		out = append(out, string(text))
	}
	slices.Sort(out)
	return out
}

// exposed are the series of the original's /metrics that were pushed.
func exposed(t testing.TB, base string) (out []string) {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(do(t, http.MethodGet, base+"/metrics", nil, 200, "")))
	require.NoError(t, err)
	for name, f := range families {
		for _, m := range f.Metric {
			ls := map[string]string{}
			for _, l := range m.Label {
				ls[l.GetName()] = l.GetValue()
			}
			if ls["job"] == "" {
				continue // its own
			}
			add := func(name string, v float64, more ...string) {
				all := map[string]string{"__name__": name}
				for k, v := range ls {
					all[k] = v
				}
				for i := 0; i+1 < len(more); i += 2 {
					all[more[i]] = more[i+1]
				}
				out = append(out, seriesLine(t, all, v))
			}
			number := func(v float64) string {
				// As a Prometheus writes a bound that it scrapes, and we do.
				return labels.FormatOpenMetricsFloat(v)
			}
			switch f.GetType() {
			case dto.MetricType_SUMMARY:
				for _, q := range m.Summary.Quantile {
					add(name, q.GetValue(), "quantile", number(q.GetQuantile()))
				}
				add(name+"_sum", m.Summary.GetSampleSum())
				add(name+"_count", float64(m.Summary.GetSampleCount()))
			case dto.MetricType_HISTOGRAM:
				for _, b := range m.Histogram.Bucket {
					add(name+"_bucket", float64(b.GetCumulativeCount()), "le", number(b.GetUpperBound()))
				}
				add(name+"_sum", m.Histogram.GetSampleSum())
				add(name+"_count", float64(m.Histogram.GetSampleCount()))
			default:
				add(name, m.GetGauge().GetValue()+m.GetCounter().GetValue()+m.GetUntyped().GetValue())
			}
		}
	}
	slices.Sort(out)
	return out
}

// stored are the pushed series that a query finds.
func stored(t testing.TB, base string) (out []string) {
	t.Helper()
	text, err := ask(base, "/api/v1/query", url.Values{"query": {`{job!="",job!="panoptes"}`}})
	require.NoError(t, err)
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	decode(t, []byte(text), &data)
	for _, r := range data.Result {
		v, err := strconv.ParseFloat(r.Value[1].(string), 64)
		require.NoError(t, err)
		out = append(out, seriesLine(t, r.Metric, v))
	}
	slices.Sort(out)
	return out
}

func seriesLine(t testing.TB, ls map[string]string, v float64) string {
	for k, v := range ls {
		if v == "" {
			delete(ls, k) // the same as none
		}
	}
	if strings.HasPrefix(ls["__name__"], "push_") && v > 0 {
		v = 1 // some time
	}
	text, err := json.Marshal(ls)
	require.NoError(t, err)
	return fmt.Sprintf("%s %g", text, v)
}

// The same pushes to us and to a real Pushgateway have the same answers and
// leave the same metrics behind.
func TestPushgateway(t *testing.T) {
	conformance(t)
	theirs, srv := startPushgateway(t), harness.Start(t, harness.Binary(t), t.TempDir())
	list, apart := pushes(t), 0
	for i, p := range list {
		what := fmt.Sprintf("%d: %s %s %.60q %.60v", i, p.method, p.path, p.body, p.header)
		if strings.HasSuffix(p.path, "wipe") {
			require.Eventually(t, func() bool { return seriesDiffer(t, theirs, srv.URL, "") == "" }, patience, 500*time.Millisecond, "the series before all is wiped")
		}
		want, got := p.send(t, theirs), p.send(t, srv.URL)
		if p.differs != "" {
			require.Contains(t, p.differs, fmt.Sprintf("%d, ours %d: ", want, got), what)
			apart++
			if p.method == http.MethodGet {
				continue
			}
			if got/100 == 2 { // they have nothing, and must not differ because of that
				require.Equal(t, http.StatusAccepted, push{method: http.MethodDelete, path: p.path}.send(t, srv.URL), what)
			} else if want/100 == 2 {
				require.Equal(t, http.StatusAccepted, push{method: http.MethodDelete, path: p.path}.send(t, theirs), what)
			}
			continue
		}
		if want != got {
			t.Errorf("%s: the code is %d, want %d", what, got, want)
		}
		require.Equal(t, "", groupsDiffer(t, theirs, srv.URL), "%s: the groups differ", what)
		// The time of a failure is stored in the next interval, as if scraped.
		require.Equal(t, "", seriesDiffer(t, theirs, srv.URL, "push_"), "%s: the series differ", what)
	}
	require.Eventually(t, func() bool { return seriesDiffer(t, theirs, srv.URL, "") == "" }, patience, 500*time.Millisecond, "the series at the end")
	t.Logf("%d requests have the same answer and leave the same, %d differ for a reason", len(list)-apart, apart)
}

func groupsDiffer(t testing.TB, theirs, ours string) string {
	return differ(groups(t, theirs), groups(t, ours))
}

// seriesDiffer compares all series but those whose names begin with but.
func seriesDiffer(t testing.TB, theirs, ours, but string) string {
	list := func(lines []string) []string {
		return slices.DeleteFunc(lines, func(line string) bool { return but != "" && strings.Contains(line, `"__name__":"`+but) })
	}
	return differ(list(exposed(t, theirs)), list(stored(t, ours)))
}

func differ(a, b []string) string {
	if slices.Equal(a, b) {
		return ""
	}
	return fmt.Sprintf("ours only:\n%s\ntheirs only:\n%s", missing(b, a), missing(a, b))
}

// missing are the lines that the other list lacks.
func missing(have, other []string) string {
	var out []string
	for _, line := range have {
		if !slices.Contains(other, line) {
			out = append(out, "  "+line)
		}
	}
	return strings.Join(out, "\n")
}

package pushgateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"panoptes/internal/pushgateway"
)

func openDB(t testing.TB) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func open(t testing.TB, cfg pushgateway.Config, deps pushgateway.Deps) *pushgateway.Pushgateway {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "groups")
	}
	if deps.Appendable == nil {
		deps.Appendable = openDB(t)
	}
	p, err := pushgateway.New(cfg, deps)
	require.NoError(t, err)
	return p
}

func do(p *pushgateway.Pushgateway, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	return w
}

// newest returns the last value of each series, without the times of pushes
// unless times is set; what is over says "stale".
func newest(t testing.TB, db *tsdb.DB, times bool) map[string]string {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	out := map[string]string{}
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		s := set.At()
		if name := s.Labels().Get("__name__"); !times && strings.HasPrefix(name, "push_") {
			continue
		}
		it := s.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			switch vt {
			case chunkenc.ValFloat:
				_, v := it.At()
				out[s.Labels().String()] = fmt.Sprint(v)
				if value.IsStaleNaN(v) {
					out[s.Labels().String()] = "stale"
				}
			default:
				_, fh := it.AtFloatHistogram(nil)
				out[s.Labels().String()] = fh.String()
				if value.IsStaleNaN(fh.Sum) {
					out[s.Labels().String()] = "stale"
				}
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func TestPushReplaceDelete(t *testing.T) {
	db := openDB(t)
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db})
	// distinct milliseconds, since the store has one value for each
	step := func(method, path, body string, code int) {
		t.Helper()
		before := time.Now().UnixMilli()
		require.Eventually(t, func() bool { return time.Now().UnixMilli() > before }, 30*time.Second, time.Millisecond)
		w := do(p, method, path, body)
		require.Equal(t, code, w.Code, w.Body)
	}
	step("PUT", "/metrics/job/backup/instance/db1", "# TYPE size gauge\n# HELP size Bytes.\nsize{disk=\"a\",job=\"mine\"} 5\nfiles 7", 200)
	require.Equal(t, map[string]string{
		`{__name__="size", disk="a", instance="db1", job="backup"}`: "5",
		`{__name__="files", instance="db1", job="backup"}`:          "7",
	}, newest(t, db, false), "the labels of the group win, a missing newline at the end is forgiven")
	step("POST", "/metrics/job/backup/instance/db1", "files 8\n", 200)
	require.Equal(t, map[string]string{
		`{__name__="size", disk="a", instance="db1", job="backup"}`: "5",
		`{__name__="files", instance="db1", job="backup"}`:          "8",
	}, newest(t, db, false))
	step("PUT", "/metrics/job/backup/instance/db1", "files 9\n", 200)
	require.Equal(t, map[string]string{
		`{__name__="size", disk="a", instance="db1", job="backup"}`: "stale",
		`{__name__="files", instance="db1", job="backup"}`:          "9",
	}, newest(t, db, false))
	at := time.Now()
	all := newest(t, db, true)
	var pushed float64
	_, err := fmt.Sscan(all[`{__name__="push_time_seconds", instance="db1", job="backup"}`], &pushed)
	require.NoError(t, err)
	require.InDelta(t, float64(at.UnixMilli())/1000, pushed, 60)
	require.Equal(t, "0", all[`{__name__="push_failure_time_seconds", instance="db1", job="backup"}`])

	step("DELETE", "/metrics/job/backup", "", 202)
	require.Equal(t, "9", newest(t, db, false)[`{__name__="files", instance="db1", job="backup"}`], "another group")
	step("DELETE", "/metrics/job/backup/instance/db1", "", 202)
	for name, v := range newest(t, db, true) {
		require.Equal(t, "stale", v, name)
	}
	step("DELETE", "/metrics/job/backup/instance/db1", "", 202)
	step("POST", "/metrics/job/backup/instance/db1", "", 200)
	require.Contains(t, do(p, "GET", "/api/v1/metrics", "").Body.String(), `"last_push_successful":true`, "an empty push makes a group")
}

// A group that is deleted in the millisecond in which it was pushed ends, too.
func TestPushAndDeleteAtOnce(t *testing.T) {
	db := openDB(t)
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db})
	for i := range 300 {
		path := fmt.Sprint("/metrics/job/j", i)
		require.Equal(t, 200, do(p, "PUT", path, "m 1\n").Code)
		require.Equal(t, 202, do(p, "DELETE", path, "").Code)
	}
	got := newest(t, db, true)
	require.Len(t, got, 3*300)
	for name, v := range got {
		require.Equal(t, "stale", v, name)
	}
}

func TestKindsOfMetrics(t *testing.T) {
	db := openDB(t)
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db})
	w := do(p, "PUT", "/metrics/job/j", `# TYPE c counter
c 1
# TYPE s summary
s{quantile="0.5"} 2
s_sum 3
s_count 4
# TYPE h histogram
h_bucket{le="1"} 5
h_bucket{le="+Inf"} 6
h_sum 7
h_count 6
`)
	require.Equal(t, 200, w.Code, w.Body)
	want := map[string]string{
		`{__name__="c", job="j"}`: "1", `{__name__="s", job="j", quantile="0.5"}`: "2",
		`{__name__="s_sum", job="j"}`: "3", `{__name__="s_count", job="j"}`: "4",
		`{__name__="h_bucket", job="j", le="1.0"}`: "5", `{__name__="h_bucket", job="j", le="+Inf"}`: "6",
		`{__name__="h_sum", job="j"}`: "7", `{__name__="h_count", job="j"}`: "6",
	}
	require.Equal(t, want, newest(t, db, false))

	var buf bytes.Buffer
	for _, mf := range []*dto.MetricFamily{
		{Name: proto.String("g"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}}},
		{Name: proto.String("n"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: &dto.Histogram{
			SampleCount: proto.Uint64(3), SampleSum: proto.Float64(6), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(0.001),
			PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(2)}}, PositiveDelta: []int64{1, 1},
		}}}},
	} {
		_, err := protodelim.MarshalTo(&buf, mf)
		require.NoError(t, err)
	}
	const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	w = do(p, "PUT", "/metrics/job/proto", buf.String(), "Content-Type", protobuf)
	require.Equal(t, 200, w.Code, w.Body)
	got := newest(t, db, false)
	require.Equal(t, "1", got[`{__name__="g", job="proto"}`])
	require.Contains(t, got[`{__name__="n", job="proto"}`], "count:3, sum:6")
	require.Equal(t, 202, do(p, "DELETE", "/metrics/job/proto", "").Code)
	require.Equal(t, "stale", newest(t, db, false)[`{__name__="n", job="proto"}`])
	require.Equal(t, 400, do(p, "PUT", "/metrics/job/proto", "\x05abc", "Content-Type", protobuf).Code)
	require.Equal(t, 400, do(p, "PUT", "/metrics/job/proto", "", "Content-Type", "application/vnd.google.protobuf").Code)
}

func TestPaths(t *testing.T) {
	f := func(path, want string, code int) {
		t.Helper()
		db := openDB(t)
		p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db})
		w := do(p, "POST", path, "m 1\n")
		require.Equal(t, code, w.Code, w.Body)
		if code == 200 {
			require.Equal(t, map[string]string{want: "1"}, newest(t, db, false))
			groups, _, _ := p.Groups(labels.EmptyLabels(), "", "", 10)
			require.Equal(t, 202, do(p, "DELETE", groups[0].Path, "").Code)
			groups, _, _ = p.Groups(labels.EmptyLabels(), "", "", 10)
			require.Empty(t, groups, "the path that is shown leads to the group")
		}
	}
	f("/metrics/job/a", `{__name__="m", job="a"}`, 200)
	f("/metrics/job@base64/YQ", `{__name__="m", job="a"}`, 200)
	f("/metrics/job@base64/YQ==", `{__name__="m", job="a"}`, 200)
	f("/metrics/job/a/path@base64/L3Zhci90bXA", `{__name__="m", job="a", path="/var/tmp"}`, 200)
	f("/metrics/job/a/path/%2Fvar%2Ftmp", `{__name__="m", job="a", path="/var/tmp"}`, 200)
	f("/metrics/job/a/name@base64/8J+YgA", "", 400) // the alphabet is the one for URLs
	f("/metrics/job/a/x@base64/=", `{__name__="m", job="a"}`, 200)
	f("/metrics/job/%CE%A0/x/1%202", `{__name__="m", job="Π", x="1 2"}`, 200)
	f("/metrics/job/a/job/b", `{__name__="m", job="a"}`, 200)
	f("/metrics/job/", "", 400)
	f("/metrics/job@base64/=", "", 400)
	f("/metrics/job/a/b", "", 400)
	f("/metrics/job/a/__x/b", "", 400)
	f("/metrics/job/a/0x/b", "", 400)
	f("/metrics/job/a/x/1/x/2", "", 400)
	f("/metrics/job@base64/"+base64.RawURLEncoding.EncodeToString([]byte("\xff")), "", 400)
	f("/metrics/job/"+strings.Repeat("j", 3000), "", 400)
	f("/metrics/job/a"+strings.Repeat("/x/y", 100), "", 400)
	f("/metrics/jobs/a", "", 404)
}

func TestConsistency(t *testing.T) {
	p := open(t, pushgateway.Config{MaxSeries: 20, MaxGroups: 8}, pushgateway.Deps{})
	f := func(method, path, body string, code int, parts ...string) {
		t.Helper()
		w := do(p, method, path, body)
		require.Equal(t, code, w.Code, w.Body)
		for _, s := range parts {
			require.Contains(t, w.Body.String(), s)
		}
	}
	f("PUT", "/metrics/job/a", "# TYPE m gauge\nm 1\nx{instance=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", 200)
	f("PUT", "/metrics/job/b", "# TYPE m counter\nm 1\n", 400, "counter", "gauge", `job="a"`)
	f("PUT", "/metrics/job/b", "# HELP m Other.\n# TYPE m gauge\nm 1\n", 200)
	f("PUT", "/metrics/job/a/instance/1", "x 1\n", 400, "already")
	f("PUT", "/metrics/job/b", "h_count 1\n", 400, "part")
	f("PUT", "/metrics/job/c", "# TYPE h_count counter\nh_count 1\n", 400, "part")
	f("POST", "/metrics/job/b", "# TYPE m_x histogram\nm_x_bucket{le=\"+Inf\"} 1\nm_x_sum 1\nm_x_count 1\n# TYPE m_x_sum gauge\nm_x_sum 1\n", 400)
	f("PUT", "/metrics/job/c", "m 1 1395066363000\n", 400, "timestamp")
	f("PUT", "/metrics/job/c", "m 1\nm 1\n", 400)
	f("PUT", "/metrics/job/c", "m{job=\"1\"} 1\nm{job=\"2\"} 1\n", 400, "twice")
	f("PUT", "/metrics/job/c", "this is nothing\n", 400)
	f("PUT", "/metrics/job/c", "m{l=\""+strings.Repeat("x", 3000)+"\"} 1\n", 400)
	f("PUT", "/metrics/job/c", strings.Repeat("m 1\n", 21), 422)
	f("PUT", "/metrics/job/c", "push_time_seconds 7\nok 1\n", 200)
	f("POST", "/metrics/job/b", "# TYPE m counter\nm 1\n", 400)

	groups, total, _ := p.Groups(labels.EmptyLabels(), `job="b"`, "", 10)
	require.Equal(t, 1, total)
	require.False(t, groups[0].Successful)
	require.NotNil(t, groups[0].Failed)
	f("POST", "/metrics/job/b", "# TYPE m gauge\nm 2\n", 200)
	groups, _, _ = p.Groups(labels.EmptyLabels(), `job="b"`, "", 10)
	require.True(t, groups[0].Successful)

	for i := range 10 {
		do(p, "PUT", fmt.Sprintf("/metrics/job/n%d", i), "n 1\n")
	}
	f("PUT", "/metrics/job/more", "n 1\n", 422, "groups")
	f("DELETE", "/metrics/job/n0", "", 202)
	f("PUT", "/metrics/job/more", "n 1\n", 200)
	f("PUT", "/api/v1/admin/wipe", "", 202)
	_, total, _ = p.Groups(labels.EmptyLabels(), "", "", 10)
	require.Zero(t, total)
}

func TestHostileBodies(t *testing.T) {
	p := open(t, pushgateway.Config{MaxBody: 100_000, MaxSeries: 100, MaxInFlight: 3_000_000}, pushgateway.Deps{})
	require.Equal(t, 413, do(p, "PUT", "/metrics/job/a", strings.Repeat("x", 100_001)).Code)
	r := httptest.NewRequest("PUT", "/metrics/job/a", io.MultiReader(strings.NewReader(strings.Repeat("x", 100_001))))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	require.Equal(t, 413, w.Code)
	require.Equal(t, 422, do(p, "PUT", "/metrics/job/a", strings.Repeat("# TYPE a gauge\n", 5000)).Code)
	require.Equal(t, 400, do(p, "PUT", "/metrics/job/a", "m 1\n", "Content-Encoding", "br").Code)
	require.Equal(t, 400, do(p, "PUT", "/metrics/job/a", "m 1\n", "Content-Encoding", "gzip").Code)
	require.Equal(t, 405, do(p, "GET", "/metrics/job/a", "").Code)
	require.Equal(t, 404, do(p, "GET", "/metrics/nothing", "").Code)
	busy := open(t, pushgateway.Config{MaxInFlight: 10}, pushgateway.Deps{})
	w = do(busy, "PUT", "/metrics/job/a", "m 1\n")
	require.Equal(t, 429, w.Code)
	require.Equal(t, "5", w.Header().Get("Retry-After"))
}

func TestGroupsSurviveRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "push", "groups")
	p := open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	for i := range 20 {
		require.Equal(t, 200, do(p, "PUT", fmt.Sprintf("/metrics/job/j%d", i), fmt.Sprintf("m %d\n", i)).Code)
	}
	require.Equal(t, 202, do(p, "DELETE", "/metrics/job/j3", "").Code)
	list := do(p, "GET", "/api/v1/metrics", "").Body.String()
	// no Run, no clean stop: as after a power cut
	p = open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	require.Equal(t, list, do(p, "GET", "/api/v1/metrics", "").Body.String())

	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, whole[:len(whole)-3], 0o600)) // the deletion is torn
	p = open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	_, total, _ := p.Groups(labels.EmptyLabels(), "", "", 1)
	require.Equal(t, 20, total)
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/late", "m 1\n").Code)
	p = open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	_, total, _ = p.Groups(labels.EmptyLabels(), "", "", 1)
	require.Equal(t, 21, total, "what comes after a torn record is kept")

	for cut := range len(whole) {
		if cut%7 == 0 {
			require.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
			open(t, pushgateway.Config{Path: path}, pushgateway.Deps{Appendable: nothing{}})
		}
	}
}

// nothing stores nothing.
type nothing struct{ storage.Appendable }

func TestFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "groups")
	p := open(t, pushgateway.Config{Path: path, MaxSeries: 2000}, pushgateway.Deps{})
	var body strings.Builder
	for round := range 40 {
		body.Reset()
		for i := range 1500 {
			fmt.Fprintf(&body, "m{l=\"%d\"} %d.%d\n", i, i*round*7919, round)
		}
		require.Equal(t, 200, do(p, "PUT", "/metrics/job/a", body.String()).Code)
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(1200<<10))
	list := do(p, "GET", "/api/v1/metrics", "").Body.String()
	p = open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	require.True(t, list == do(p, "GET", "/api/v1/metrics", "").Body.String())
}

func TestDiskRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "groups")
	p := open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	require.NoError(t, os.Mkdir(path, 0o700)) // the file cannot be put in its place
	require.Equal(t, 500, do(p, "PUT", "/metrics/job/a", "m 1\n").Code)
	require.NoError(t, os.Remove(path))
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/b", "m 2\n").Code, "works again without a restart")
	p = open(t, pushgateway.Config{Path: path}, pushgateway.Deps{})
	_, total, _ := p.Groups(labels.EmptyLabels(), "", "", 1)
	require.Equal(t, 2, total)
}

func TestRunWritesOwnedGroups(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		var owned atomic.Bool
		p, err := pushgateway.New(pushgateway.Config{Path: filepath.Join(dir, "g")}, pushgateway.Deps{
			Appendable: db, Owns: func(key string) bool { return owned.Load() && key == `{job="a"}` },
		})
		require.NoError(t, err)
		require.Equal(t, 200, do(p, "PUT", "/metrics/job/a", "m 1\n").Code)
		require.Equal(t, 200, do(p, "PUT", "/metrics/job/b", "m 1\n").Code)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, count(t, db, "a"))
		owned.Store(true)
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, 5, count(t, db, "a"), "at once, and every 15 s")
		require.Equal(t, 1, count(t, db, "b"))
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, 503, do(p, "PUT", "/metrics/job/a", "m 2\n").Code)
	})
}

// count returns how many samples m of a job has.
func count(t testing.TB, db *tsdb.DB, job string) int {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"), labels.MustNewMatcher(labels.MatchEqual, "job", job))
	n := 0
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
			n++
		}
	}
	require.NoError(t, set.Err())
	return n
}

func TestListing(t *testing.T) {
	p := open(t, pushgateway.Config{}, pushgateway.Deps{})
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/a/x/1", "# HELP m Text.\n# TYPE m gauge\nm{l=\"v\"} 1.5\n").Code)
	body := do(p, "GET", "/api/v1/metrics", "").Body.String()
	require.Contains(t, body, `"metrics":[{"labels":{"instance":"","job":"a","l":"v","x":"1"},"value":"1.5"}]`)
	require.Contains(t, body, `"last_push_successful":true`)
	require.Contains(t, body, `"help":"Last Unix time when changing this group in the Pushgateway failed."`)
	require.Contains(t, body, `"type":"GAUGE"`)
	require.Contains(t, body, `"push_failure_time_seconds"`)
	for _, refused := range []string{"m 1\nm 1\n", "m 1 1700000000000\n"} {
		require.Equal(t, 200, do(p, "POST", "/metrics/job/a/x/1", "").Code)
		require.Contains(t, do(p, "GET", "/api/v1/metrics", "").Body.String(), `"last_push_successful":true`)
		require.Equal(t, 400, do(p, "POST", "/metrics/job/a/x/1", refused).Code)
		require.Contains(t, do(p, "GET", "/api/v1/metrics", "").Body.String(), `"last_push_successful":false`, refused)
	}
	for i := range 5 {
		require.Equal(t, 200, do(p, "PUT", fmt.Sprintf("/metrics/job/p%d", i), "other 1\n").Code)
	}
	var seen []string
	cursor := ""
	for {
		page, total, next := p.Groups(labels.EmptyLabels(), "", cursor, 2)
		require.Equal(t, 6, total)
		for _, g := range page {
			seen = append(seen, g.Labels["job"])
		}
		if cursor = next; next == "" {
			break
		}
	}
	require.True(t, sort.StringsAreSorted(seen))
	require.Len(t, seen, 6)
	require.Equal(t, 400, do(p, "GET", "/v1/push-groups?limit=0", "").Code)
	require.Contains(t, do(p, "GET", "/v1/push-groups?q=x%3D", "").Body.String(), `"total":1`)
}

func TestBoundKeys(t *testing.T) {
	db := openDB(t)
	bound := labels.FromStrings("tenant", "t1")
	p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: db, Bound: func(context.Context) labels.Labels { return bound }})
	require.Equal(t, 200, do(p, "PUT", "/metrics/job/a", "m{tenant=\"t2\"} 1\n").Code)
	require.Equal(t, map[string]string{`{__name__="m", job="a", tenant="t1"}`: "1"}, newest(t, db, false))
	require.Equal(t, http.StatusForbidden, do(p, "PUT", "/metrics/job/a/tenant/t2", "m 1\n").Code)
	bound = labels.FromStrings("tenant", "t2")
	for _, path := range []string{"/api/v1/metrics", "/v1/push-groups"} {
		require.NotContains(t, do(p, "GET", path, "").Body.String(), "t1", path)
	}
	require.Equal(t, 202, do(p, "PUT", "/api/v1/admin/wipe", "").Code)
	require.Equal(t, 202, do(p, "DELETE", "/metrics/job/a", "").Code)
	bound = labels.EmptyLabels()
	require.Contains(t, do(p, "GET", "/api/v1/metrics", "").Body.String(), "t1")
}

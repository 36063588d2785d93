package scraper_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/agent/scraper"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exporter is a target that answers what a test wants.
type exporter struct {
	*httptest.Server
	body  atomic.Pointer[string]
	kind  atomic.Pointer[string]
	code  atomic.Int64
	last  atomic.Pointer[http.Request]
	asked atomic.Int64
}

func newExporter(t *testing.T, body string) *exporter {
	e := &exporter{}
	e.code.Store(http.StatusOK)
	e.say("text/plain; version=0.0.4", body)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.last.Store(r)
		e.asked.Add(1)
		w.Header().Set("Content-Type", *e.kind.Load())
		if code := int(e.code.Load()); code != http.StatusOK {
			w.Header().Set("Location", "/other")
			w.WriteHeader(code)
			return
		}
		var out io.Writer = w
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close() //nolint:errcheck // a test
			out = z
		}
		_, _ = io.WriteString(out, *e.body.Load())
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *exporter) say(kind, body string) { e.kind.Store(&kind); e.body.Store(&body) }
func (e *exporter) addr() string          { return strings.TrimPrefix(e.URL, "http://") }
func (e *exporter) port() string          { _, p, _ := net.SplitHostPort(e.addr()); return ":" + p }

// sink holds what was emitted: the newest sample of each series.
type sink struct {
	mu    sync.Mutex
	last  map[string]model.Sample
	count int
}

func (s *sink) emit(b model.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range b {
		s.last[x.Labels.String()] = x
	}
	s.count++
}

func (s *sink) get(series string) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.last[series]
	return x.V, ok
}

func (s *sink) has(t *testing.T, series string, v float64) {
	t.Helper()
	require.Eventually(t, func() bool { got, ok := s.get(series); return ok && got == v }, 30*time.Second, 5*time.Millisecond, "%s = %v; there are %v", series, v, s.all())
}

func (s *sink) stale(t *testing.T, series string) {
	t.Helper()
	require.Eventually(t, func() bool { got, ok := s.get(series); return ok && math.Float64bits(got) == value.StaleNaN }, 30*time.Second, 5*time.Millisecond, "%s ends", series)
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for k, x := range s.last {
		out = append(out, fmt.Sprintf("%s %v", k, x.V))
	}
	return out
}

func start(t *testing.T, cfg scraper.Config, deps scraper.Deps) (*scraper.Scraper, *sink) {
	s, err := scraper.New(cfg, deps)
	require.NoError(t, err)
	out := &sink{last: map[string]model.Sample{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, out.emit) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return s, out
}

func job(name string, e *exporter) uplink.ScrapeJob {
	return uplink.ScrapeJob{Job: name, Targets: []string{e.addr()}, Interval: model.Duration(time.Second)}
}

func TestATargetIsScrapedLikePrometheusDoes(t *testing.T) {
	t.Parallel()
	e := newExporter(t, `# HELP x_total things
# TYPE x_total counter
x_total{code="200",method="get"} 1027 
x_total{code="5\"0\\0\n", } 3
x_plain	1e3
x_inf +Inf
x_bucket{le="0.5"} 2 1395066363000
{"x_quoted",a="b"} 7
job_label{job="theirs",instance="me",host="h",severity="bad",empty=""} 1
ALERTS{alertname="forged"} 1
probe_success 1
panoptes_service_up 1
`)
	j := job("app", e)
	j.Labels = map[string]string{"team": "web"}
	_, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{j}}, scraper.Deps{})
	own := `instance="` + e.port() + `", job="app"`
	out.has(t, `{__name__="up", `+own+`, team="web"}`, 1)
	for series, v := range map[string]float64{
		`{__name__="x_total", code="200", ` + own + `, method="get", team="web"}`:                                                                    1027,
		`{__name__="x_total", code="5\"0\\0\n", ` + own + `, team="web"}`:                                                                            3,
		`{__name__="x_plain", ` + own + `, team="web"}`:                                                                                              1000,
		`{__name__="x_inf", ` + own + `, team="web"}`:                                                                                                math.Inf(1),
		`{__name__="x_bucket", ` + own + `, le="0.5", team="web"}`:                                                                                   2,
		`{__name__="x_quoted", a="b", ` + own + `, team="web"}`:                                                                                      7,
		`{__name__="job_label", exported_host="h", exported_instance="me", exported_job="theirs", exported_severity="bad", ` + own + `, team="web"}`: 1,
		`{__name__="scrape_samples_scraped", ` + own + `, team="web"}`:                                                                               10,
		`{__name__="scrape_samples_post_metric_relabeling", ` + own + `, team="web"}`:                                                                7,
	} {
		out.has(t, series, v)
	}
	for _, s := range out.all() {
		require.NotRegexp(t, `ALERTS|probe_|panoptes_`, s, "not an agent's to write")
	}
	require.Contains(t, e.last.Load().Header.Get("Accept"), "application/openmetrics-text")
}

func TestOpenMetrics(t *testing.T) {
	t.Parallel()
	e := newExporter(t, "")
	e.say("application/openmetrics-text; version=1.0.0; charset=utf-8", `# TYPE r counter
r_total{path="/#a"} 17.0 1520879607.789 # {trace_id="x"} 0.67
r_created 1520872607.123
# EOF
`)
	j := job("om", e)
	j.HonorTimestamps = true
	_, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{j}}, scraper.Deps{})
	series := `{__name__="r_total", instance="` + e.port() + `", job="om", path="/#a"}`
	out.has(t, series, 17)
	out.mu.Lock()
	require.Equal(t, int64(1520879607789), out.last[series].T)
	out.mu.Unlock()
	// An answer that was cut off is none.
	e.say("application/openmetrics-text; version=1.0.0", "r_total 18\n")
	out.has(t, `{__name__="up", instance="`+e.port()+`", job="om"}`, 0)
}

func TestWhatVanishesEnds(t *testing.T) {
	t.Parallel()
	e := newExporter(t, "a 1\nb 2\n")
	s, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{job("own", e)}}, scraper.Deps{DialServers: (&net.Dialer{}).DialContext})
	own := func(n string) string { return `{__name__="` + n + `", instance="` + e.port() + `", job="own"}` }
	out.has(t, own("b"), 2)
	e.say("text/plain", "a 3\n")
	out.has(t, own("a"), 3)
	out.stale(t, own("b"))
	e.code.Store(http.StatusInternalServerError)
	out.has(t, own("up"), 0)
	out.stale(t, own("a"))
	e.code.Store(http.StatusOK)
	out.has(t, own("a"), 3)

	// A target of the servers that is taken away.
	other := newExporter(t, "c 1\n")
	b, err := json.Marshal([]uplink.ScrapeJob{job("sent", other)})
	require.NoError(t, err)
	require.NoError(t, s.Configure(uplink.Settings{Scrapes: b}))
	sent := `{__name__="c", instance="` + other.port() + `", job="sent"}`
	out.has(t, sent, 1)
	require.NoError(t, s.Configure(uplink.Settings{}))
	out.stale(t, sent)
	out.stale(t, `{__name__="up", instance="`+other.port()+`", job="sent"}`)
	n := other.asked.Load()
	out.has(t, own("up"), 1)
	require.Equal(t, n, other.asked.Load())
}

func TestJobsOfServersNeedTheHostsConsent(t *testing.T) {
	t.Parallel()
	e := newExporter(t, "a 1\n")
	b, err := json.Marshal([]uplink.ScrapeJob{job("sent", e)})
	require.NoError(t, err)

	s, _ := start(t, scraper.Config{}, scraper.Deps{})
	require.ErrorIs(t, s.Configure(uplink.Settings{Scrapes: b}), model.ErrForbidden)

	refused := errors.New("not on the list")
	s, out := start(t, scraper.Config{}, scraper.Deps{DialServers: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	require.NoError(t, s.Configure(uplink.Settings{Scrapes: b}))
	out.has(t, `{__name__="up", instance="`+e.port()+`", job="sent"}`, 0)
	require.Zero(t, e.asked.Load())

	// Files of the host are not for servers to name.
	j := job("sent", e)
	j.BearerFile = "/etc/shadow"
	b, err = json.Marshal([]uplink.ScrapeJob{j})
	require.NoError(t, err)
	require.ErrorContains(t, s.Configure(uplink.Settings{Scrapes: b}), "file of the host")
	require.Error(t, s.Configure(uplink.Settings{Scrapes: []byte(`{"a":1}`)}))
}

func TestWhatATargetMayNotDo(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"too many samples": strings.Repeat("a 1\n", 11),
		"a long line":      `a{b="` + strings.Repeat("x", 70<<10) + "\"} 1\n",
		"no number":        "a b\n",
		"a bad name":       "1a 1\n",
		"a bad label":      "a{0=\"b\"} 1\n",
		"labels open":      "a{b=\"c} 1\n",
		"twice":            "a{b=\"c\",b=\"d\"} 1\n",
		"too much":         strings.Repeat("# "+strings.Repeat("x", 60<<10)+"\n", 180),
		"not UTF-8":        "a{b=\"\xff\"} 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExporter(t, body)
			j := job("bad", e)
			j.MaxSamples = 10
			_, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{j}}, scraper.Deps{})
			out.has(t, `{__name__="up", instance="`+e.port()+`", job="bad"}`, 0)
			_, ok := out.get(`{__name__="a", instance="` + e.port() + `", job="bad"}`)
			require.False(t, ok, "an answer is taken whole or not at all")
		})
	}
	e := newExporter(t, "a 1\n")
	e.code.Store(http.StatusFound)
	_, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{job("away", e)}}, scraper.Deps{})
	out.has(t, `{__name__="up", instance="`+e.port()+`", job="away"}`, 0)
	require.NotEqual(t, "/other", e.last.Load().URL.Path)
}

// Series that no server takes cost nothing but themselves.
func TestSeriesWithLongLabelsAreLeftOut(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 5 {
		fmt.Fprintf(&many, "l%d=%q,", i, strings.Repeat("x", 2000))
	}
	e := newExporter(t, "a 1\n"+
		`b{v="`+strings.Repeat("x", 2049)+"\"} 2\n"+
		`b{`+strings.Repeat("n", 201)+"=\"v\"} 3\n"+
		"b{"+many.String()+"} 4\n"+
		strings.Repeat("m", 2049)+" 5\n"+
		`c{v="`+strings.Repeat("x", 2048)+"\"} 6\n")
	_, out := start(t, scraper.Config{MaxSeries: 2, Jobs: []uplink.ScrapeJob{job("long", e)}}, scraper.Deps{})
	own := `instance="` + e.port() + `", job="long"`
	out.has(t, `{__name__="up", `+own+`}`, 1)
	out.has(t, `{__name__="a", `+own+`}`, 1)
	out.has(t, `{__name__="c", `+own+`, v="`+strings.Repeat("x", 2048)+`"}`, 6)
	out.has(t, `{__name__="scrape_samples_scraped", `+own+`}`, 6)
	out.has(t, `{__name__="scrape_samples_post_metric_relabeling", `+own+`}`, 2)
	require.Len(t, out.all(), 2+5, "and the reports of the target")
}

func TestTheSeriesOfAllTargetsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, "a%d 1\n", i)
	}
	one, two := newExporter(t, b.String()), newExporter(t, b.String())
	_, out := start(t, scraper.Config{MaxSeries: 100, Jobs: []uplink.ScrapeJob{job("x", one), job("x", two)}}, scraper.Deps{})
	up := func(e *exporter) float64 {
		v, _ := out.get(`{__name__="up", instance="` + e.port() + `", job="x"}`)
		return v
	}
	require.Eventually(t, func() bool { return one.asked.Load() > 1 && two.asked.Load() > 1 && up(one)+up(two) == 1 }, 30*time.Second, 10*time.Millisecond)
}

func TestHowATargetIsAsked(t *testing.T) {
	t.Parallel()
	e := newExporter(t, "a{job=\"theirs\"} 1\n")
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("t0ken\n"), 0o600))
	_, out := start(t, scraper.Config{Jobs: []uplink.ScrapeJob{{Job: "fed", URL: e.URL + "/federate", Params: map[string][]string{"match[]": {"up"}}, BearerFile: file, HonorLabels: true}}}, scraper.Deps{})
	out.has(t, `{__name__="a", instance="`+e.port()+`", job="theirs"}`, 1)
	r := e.last.Load()
	require.Equal(t, "/federate?match%5B%5D=up", r.URL.String())
	require.Equal(t, "Bearer t0ken", r.Header.Get("Authorization"))
	require.NotEmpty(t, r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
}

func TestJobsNameTheirFaults(t *testing.T) {
	t.Parallel()
	for field, j := range map[string]uplink.ScrapeJob{
		"jobs[0].job":         {Targets: []string{"a:1"}},
		"jobs[0].targets":     {Job: "x"},
		"jobs[0].targets[0]":  {Job: "x", Targets: []string{"localhost"}},
		"jobs[0].url":         {Job: "x", URL: "ftp://x/"},
		"jobs[0].interval":    {Job: "x", Targets: []string{"a:1"}, Interval: model.Duration(time.Millisecond)},
		"jobs[0].labels.host": {Job: "x", Targets: []string{"a:1"}, Labels: map[string]string{"host": "y"}},
		"jobs[0].bearer":      {Job: "x", Targets: []string{"a:1"}, Bearer: "a", Username: "b"},
		"jobs[0].path":        {Job: "x", Targets: []string{"a:1"}, Path: "metrics"},
		"jobs[0].max_samples": {Job: "x", Targets: []string{"a:1"}, MaxSamples: 1e6},
	} {
		_, err := scraper.New(scraper.Config{Jobs: []uplink.ScrapeJob{j}}, scraper.Deps{})
		require.ErrorContains(t, err, field+":", "%+v", j)
	}
}

// Targets that take a connection and do not answer, or begin to and do not go on,
// keep nobody from those that do.
func TestTargetsThatHangHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	const each = 20
	var hung atomic.Int64
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hung.Add(1)
		if r.URL.Path == "/begins" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-over
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(over) })
	addr := strings.TrimPrefix(srv.URL, "http://")
	var jobs []uplink.ScrapeJob
	for i := range each {
		for _, path := range []string{"/silent", "/begins"} {
			jobs = append(jobs, uplink.ScrapeJob{Job: fmt.Sprint(path, i), Targets: []string{addr}, Path: path, Interval: model.Duration(time.Minute), Timeout: model.Duration(time.Minute)})
		}
	}
	s, out := start(t, scraper.Config{Jobs: jobs}, scraper.Deps{DialServers: (&net.Dialer{}).DialContext})
	require.Eventually(t, func() bool { return hung.Load() == 2*each }, 40*time.Second, 5*time.Millisecond, "all are asked")
	good := newExporter(t, "x 1\n")
	b, err := json.Marshal([]uplink.ScrapeJob{job("good", good)})
	require.NoError(t, err)
	require.NoError(t, s.Configure(uplink.Settings{Scrapes: b}))
	out.has(t, `{__name__="up", instance="`+good.port()+`", job="good"}`, 1)
}

package scrape_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// instrumented is a program with a native histogram and exemplars, in whatever
// format is asked for.
func instrumented(t testing.TB, formats *atomic.Value) string {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", Help: "h", NativeHistogramBucketFactor: 1.1, Buckets: []float64{0.1, 1}})
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "events_total", Help: "c"})
	reg.MustRegister(h, c)
	for i := range 100 {
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(float64(i)/50, prometheus.Labels{"trace": fmt.Sprint(i)})
	}
	c.(prometheus.ExemplarAdder).AddWithExemplar(7, prometheus.Labels{"trace": "abc"})
	handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		formats.Store(w.Header().Get("Content-Type"))
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestFormats(t *testing.T) {
	for name, c := range map[string]struct{ conf, format string }{
		"protobuf":    {"scrape_native_histograms: true,", "application/vnd.google.protobuf"},
		"openmetrics": {"scrape_protocols: [OpenMetricsText1.0.0],", "application/openmetrics-text"},
		"text":        {"scrape_protocols: [PrometheusText0.0.4],", "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			db := openDB(t)
			var format atomic.Value
			addr := instrumented(t, &format)
			s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
			s.Update([]model.Record{record(t, "j", "{"+c.conf+"static_configs: [{targets: ['"+addr+"']}]}")})
			within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "events_total")) == 1 })
			require.Contains(t, format.Load(), c.format)
			native := stored(t, db, "__name__", "latency_seconds")
			classic := stored(t, db, "__name__", "latency_seconds_bucket")
			if name == "protobuf" {
				require.Len(t, native, 1)
				for _, ps := range native {
					require.Equal(t, 100.0, ps[0].V)
				}
				require.Empty(t, classic)
			} else {
				require.Empty(t, native)
				require.Len(t, classic, 3)
			}
			q, err := db.ExemplarQuerier(context.Background())
			require.NoError(t, err)
			ex, err := q.Select(0, time.Now().Add(time.Hour).UnixMilli(), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "events_total")})
			require.NoError(t, err)
			if name == "text" {
				require.Empty(t, ex, "the old text format has none")
			} else {
				require.Len(t, ex, 1)
				require.Equal(t, "abc", ex[0].Exemplars[0].Labels.Get("trace"))
			}
		})
	}
}

func TestDiscovery(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "t.json")
	require.NoError(t, os.WriteFile(file, []byte(`[{"targets":["`+addr+`"],"labels":{"how":"file"}}]`), 0o600))
	s, _ := start(t, scrape.Config{FileDirs: []string{dir}}, scrape.Deps{Appendable: db})
	// The mechanism for DNS asks the servers of the machine's resolv.conf, so only
	// a name of the machine itself can be resolved in a test.
	s.Update([]model.Record{
		record(t, "file", "{file_sd_configs: [{files: ['"+dir+"/*.json'], refresh_interval: 100ms}]}"),
		record(t, "dns", "{dns_sd_configs: [{names: [localhost], type: A, port: "+port+", refresh_interval: 1s}]}"),
	})
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x", "how", "file")) == 1 })
	require.NoError(t, os.WriteFile(file+".new", []byte(`[{"targets":["`+addr+`"],"labels":{"how":"file again"}}]`), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x", "how", "file again")) == 1 })
	if conf, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil && len(conf.Servers) > 0 {
		require.Empty(t, s.Snapshot().Problems)
	}
}

// sentBytes counts what was sent for the last request of each path, unpacked.
type sentBytes struct {
	mu     sync.Mutex
	total  int64
	byPath map[string]int64
}

func (s *sentBytes) begin(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byPath[path] = 0
}

func (s *sentBytes) add(path string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += int64(n)
	s.byPath[path] += int64(n)
}

func (s *sentBytes) of(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path]
}

func (s *sentBytes) all() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// hostile serves one path for each way to misbehave.
func hostile(t testing.TB) (addr string, sent *sentBytes) {
	sent = &sentBytes{byPath: map[string]int64{}}
	stop := make(chan struct{})
	chunk := bytes.Repeat([]byte("x 1\n"), 1<<14)
	write := func(path string, w io.Writer, total int) {
		sent.begin(path)
		for n := 0; total == 0 || n < total; n += len(chunk) {
			c, err := w.Write(chunk)
			sent.add(path, c)
			if err != nil {
				return
			}
		}
	}
	mux := http.NewServeMux()
	good := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x 1\n") }
	serve := func(path string, h http.HandlerFunc) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", textFormat)
			h(w, r)
		})
	}
	serve("/good", good)
	serve("/garbage", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\xff\xfe{{{ \n= =\n") })
	serve("/half", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "half 1\nhalf{a=\"\n") })
	serve("/proto", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
		_, _ = w.Write(bytes.Repeat([]byte{0xff, 0x01, 0x80}, 1000))
	})
	serve("/untyped", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", "image/png"); good(w, r) })
	serve("/endless", func(w http.ResponseWriter, _ *http.Request) { write("/endless", w, 0) })
	serve("/100mb", func(w http.ResponseWriter, _ *http.Request) { write("/100mb", w, 100<<20) })
	serve("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		write("/bomb", z, 100<<20)
		_ = z.Close()
	})
	serve("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	serve("/drip", func(w http.ResponseWriter, r *http.Request) {
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-r.Context().Done():
				return
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprint(w, "x 1\n")
				w.(http.Flusher).Flush()
			}
		}
	})
	serve("/many", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 2000 {
			fmt.Fprintf(w, "many{i=\"%d\"} 1\n", i)
		}
	})
	serve("/wide", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "wide{")
		for i := range 200 {
			fmt.Fprintf(w, "l%d=\"x\",", i)
		}
		fmt.Fprint(w, "} 1\n")
	})
	serve("/long", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "long{a=\"%s\"} 1\n", strings.Repeat("a", 20<<10))
	})
	serve("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	serve("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	serve("/cut", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "cut 1\n")
		panic(http.ErrAbortHandler)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { close(stop); srv.Close() })
	return strings.TrimPrefix(srv.URL, "http://"), sent
}

func TestABadTargetCostsOnlyItsOwnFailure(t *testing.T) {
	db := openDB(t)
	const limit = 8 << 20
	addr, sent := hostile(t)
	want := map[string]string{
		"/garbage": "", "/half": "", "/proto": "", "/untyped": "unsupported Content-Type", "/endless": "body size limit exceeded",
		"/100mb": "body size limit exceeded", "/bomb": "body size limit exceeded", "/slow": "context deadline exceeded", "/drip": "context deadline exceeded",
		"/many": "sample limit exceeded", "/wide": "label_limit exceeded", "/long": "label_value_length_limit exceeded",
		"/loop": "stopped after 10 redirects", "/500": "HTTP status 500", "/cut": "EOF",
	}
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{{[]string{addr}, map[string]string{"__metrics_path__": "/good"}}}
	for p := range want {
		groups = append(groups, group{[]string{addr}, map[string]string{"__metrics_path__": p}})
	}
	b, err := json.Marshal(groups)
	require.NoError(t, err)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	s.Update([]model.Record{record(t, "j", `{"scrape_interval":"6s","scrape_timeout":"5s","sample_limit":1500,"body_size_limit":"8MiB","static_configs":`+string(b)+`,
		"relabel_configs":[{"source_labels":["__metrics_path__"],"target_label":"instance"}]}`)})
	within(t, 90*time.Second, func() bool {
		n := 0
		for _, a := range s.Snapshot().Active {
			if a.Health != "unknown" {
				n++
			}
		}
		return n == len(want)+1
	}, "every target is heard of")
	for _, a := range s.Snapshot().Active {
		if a.Labels["instance"] == "/good" {
			require.Equal(t, "up", a.Health, a.LastError)
			continue
		}
		require.Equal(t, "down", a.Health, a.Labels["instance"])
		if path := a.Labels["instance"]; strings.Contains(want[path], "body size") && strings.Contains(a.LastError, "deadline exceeded") {
			// Right only when the limit had not been reached by then, but for what
			// lies in buffers between the two.
			require.Less(t, sent.of(path), int64(limit+8<<20), "%s was read to its timeout although it was too large", path)
			t.Logf("%s was too slow for this machine to be too large", path)
			continue
		}
		require.Contains(t, a.LastError, want[a.Labels["instance"]], a.Labels["instance"])
	}
	require.Len(t, stored(t, db, "__name__", "x"), 1, "nothing of a failed scrape is kept")
	for _, name := range []string{"many", "wide", "long", "half", "cut"} {
		require.Empty(t, stored(t, db, "__name__", name))
	}
	// The limits are 32 MiB for the largest answer that any job may give: one
	// that does not end is cut soon after, not at the end of its timeout.
	require.Less(t, sent.all(), int64(3*2*(48<<20)+3*(100<<20)))
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	t.Logf("sent %d MiB, heap %+d MiB", sent.all()>>20, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20)
}

// A series that the store does not take for its labels costs the target nothing
// else.
func TestASeriesThatTheStoreDoesNotTake(t *testing.T) {
	db := storetest.New(t, store.Config{MaxValueBytes: 100})
	reg := prometheus.NewRegistry()
	addr := serve(t, textFormat, fmt.Sprintf("first 1\nlong{l=%q} 1\nlast 1\n", strings.Repeat("v", 101)))
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db, Registerer: reg})
	s.Update([]model.Record{record(t, "j", "{static_configs: [{targets: ['"+addr+"']}], scrape_interval: 1s}")})
	names := func() (names []string) {
		q, err := db.Querier(0, time.Now().UnixMilli())
		require.NoError(t, err)
		defer q.Close()
		names, _, err = q.LabelValues(context.Background(), "__name__", nil)
		require.NoError(t, err)
		return names
	}
	within(t, 20*time.Second, func() bool { return slices.Contains(names(), "last") })
	require.Contains(t, names(), "first")
	require.NotContains(t, names(), "long")
	require.Equal(t, "up", s.Snapshot().Active[0].Health)
	families, err := reg.Gather()
	require.NoError(t, err)
	refused := 0.0
	for _, f := range families {
		if f.GetName() == "panoptes_scrape_series_refused_total" {
			refused = f.Metric[0].GetCounter().GetValue()
		}
	}
	require.Positive(t, refused)
}

func TestTargetsAreDialedThroughTheDialer(t *testing.T) {
	refused := fmt.Errorf("address is refused by policy")
	addr := serve(t, textFormat, "x 1\n")
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: openDB(t), Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	s.Update([]model.Record{record(t, "j", "{static_configs: [{targets: ['"+addr+"']}]}")})
	within(t, 10*time.Second, func() bool {
		a := s.Snapshot().Active
		return len(a) == 1 && strings.Contains(a[0].LastError, refused.Error())
	})
}

func TestShortIntervalsOfDiscoveryAreRefused(t *testing.T) {
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: openDB(t)})
	s.Update([]model.Record{record(t, "j", "{static_configs: [{targets: ['a:1'], labels: {__scrape_interval__: 1ms, __scrape_timeout__: 1ms}}, {targets: ['http://x/y']}], relabel_configs: [{target_label: a, replacement: b}]}")})
	within(t, 10*time.Second, func() bool {
		j := s.Snapshot().Jobs
		return len(j) == 1 && j[0].Invalid == 2 && j[0].Example != ""
	})
	require.Empty(t, s.Snapshot().Active)
}

func TestChangesAreTakenOver(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	job := func(name, label string, f ...func(*scrape.Job)) model.Record {
		return record(t, name, "{static_configs: [{targets: ['"+addr+"'], labels: {v: "+label+"}}]}", f...)
	}
	s.Update([]model.Record{job("a", "one"), job("b", "two")})
	within(t, 10*time.Second, func() bool { return len(stored(t, db, "__name__", "x")) == 2 })
	s.Update([]model.Record{job("a", "three"), job("b", "two", func(j *scrape.Job) { j.Paused = true })})
	within(t, 10*time.Second, func() bool {
		a := s.Snapshot().Active
		return len(a) == 1 && a[0].Labels["v"] == "three" && a[0].Health == "up"
	})
	s.Update([]model.Record{{Name: "broken", Spec: []byte(`{"name":`)}, job("b", "two")})
	within(t, 10*time.Second, func() bool {
		snap := s.Snapshot()
		return len(snap.Active) == 1 && snap.Active[0].Job == "b" && snap.Active[0].Health == "up" && len(snap.Problems) == 1
	})
}

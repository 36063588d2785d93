package scrape_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v2"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
	_ "panoptes/internal/scrape/all"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The client libraries of some discovery mechanisms start these when they are imported.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*loggingT).flushDaemon"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		// Stale markers are waited for in the background; the engine's stop ends
		// the wait but does not wait for it.
		goleak.IgnoreAnyFunction("github.com/prometheus/prometheus/scrape.(*scrapeLoop).endOfRunStaleness"),
	)
}

func openDB(t testing.TB) *tsdb.DB {
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = int64(time.Hour / time.Millisecond)
	o.EnableExemplarStorage, o.MaxExemplars = true, 1000
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// point is one stored sample. Stale markers have V of NaN's kind and Stale set.
type point struct {
	T     int64
	V     float64
	Stale bool
}

// stored returns all samples by series, those of histograms with their count.
func stored(t testing.TB, db *tsdb.DB, matchers ...string) map[string][]point {
	q, err := db.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	defer q.Close()
	var ms []*labels.Matcher
	for i := 0; i < len(matchers); i += 2 {
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, matchers[i], matchers[i+1]))
	}
	out := map[string][]point{}
	set := q.Select(context.Background(), true, nil, ms...)
	for set.Next() {
		it := set.At().Iterator(nil)
		var ps []point
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				at, v := it.At()
				ps = append(ps, point{at, v, value.IsStaleNaN(v)})
			} else {
				at, h := it.AtFloatHistogram(nil)
				ps = append(ps, point{at, h.Count, value.IsStaleNaN(h.Sum)})
			}
		}
		require.NoError(t, it.Err())
		out[set.At().Labels().String()] = ps
	}
	require.NoError(t, set.Err())
	return out
}

// record makes a record of a job whose config is YAML. Tests scrape more often
// than people may: each 100 ms.
func record(t testing.TB, name, yml string, more ...func(*scrape.Job)) model.Record {
	conf, err := json.Marshal(yml)
	require.NoError(t, err)
	j := scrape.Job{Name: name, Config: conf}
	for _, f := range more {
		f(&j)
	}
	spec, err := json.Marshal(j)
	require.NoError(t, err)
	spec, err = scrape.Normalize(spec, nil)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(spec, &j))
	var tree map[string]any
	require.NoError(t, json.Unmarshal(j.Config, &tree))
	if tree["scrape_interval"] == nil {
		tree["scrape_interval"] = "100ms"
	}
	j.Config, err = json.Marshal(tree)
	require.NoError(t, err)
	spec, err = json.Marshal(j)
	require.NoError(t, err)
	return model.Record{Kind: "scrape", Name: name, Spec: spec}
}

// start runs a scraper until the test ends or stop is called.
func start(t testing.TB, cfg scrape.Config, deps scrape.Deps) (s *scrape.Scraper, stop func()) {
	if cfg.Node == "" {
		cfg.Node = "n1"
	}
	cfg.Reload, cfg.Interval = 50*time.Millisecond, 10*time.Millisecond
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
		deps.Logger = slog.Default()
	}
	s, err := scrape.New(cfg, deps)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		cancel()
		if !stopped.Swap(true) {
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// serve answers every request with a body.
func serve(t testing.TB, contentType, body string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

const textFormat = "text/plain; version=0.0.4"

func within(t testing.TB, d time.Duration, f func() bool, msg ...any) {
	require.Eventually(t, f, max(d, 30*time.Second), 20*time.Millisecond, msg...)
}

// owner is a plain placement over names.
func owner(key string, nodes []string) string {
	best, top := "", uint64(0)
	for _, n := range nodes {
		h := fnv.New64a()
		fmt.Fprint(h, n, "\x00", key)
		// FNV alone mixes its last bytes badly.
		x := h.Sum64()
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		if best == "" || x > top {
			best, top = n, x
		}
	}
	return best
}

var _ storage.Appendable = (*tsdb.DB)(nil)

func unmarshal(yml string, v any) error { return yaml.UnmarshalStrict([]byte(yml), v) }

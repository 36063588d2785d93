package query_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/query"
)

func TestNotReady(t *testing.T) {
	db := openDB(t)
	for name, deps := range map[string]query.Deps{
		"process": {Storage: db, Ready: func() error { return fmt.Errorf("replaying the log") }},
		"storage": {Storage: broken{db}},
	} {
		q := newQuery(t, query.Config{}, deps)
		for _, target := range []string{"/api/v1/query?query=up", "/api/v1/series?match[]=up", "/federate?match[]=up"} {
			require.Equal(t, 503, do(q.Handler(), http.MethodGet, target, nil).Code, "%s %s", name, target)
		}
	}
}

type broken struct{ *tsdb.DB }

func (broken) Querier(int64, int64) (storage.Querier, error) {
	return nil, fmt.Errorf("opening: %w", model.ErrUnavailable)
}

// slow answers selects when their context ends, and says when one began.
type slow struct {
	*tsdb.DB
	began chan struct{}
}

func (s slow) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.DB.Querier(mint, maxt)
	return slowQuerier{q, s.began}, err
}

type slowQuerier struct {
	storage.Querier
	began chan struct{}
}

func (q slowQuerier) Select(ctx context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	q.began <- struct{}{}
	<-ctx.Done()
	return storage.ErrSeriesSet(ctx.Err())
}

func TestClientLeavesAndQueryEnds(t *testing.T) {
	db := openDB(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	reg := prometheus.NewRegistry()
	s := slow{db, make(chan struct{}, 16)}
	q := newQuery(t, query.Config{MaxPerUser: 1, MaxWaiting: 1}, query.Deps{Storage: s, Registerer: reg,
		User: func(context.Context) string { return "alice" }})
	srv := httptest.NewServer(q.Handler())
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()

	get := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/api/v1/query?query=up", nil)
		require.NoError(t, err)
		go func() {
			resp, err := srv.Client().Do(req)
			if err == nil {
				err = fmt.Errorf("status %d", resp.StatusCode)
				resp.Body.Close()
			}
			done <- err
		}()
		return done
	}
	ctx, cancel := context.WithCancel(context.Background())
	first := get(ctx)
	<-s.began
	require.Equal(t, 1.0, gauge(t, reg, "panoptes_query_active_queries"))
	second := get(ctx) // the same user's: waits
	require.Eventually(t, func() bool { return gauge(t, reg, "panoptes_query_waiting_requests") == 1 }, 30*time.Second, time.Millisecond)
	require.EqualError(t, <-get(context.Background()), "status 429", "one runs and one waits")
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.ErrorIs(t, <-second, context.Canceled)
	require.Eventually(t, func() bool {
		return gauge(t, reg, "panoptes_query_active_queries") == 0 && gauge(t, reg, "panoptes_query_waiting_requests") == 0
	}, 30*time.Second, time.Millisecond)
}

func gauge(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestTimeout(t *testing.T) {
	q := newQuery(t, query.Config{Timeout: 50 * time.Millisecond}, query.Deps{Storage: slow{openDB(t), make(chan struct{}, 1)}})
	require.Equal(t, 503, do(q.Handler(), http.MethodGet, "/api/v1/query?query=up", nil).Code)
}

func TestStop(t *testing.T) {
	q := newQuery(t, query.Config{Dir: t.TempDir()}, query.Deps{Storage: openDB(t)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, q.Run(ctx))
	_, err := q.Instant(context.Background(), "up", time.Now())
	require.ErrorContains(t, err, "shutting down")
	_, err = query.New(query.Config{MaxSeries: -1}, query.Deps{Storage: openDB(t)})
	require.ErrorContains(t, err, "max_series")
}

func FuzzForms(f *testing.F) {
	db := openDB(f)
	fill(f, db, time.Now())
	q := newQuery(f, query.Config{Timeout: time.Second}, query.Deps{Storage: db})
	f.Add("up")
	f.Add(`{__name__=~".+"}`)
	f.Add(`rate(up[5m] offset 1h) @`)
	f.Fuzz(func(t *testing.T, expr string) {
		for _, target := range []string{"/federate?match[]=", "/api/v1/parse_query?query=", "/api/v1/format_query?query=", "/api/v1/series?match[]="} {
			if w := do(q.Handler(), http.MethodGet, target+url.QueryEscape(expr), nil); w.Code == 500 {
				t.Fatalf("%s%q: %s", target, expr, w.Body)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	db := openDB(f)
	q := newQuery(f, query.Config{}, query.Deps{Storage: db})
	b, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{EndTimestampMs: 1, Matchers: []*prompb.LabelMatcher{{Name: "a", Value: "b"}}}}}).Marshal()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := httptest.NewRecorder()
		q.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/read", bytes.NewReader(snappy.Encode(nil, b))))
	})
}

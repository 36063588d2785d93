package remote_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/relay"
	"panoptes/internal/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ relay.Outside = (*remote.Engine)(nil)

// engine takes remote write and remembers what it got.
type engine struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex // guards the fields below
	got      map[string][]prompb.Sample
	requests int
	largest  int
	head     http.Header
	answer   func(req *prompb.WriteRequest) (code int, header map[string]string)
}

func newEngine(t testing.TB) *engine {
	g := &engine{t: t, got: map[string][]prompb.Sample{}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(func() { g.CloseClientConnections(); g.Close() })
	return g
}

func (g *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/api/v1/write" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	raw, err := snappy.Decode(nil, body)
	req := &prompb.WriteRequest{}
	if err == nil {
		err = req.Unmarshal(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests++
	g.head = r.Header
	if g.answer != nil {
		if code, header := g.answer(req); code != 0 {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			http.Error(w, "because of the sample", code)
			return
		}
	}
	n := 0
	for _, ts := range req.Timeseries {
		b := labels.NewScratchBuilder(0)
		name := ts.ToLabels(&b, nil).String()
		g.got[name] = append(g.got[name], ts.Samples...)
		n += len(ts.Samples)
	}
	g.largest = max(g.largest, n)
	w.WriteHeader(http.StatusNoContent)
}

func (g *engine) setAnswer(f func(*prompb.WriteRequest) (int, map[string]string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = f
}

func (g *engine) samples() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.got {
		n += len(s)
	}
	return n
}

// inOrder fails unless the samples of each series came in order, each once.
func (g *engine) inOrder() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, list := range g.got {
		for i := 1; i < len(list); i++ {
			require.Greater(g.t, list[i].Timestamp, list[i-1].Timestamp, name)
		}
	}
}

func newRemote(t testing.TB, base string) *remote.Engine {
	t.Helper()
	e, err := remote.New(remote.Config{WriteURL: base + "/api/v1/write", QueryURL: base, Headers: map[string]model.Secret{"X-Scope-OrgID": "tenant"}}, remote.Deps{})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

func series(i int) labels.Labels {
	return labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
}

// write appends times instants of n series.
func write(t testing.TB, e *remote.Engine, n, times int) error {
	t.Helper()
	app := e.Appender(t.Context())
	for at := range times {
		for i := range n {
			_, err := app.Append(0, series(i), int64(1000+at), float64(i))
			require.NoError(t, err)
		}
	}
	return app.Commit()
}

func TestSend(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	app := e.Appender(t.Context())
	for at := range 40 {
		for i := range 300 {
			_, err := app.Append(labelsRef(i), series(i), int64(1000+at), float64(i))
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	require.Equal(t, 12_000, g.samples())
	g.inOrder()
	require.LessOrEqual(t, g.largest, 2000)
	require.Equal(t, "tenant", g.head.Get("X-Scope-OrgID"))
	require.Equal(t, "snappy", g.head.Get("Content-Encoding"))
	require.Equal(t, "0.1.0", g.head.Get("X-Prometheus-Remote-Write-Version"))
	require.NoError(t, e.Err())
	require.Error(t, app.Commit(), "it has ended")
}

func labelsRef(i int) storage.SeriesRef { return storage.SeriesRef(i + 1) }

func TestSendAgainUntilTaken(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	tries := 0
	codes := []int{503, 500, 429, 401, 404}
	g.setAnswer(func(*prompb.WriteRequest) (int, map[string]string) {
		if tries++; tries <= len(codes) {
			return codes[tries-1], nil
		}
		return 0, nil
	})
	require.NoError(t, write(t, e, 10, 1))
	require.Equal(t, 10, g.samples())
	require.Equal(t, len(codes)+1, g.requests)
	require.NoError(t, e.Err())
	require.Zero(t, e.Status().Refused)
}

func TestRetryAfterIsObeyed(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	var first time.Time
	g.setAnswer(func(*prompb.WriteRequest) (int, map[string]string) {
		if first.IsZero() {
			first = time.Now()
			return 503, map[string]string{"Retry-After": "1"}
		}
		return 0, nil
	})
	require.NoError(t, write(t, e, 1, 1))
	require.GreaterOrEqual(t, time.Since(first), time.Second)
}

func TestWaitsForAnEngineThatIsAway(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	g.setAnswer(func(*prompb.WriteRequest) (int, map[string]string) { return 502, nil })
	ctx, cancel := context.WithCancel(t.Context())
	app := e.Appender(ctx)
	_, err := app.Append(0, series(1), 1, 1)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- app.Commit() }()
	require.Eventually(t, func() bool { return e.Err() != nil }, 30*time.Second, time.Millisecond)
	require.ErrorIs(t, e.Err(), model.ErrUnavailable)
	require.ErrorContains(t, e.Err(), "502")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Zero(t, g.samples())
}

// An engine that refuses a request because of one sample gets all the others.
func TestOneBadSampleDoesNotCostTheOthers(t *testing.T) {
	f := func(code, series, times int) {
		t.Helper()
		g := newEngine(t)
		e := newRemote(t, g.URL)
		g.setAnswer(func(req *prompb.WriteRequest) (int, map[string]string) {
			for _, ts := range req.Timeseries {
				for _, s := range ts.Samples {
					if ts.Labels[1].Value == "7" && s.Timestamp == 1003 || len(ts.Exemplars) > 0 {
						return code, nil
					}
				}
			}
			return 0, nil
		})
		require.NoError(t, write(t, e, series, times))
		require.Equal(t, series*times-1, g.samples())
		g.inOrder()
		st := e.Status()
		require.EqualValues(t, 1, st.Refused)
		require.Contains(t, st.Example, `i="7"`)
		require.Contains(t, st.Example, "because of the sample")
		require.Empty(t, st.Err)
	}
	f(400, 90, 20)
	f(422, 8, 200)
	f(413, 10, 4)
}

func TestConflictIsFinal(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	g.setAnswer(func(*prompb.WriteRequest) (int, map[string]string) { return 409, nil })
	require.NoError(t, write(t, e, 10, 2))
	require.Equal(t, 1, g.requests)
	require.EqualValues(t, 20, e.Status().Refused)
}

func TestRefusingEverythingIsBounded(t *testing.T) {
	g := newEngine(t)
	e := newRemote(t, g.URL)
	g.setAnswer(func(*prompb.WriteRequest) (int, map[string]string) { return 400, nil })
	app := e.Appender(t.Context())
	for i := range 2000 {
		ref, err := app.Append(0, series(i), 1, 1)
		require.NoError(t, err)
		_, err = app.AppendExemplar(ref, series(i), exemplar.Exemplar{Labels: labels.FromStrings("trace", "x"), Value: 1, Ts: 1})
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	require.EqualValues(t, 2000, e.Status().Refused)
	require.Less(t, g.requests, 1000)
}

func TestConfig(t *testing.T) {
	f := func(c remote.Config, field string) {
		t.Helper()
		_, err := remote.New(c, remote.Deps{})
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, field, inv[0].Field)
		require.NotContains(t, err.Error(), "hush")
	}
	const u = "http://127.0.0.1:1"
	f(remote.Config{QueryURL: u}, "write_url")
	f(remote.Config{WriteURL: u, QueryURL: "ftp://hush"}, "query_url")
	f(remote.Config{WriteURL: u, QueryURL: u, Headers: map[string]model.Secret{"Content-Type": "hush"}}, "headers.Content-Type")
	f(remote.Config{WriteURL: u, QueryURL: u, Headers: map[string]model.Secret{"X-A": "hush\r\nX-B: 1"}}, "headers.X-A")
	f(remote.Config{WriteURL: u, QueryURL: u, Parallel: 99}, "parallel")
}

func TestQueriesArePassedOn(t *testing.T) {
	var got *http.Request
	var form url.Values
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil { // it was cut off
			return
		}
		got, form = r, r.Form
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Cache-Control", "max-age=60")
		switch r.FormValue("query") {
		case "bad":
			w.WriteHeader(400)
		case "closed":
			w.WriteHeader(401)
		}
		fmt.Fprint(w, `{"status":"success","warnings":["partial response"]}`)
	}))
	defer func() { srv.CloseClientConnections(); srv.Close() }()
	e := newRemote(t, srv.URL+"/prometheus")
	h := e.Handler()
	ask := func(method, target, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		r.Header.Set("Authorization", "Bearer ours")
		r.Header.Set("Cookie", "session=ours")
		r.Header.Set("X-Scope-OrgID", "other")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := ask("GET", "/api/v1/query_range?query=up&start=1", "")
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `{"status":"success","warnings":["partial response"]}`, w.Body.String())
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Empty(t, w.Header().Get("Set-Cookie"))
	require.Equal(t, "/prometheus/api/v1/query_range", got.URL.Path)
	require.Equal(t, "up", form.Get("query"))
	require.Equal(t, "tenant", got.Header.Get("X-Scope-OrgID"))
	require.Empty(t, got.Header.Get("Authorization"))
	require.Empty(t, got.Header.Get("Cookie"))

	require.Equal(t, 200, ask("POST", "/api/v1/query", "query=sum(up)").Code)
	require.Equal(t, "sum(up)", form.Get("query"))
	require.Equal(t, 200, ask("GET", "/api/v1/label/a%2Fb/values", "").Code)
	require.Equal(t, "/prometheus/api/v1/label/a%2Fb/values", got.URL.EscapedPath())
	require.Equal(t, 400, ask("GET", "/api/v1/query?query=bad", "").Code)
	require.Equal(t, 404, ask("POST", "/api/v1/write", "x=1").Code)
	require.Equal(t, 404, ask("GET", "/api/v1/admin/tsdb/snapshot", "").Code)
	require.Equal(t, 413, ask("POST", "/api/v1/query", "query="+strings.Repeat("x", 2<<20)).Code)

	w = ask("GET", "/api/v1/query?query=closed", "")
	require.Equal(t, 502, w.Code)
	require.Contains(t, w.Body.String(), "headers")
	srv.CloseClientConnections()
	srv.Close()
	w = ask("GET", "/api/v1/query?query=up", "")
	require.Equal(t, 502, w.Code)
	var out struct{ Status, ErrorType, Error string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	require.Equal(t, "error", out.Status)
}

// An engine that takes a version 2 message for an empty one says that all is
// well and stores nothing: that must not end the samples' time in the log.
func TestVersion2IsUnderstoodOrSentAgain(t *testing.T) {
	var mu sync.Mutex
	knows, series := false, 0
	g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if knows {
			body, err := io.ReadAll(r.Body)
			raw, derr := snappy.Decode(nil, body)
			var req writev2.Request
			if err != nil || derr != nil || req.Unmarshal(raw) != nil || r.Header.Get("X-Prometheus-Remote-Write-Version") != "2.0.0" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			series += len(req.Timeseries)
			w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", fmt.Sprint(len(req.Timeseries)))
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer func() { g.CloseClientConnections(); g.Close() }()
	e, err := remote.New(remote.Config{WriteURL: g.URL, QueryURL: g.URL, Version: 2}, remote.Deps{})
	require.NoError(t, err)
	defer e.Close()
	done := make(chan error, 1)
	go func() { done <- write(t, e, 5, 1) }()
	require.Eventually(t, func() bool { return e.Err() != nil }, 30*time.Second, time.Millisecond)
	require.ErrorContains(t, e.Err(), "remote write 2")
	mu.Lock()
	knows = true
	mu.Unlock()
	require.NoError(t, <-done)
	require.Equal(t, 5, series)
	_, err = remote.New(remote.Config{WriteURL: g.URL, QueryURL: g.URL, Version: 3}, remote.Deps{})
	require.ErrorContains(t, err, "version")
}

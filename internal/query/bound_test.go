package query_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/query"
)

type boundKey struct{}

// Who is bound to labels sees nothing of others by any route; those who are
// bound to nothing see it, which shows that the questions are the right ones.
func TestBoundKeysSeeTheirOwnOnly(t *testing.T) {
	db, now := openDB(t), time.Now().Truncate(time.Second)
	app := db.Appender(context.Background())
	for _, tenant := range []string{"mine", "secret", ""} {
		ls := labels.FromStrings("__name__", "m", "tenant", tenant, "who", tenant+"who").WithoutEmpty()
		if tenant != "mine" {
			ls = labels.FromStrings("__name__", "m", "tenant", tenant, "who", "secretwho", "secretlabel", "x").WithoutEmpty()
		}
		ref, err := app.Append(0, ls, now.UnixMilli(), 1)
		require.NoError(t, err)
		_, err = app.AppendExemplar(ref, ls, exemplar.Exemplar{Labels: labels.FromStrings("trace", ls.Get("who")), Value: 1, Ts: now.UnixMilli(), HasTs: true})
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	q := newQuery(t, query.Config{}, query.Deps{
		Storage: db, Stats: stats{db}, Registerer: prometheus.NewRegistry(),
		Metadata: func(string) map[string]query.Metadata { return map[string]query.Metadata{"secret": {Type: "gauge"}} },
		Bound: func(ctx context.Context) labels.Labels {
			if ctx.Value(boundKey{}) != nil {
				return labels.FromStrings("tenant", "mine")
			}
			return labels.EmptyLabels()
		},
	})
	ask := func(r *http.Request, bound bool) *httptest.ResponseRecorder {
		if bound {
			r = r.WithContext(context.WithValue(r.Context(), boundKey{}, true))
		}
		w := httptest.NewRecorder()
		q.Handler().ServeHTTP(w, r)
		return w
	}
	read := func(streamed bool) func() *http.Request {
		return func() *http.Request {
			req := &prompb.ReadRequest{Queries: []*prompb.Query{{
				StartTimestampMs: now.Add(-time.Minute).UnixMilli(), EndTimestampMs: now.UnixMilli(),
				Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "m"}},
			}}}
			if streamed {
				req.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS}
			}
			b, err := req.Marshal()
			require.NoError(t, err)
			return httptest.NewRequest(http.MethodPost, "/api/v1/read", bytes.NewReader(snappy.Encode(nil, b)))
		}
	}
	body := func(path string, w *httptest.ResponseRecorder) string {
		if path == "/api/v1/read" {
			if b, err := snappy.Decode(nil, w.Body.Bytes()); err == nil {
				return string(b)
			}
		}
		return w.Body.String()
	}
	at := fmt.Sprint(now.Unix())
	window := url.Values{"start": {fmt.Sprint(now.Unix() - 60)}, "end": {at}, "step": {"15"}}
	get := func(path string, form url.Values) func() *http.Request {
		all := url.Values{}
		for _, f := range []url.Values{window, form} {
			for k, v := range f {
				all[k] = v
			}
		}
		return func() *http.Request { return httptest.NewRequest(http.MethodGet, path+"?"+all.Encode(), nil) }
	}
	expr := func(s string) url.Values { return url.Values{"query": {s}, "time": {at}} }
	for _, make := range []func() *http.Request{
		get("/api/v1/query", expr("m")), get("/api/v1/query", expr(`m{tenant="secret"} or m`)),
		get("/api/v1/query", expr(`max_over_time(m{tenant!="mine"}[5m]) or m`)), get("/api/v1/query", expr(`{__name__=~".+"}`)),
		get("/api/v1/query_range", expr("m")), get("/api/v1/query_exemplars", expr("m")),
		get("/api/v1/series", url.Values{"match[]": {"m", `{tenant="secret"}`}}),
		get("/api/v1/labels", nil), get("/api/v1/labels", url.Values{"match[]": {"m"}}),
		get("/api/v1/label/who/values", nil), get("/api/v1/label/tenant/values", url.Values{"match[]": {"m"}}),
		get("/federate", url.Values{"match[]": {"m"}}), read(false), read(true),
	} {
		r := make()
		name := r.URL.String()
		w := ask(r, false)
		require.Equal(t, 200, w.Code, "%s: %s", name, w.Body)
		require.Contains(t, body(r.URL.Path, w), "secret", name)
		w = ask(make(), true)
		require.Equal(t, 200, w.Code, "%s: %s", name, w.Body)
		require.NotContains(t, strings.ReplaceAll(body(r.URL.Path, w), `tenant="secret"`, ""), "secret", name)
		if !strings.Contains(name, "labels?") {
			require.Contains(t, body(r.URL.Path, w), "mine", name)
		}
	}
	for _, path := range []string{
		"metadata", "alertmanagers", "scrape_pools", "targets", "targets/metadata", "notifications",
		"status/tsdb", "status/tsdb/blocks", "status/config", "status/flags", "status/runtimeinfo",
	} {
		w := ask(get("/api/v1/"+path, nil)(), true)
		require.Equal(t, http.StatusForbidden, w.Code, path)
	}
}

func TestMetadataOfSenders(t *testing.T) {
	all := map[string]query.Metadata{"a": {Type: "gauge", Help: "A."}, "b": {Type: "counter", Unit: "s"}}
	q := newQuery(t, query.Config{}, query.Deps{Storage: openDB(t), Metadata: func(metric string) map[string]query.Metadata {
		if m, ok := all[metric]; ok {
			return map[string]query.Metadata{metric: m}
		}
		return all
	}})
	f := func(args, want string) {
		t.Helper()
		w := do(q.Handler(), http.MethodGet, "/api/v1/metadata"+args, nil)
		require.JSONEq(t, want, w.Body.String())
	}
	f("", `{"status":"success","data":{"a":[{"type":"gauge","help":"A.","unit":""}],"b":[{"type":"counter","help":"","unit":"s"}]}}`)
	f("?metric=b", `{"status":"success","data":{"b":[{"type":"counter","help":"","unit":"s"}]}}`)
	f("?limit=0&metric=a&limit_per_metric=1", `{"status":"success","data":{"a":[{"type":"gauge","help":"A.","unit":""}]}}`)
	require.Equal(t, 400, do(q.Handler(), http.MethodGet, "/api/v1/metadata?limit=x", nil).Code)
}

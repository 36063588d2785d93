package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"path"
	"strconv"
	"time"
)

const maxForm = 1 << 20 // bytes of a posted form or remote read request

// Handler passes the reading part of the Prometheus API on to the engine. Who
// asks is known already: nothing of that travels on, and the engine sees the
// configured headers only. Answers come as they are, with their warnings about
// what is missing, and nobody may keep them.
func (e *Engine) Handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: e.client.Transport, Rewrite: e.rewrite, ModifyResponse: e.answer, ErrorHandler: e.failed,
	}
	pass := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.pass(w, r, proxy) })
	mux := http.NewServeMux()
	for _, p := range []string{"query", "query_range", "query_exemplars", "series", "labels", "format_query", "parse_query"} {
		mux.Handle("GET /api/v1/"+p, pass)
		mux.Handle("POST /api/v1/"+p, pass)
	}
	mux.Handle("GET /api/v1/label/{name}/values", pass)
	mux.Handle("GET /api/v1/metadata", pass)
	mux.Handle("POST /api/v1/read", pass)
	return mux
}

func (e *Engine) pass(w http.ResponseWriter, r *http.Request, proxy *httputil.ReverseProxy) {
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	default:
		w.Header().Set("Retry-After", "5")
		e.fail(w, http.StatusServiceUnavailable, "unavailable", fmt.Errorf("%d queries are running, which is the limit; try again", e.cfg.MaxConcurrent))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.cfg.QueryTimeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	start := time.Now()
	proxy.ServeHTTP(w, r.WithContext(ctx))
	e.m.queryTime.Observe(time.Since(start).Seconds())
}

// rewrite makes the request to the engine of the one that was asked.
func (e *Engine) rewrite(r *httputil.ProxyRequest) {
	out := r.Out
	out.URL.Scheme, out.URL.Host, out.URL.User = e.query.Scheme, e.query.Host, nil
	out.URL.Path = path.Join("/", e.query.Path, r.In.URL.Path)
	out.URL.RawPath = ""
	if esc := r.In.URL.EscapedPath(); esc != r.In.URL.Path { // a label's name may need it
		out.URL.RawPath = path.Join("/", e.query.EscapedPath(), esc)
	}
	out.URL.RawQuery = r.In.URL.RawQuery // also what is not well formed: the engine says what is wrong
	out.Host = ""
	kept := http.Header{}
	for _, name := range []string{"Accept", "Accept-Encoding", "Content-Type", "Content-Encoding", "X-Prometheus-Remote-Read-Version"} {
		if v := r.In.Header.Get(name); v != "" {
			kept.Set(name, v)
		}
	}
	kept.Set("User-Agent", "panoptes")
	out.Header = kept
	if u := e.query.User; u != nil { // only clients look at the URL's user
		pw, _ := u.Password()
		out.SetBasicAuth(u.Username(), pw)
	}
	e.headers(kept)
}

// answer lets through what belongs to the answer. The engine's own opinion of
// who may ask is about this server, not about who asked it.
func (e *Engine) answer(res *http.Response) error {
	e.m.queries.WithLabelValues(strconv.Itoa(res.StatusCode)).Inc()
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fmt.Errorf("the engine answered %d: check query_url and headers of the storage", res.StatusCode)
	}
	kept := http.Header{}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length", "Retry-After", "Trailer"} {
		if v := res.Header.Get(name); v != "" {
			kept.Set(name, v)
		}
	}
	kept.Set("Cache-Control", "no-store")
	res.Header = kept
	return nil
}

// failed answers when the engine did not.
func (e *Engine) failed(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		e.fail(w, http.StatusRequestEntityTooLarge, "bad_data", fmt.Errorf("the form is larger than %d bytes", maxForm))
	case errors.Is(r.Context().Err(), context.DeadlineExceeded):
		e.fail(w, http.StatusServiceUnavailable, "timeout", fmt.Errorf("the engine did not answer within %s", e.cfg.QueryTimeout))
	case r.Context().Err() != nil: // nobody waits for the answer
		e.m.queries.WithLabelValues("canceled").Inc()
	default:
		e.log.Warn("query not passed on", "path", r.URL.Path, "err", err)
		e.fail(w, http.StatusBadGateway, "unavailable", fmt.Errorf("the engine that keeps the samples does not answer: %w", err))
	}
}

// fail answers in the form of Prometheus' API.
func (e *Engine) fail(w http.ResponseWriter, code int, kind string, err error) {
	e.m.queries.WithLabelValues(strconv.Itoa(code)).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": err.Error()}); err != nil {
		e.log.Debug("client left before its answer", "err", err)
	}
}

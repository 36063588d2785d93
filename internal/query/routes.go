package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/features"

	"panoptes/internal/model"
)

const (
	maxForm        = 1 << 20 // bytes of a posted form or of a remote read request as sent
	maxReadDecoded = 8 << 20 // bytes of it decoded
)

// routes is the table of everything this package answers. What is not in it,
// such as the library's admin and write endpoints, does not exist.
func (q *Query) routes(registry features.Collector) http.Handler {
	api := q.prometheusAPI(registry)
	q.library = api
	mux := http.NewServeMux()
	mux.Handle("GET /v1/explain", q.observe("explain", q.bounded(http.HandlerFunc(q.explain))))
	mux.Handle("GET /v1/slow-queries", http.HandlerFunc(q.slowQueries))
	both := func(path string, h http.Handler) {
		mux.Handle("GET "+path, h)
		mux.Handle("POST "+path, h)
	}
	for _, path := range []string{"query", "query_range", "query_exemplars", "series", "labels"} {
		both("/api/v1/"+path, q.observe(path, q.bounded(api)))
	}
	mux.Handle("GET /api/v1/label/{name}/values", q.observe("label_values", q.bounded(api)))
	mux.Handle("POST /api/v1/read", q.observe("read", q.bounded(q.readHandler())))
	both("/federate", q.observe("federate", q.bounded(http.HandlerFunc(q.federate))))

	for _, path := range []string{"format_query", "parse_query"} {
		both("/api/v1/"+path, q.observe(path, q.checked(api)))
	}
	for _, path := range []string{
		"rules", "alerts", "alertmanagers", "scrape_pools", "targets", "targets/metadata", "targets/relabel_steps",
		"features", "notifications", "status/runtimeinfo", "status/buildinfo", "status/flags",
	} {
		next := http.Handler(api)
		switch path {
		case "features", "status/buildinfo":
		case "rules", "alerts": // Deps.Rules leaves out what who asks may not see
		default:
			next = q.unbound(api)
		}
		mux.Handle("GET /api/v1/"+path, q.observe(path, next))
	}
	mux.Handle("GET /api/v1/metadata", q.observe("metadata", q.unbound(http.HandlerFunc(q.metadata))))
	for _, path := range []string{"status/tsdb", "status/tsdb/blocks", "status/walreplay"} {
		mux.Handle("GET /api/v1/"+path, q.observe(path, q.unbound(q.withStats(api))))
	}
	mux.Handle("GET /api/v1/status/config", q.observe("status/config", q.unbound(http.HandlerFunc(q.statusConfig))))
	return mux
}

// observe counts and times a route, logs slow answers, and refuses all while
// the server is not ready.
func (q *Query) observe(path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		c := &cost{}
		r = r.WithContext(context.WithValue(r.Context(), costKey{}, c))
		if err := q.deps.Ready(); err != nil {
			q.refuse(sw, "not_ready", http.StatusServiceUnavailable, err)
		} else {
			next.ServeHTTP(sw, r)
		}
		took := time.Since(start)
		q.metrics.requests.WithLabelValues(path, strconv.Itoa(sw.code)).Inc()
		q.metrics.seconds.WithLabelValues(path).Observe(took.Seconds())
		if slow := took >= q.cfg.SlowQuery; slow || q.log.Enabled(r.Context(), slog.LevelDebug) {
			q.logRequest(path, r, start, took, sw.code, c, slow)
		}
	})
}

// bounded lets a request through that reads from the storage, in its user's turn.
func (q *Query) bounded(next http.Handler) http.Handler {
	return q.checked(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), q.cfg.Timeout)
		defer cancel()
		q.metrics.waiting.Inc()
		leave, err := q.gate.enter(ctx, q.deps.User(ctx))
		q.metrics.waiting.Dec()
		switch {
		case errors.Is(err, model.ErrLimit):
			q.refuse(w, "user_limit", http.StatusTooManyRequests, err)
			return
		case err != nil:
			q.refuse(w, "user_wait", http.StatusServiceUnavailable, fmt.Errorf("waiting for this user's other queries: %w", err))
			return
		}
		defer leave()
		next.ServeHTTP(w, r.WithContext(ctx))
	}))
}

// checked bounds the form and the lengths of the expressions in it. A body that
// is no form is left to next.
func (q *Query) checked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				q.refuse(w, "form_size", http.StatusRequestEntityTooLarge, fmt.Errorf("the form is larger than %d bytes", maxForm))
				return
			}
			q.refuse(w, "form", http.StatusBadRequest, fmt.Errorf("parse form: %w", err))
			return
		}
		// All samples have full resolution, which is fine enough for whatever is asked.
		if v := r.Form.Get("max_source_resolution"); v != "" && v != "auto" {
			if d, err := parseStep(v); err != nil || d < 0 {
				q.refuse(w, "form", http.StatusBadRequest, fmt.Errorf("max_source_resolution is %q; write auto or a duration such as 5m", v))
				return
			}
		}
		for _, field := range []string{"query", "match[]"} {
			for _, expr := range r.Form[field] {
				if len(expr) > q.cfg.MaxQueryLength {
					q.refuse(w, "query_length", http.StatusUnprocessableEntity,
						fmt.Errorf("%s has %d bytes, %d are allowed", field, len(expr), q.cfg.MaxQueryLength))
					return
				}
				if err := tooLong(expr); err != nil {
					q.refuse(w, "query_operators", http.StatusUnprocessableEntity, err)
					return
				}
			}
		}
		if expr, err := parser.ParseExpr(r.Form.Get("query")); err == nil { // what is wrong with it, others say
			if err := tooDeep(expr); err != nil {
				q.refuse(w, "query_depth", http.StatusUnprocessableEntity, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// unbound refuses who is bound to labels what does not come from the storage:
// targets and names of metrics know of no such bounds.
func (q *Query) unbound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bound := q.deps.Bound(r.Context()); !bound.IsEmpty() {
			q.refuse(w, "bound", http.StatusForbidden, fmt.Errorf("this key is bound to %s and may only query series", bound))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (q *Query) withStats(next http.Handler) http.Handler {
	if q.deps.Stats != nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		q.refuse(w, "no_stats", http.StatusServiceUnavailable, errors.New("samples are kept by another engine; ask it for its statistics"))
	})
}

// statusConfig answers with our own text: Prometheus' rendering would show a
// configuration that nobody wrote.
func (q *Query) statusConfig(w http.ResponseWriter, _ *http.Request) {
	text := "# This server is configured by its catalog, see /v1/export.\n"
	if q.deps.ConfigText != nil {
		text = q.deps.ConfigText()
	}
	w.Header().Set("Content-Type", "application/json")
	q.encode(w, answer{Status: "success", Data: map[string]string{"yaml": text}})
}

// readHandler answers remote read. The library decodes whatever length a
// request claims, so the claim is checked here first.
func (q *Query) readHandler() http.Handler {
	store := *q.store
	store.trim = true // what is read goes out as it is
	next := remote.NewReadHandler(q.log, q.deps.Registerer, &store, q.config, q.cfg.MaxSamples, q.cfg.MaxConcurrent, 1<<20)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // bounded by checked
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			q.refuse(w, "read_size", http.StatusRequestEntityTooLarge, fmt.Errorf("a read request may have %d bytes", maxForm))
			return
		}
		if err != nil {
			q.refuse(w, "read_body", http.StatusBadRequest, fmt.Errorf("read request: %w", err))
			return
		}
		n, err := snappy.DecodedLen(body)
		switch {
		case err == nil && n > maxReadDecoded:
			q.refuse(w, "read_size", http.StatusRequestEntityTooLarge, fmt.Errorf("a read request may have %d bytes when decoded", maxReadDecoded))
			return
		case err != nil:
			q.refuse(w, "read_body", http.StatusBadRequest, fmt.Errorf("the body is not snappy: %w", err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hit := &atomic.Bool{}
		next.ServeHTTP(&limitWriter{ResponseWriter: w, hit: hit}, r.WithContext(context.WithValue(r.Context(), noteKey{}, hit)))
	})
}

// answer is what Prometheus' API answers, its keys in the order of the original.
type answer struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// refuse answers in the form of Prometheus' API.
func (q *Query) refuse(w http.ResponseWriter, reason string, code int, err error) {
	q.metrics.refused.WithLabelValues(reason).Inc()
	kind := "unavailable"
	switch code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		kind = "bad_data"
	case http.StatusUnprocessableEntity:
		kind = "execution"
	case http.StatusInternalServerError:
		kind = "internal"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	q.encode(w, answer{Status: "error", ErrorType: kind, Error: err.Error()})
}

func (q *Query) encode(w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		q.log.Debug("client left before its answer", "err", err)
	}
}

// statusWriter remembers the status code.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher, which streamed remote reads need.
func (w *statusWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController find the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// limitWriter turns the 500 of a handler whose query hit a limit into a 422.
type limitWriter struct {
	http.ResponseWriter
	hit *atomic.Bool
}

func (w *limitWriter) WriteHeader(code int) {
	if code == http.StatusInternalServerError && w.hit.Load() {
		code = http.StatusUnprocessableEntity
	}
	w.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher.
func (w *limitWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

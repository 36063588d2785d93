package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"panoptes/internal/model"
)

// The limits of bodies.
const (
	objectLimit = 256 << 10
	applyLimit  = 16 << 20
	bodyTimeout = 30 * time.Second
)

// route is one line of the table of routes. Either handle or raw is set.
type route struct {
	pattern string                                   // of the mux: "GET /v1/checks/{id}"
	need    string                                   // role; empty for anyone
	handle  func(r *http.Request) (any, error)       // its answer is written as JSON
	raw     func(http.ResponseWriter, *http.Request) // writes itself
	page    bool                                     // for people: who is not logged in is sent to the login page
	origin  bool                                     // anyone may call it, but not from another site's page
	ask     bool                                     // anyone may call it; who it is matters
	bound   bool                                     // open to those who are bound to labels: it shows and takes only what they may see
	hidden  bool                                     // not in the OpenAPI document

	doc    string // one sentence
	query  []param
	body   any   // zero value of what is sent
	answer any   // zero value of what is answered; nil for no body
	status int   // of success; 0 means 200
	limit  int64 // of the body; 0 means objectLimit
}

// param is one parameter of a query.
type param struct{ name, doc string }

// reply is an answer that is more than a body.
type reply struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	body    any // nil for none
}

type ctxKey int

const (
	ctxIdentity ctxKey = iota
	ctxPrefix
	ctxAddress
)

// who returns the identity of a request, nil for anonymous.
func who(r *http.Request) *model.Identity {
	id, _ := r.Context().Value(ctxIdentity).(*model.Identity)
	return id
}

// prefix returns the path under which the browser sees the server, without
// the last slash.
func prefix(r *http.Request) string {
	p, _ := r.Context().Value(ctxPrefix).(string)
	return p
}

// address returns the client's address.
func address(r *http.Request) string {
	s, _ := r.Context().Value(ctxAddress).(string)
	return s
}

// root prepares every request: address, base path, headers.
func (a *API) root(w http.ResponseWriter, r *http.Request) {
	ctx := context.WithValue(r.Context(), ctxAddress, a.clientAddress(r))
	ctx = context.WithValue(ctx, ctxPrefix, a.clientPrefix(r))
	r = r.WithContext(ctx)
	if a.cfg.BasePath != "" {
		if r.URL.Path == a.cfg.BasePath {
			http.Redirect(w, r, prefix(r)+"/", http.StatusPermanentRedirect)
			return
		}
		if strings.HasPrefix(r.URL.Path, a.cfg.BasePath+"/") {
			http.StripPrefix(a.cfg.BasePath, a.mux).ServeHTTP(w, r)
			return
		}
	}
	a.mux.ServeHTTP(w, r)
}

// serve is the one place of authorisation: after routing, on the matched route.
func (a *API) serve(rt *route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		securityHeaders(sw.Header())
		defer a.survive(rt, sw, r)
		r, err := a.authorize(rt, r)
		switch {
		case err != nil && rt.page && isRead(r) && errors.Is(err, model.ErrUnauthorized):
			a.toLogin(sw, r)
		case err != nil:
			a.fail(sw, r, err)
		case rt.raw != nil:
			rt.raw(sw, r)
		default:
			a.answer(sw, r, rt)
		}
		a.count.WithLabelValues(rt.pattern, strconv.Itoa(sw.code())).Inc()
		if !strings.HasSuffix(rt.pattern, "/stream") {
			a.took.WithLabelValues(rt.pattern).Observe(time.Since(begun).Seconds())
		}
	})
}

// survive answers for a handler that panicked and leaves the stack in the log.
func (a *API) survive(rt *route, w *statusWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // it ends the connection on purpose
	}
	a.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	a.count.WithLabelValues(rt.pattern, strconv.Itoa(http.StatusInternalServerError)).Inc()
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	writeJSON(w, r, http.StatusInternalServerError, errorBody{errorInfo{Code: "internal", Message: "an internal error; the server's log tells more"}})
}

// authorize finds out who sends r and whether the route is open to them. What
// a browser sends along by itself (cookie, basic) must not come from another
// site; a key must have been put there by a program.
func (a *API) authorize(rt *route, r *http.Request) (*http.Request, error) {
	bearer := len(r.Header.Get("Authorization")) > 7 && strings.EqualFold(r.Header.Get("Authorization")[:7], "Bearer ")
	if (rt.need != "" || rt.origin) && !bearer {
		if err := a.csrf.Check(r); err != nil {
			return r, fmt.Errorf("%w: a page of another site sent this request", model.ErrForbidden)
		}
	}
	if rt.need == "" && !rt.ask {
		return r, nil
	}
	id, err := a.deps.Auth.Authenticate(r, address(r))
	if err != nil && rt.need != "" {
		return r, a.orStarting(err)
	}
	r = r.WithContext(context.WithValue(r.Context(), ctxIdentity, id))
	switch {
	case rt.need == "":
		return r, nil
	case id == nil:
		return r, fmt.Errorf("%w: log in, or send the header \"Authorization: Bearer KEY\"", model.ErrUnauthorized)
	case !model.AtLeast(id.Role, rt.need):
		return r, fmt.Errorf("%w: this needs the role %s, yours is %s", model.ErrForbidden, rt.need, id.Role)
	case !rt.bound && !id.Bound.IsEmpty():
		return r, fmt.Errorf("%w: you are bound to %s, and this shows or changes what others have as well", model.ErrForbidden, id.Bound)
	}
	return r, nil
}

// orStarting is err, unless the records that tell good credentials from bad ones
// may not have been read yet. A sender gives up what it has when it is told that
// its key is unknown; told to come back, it keeps it.
func (a *API) orStarting(err error) error {
	if errors.Is(err, model.ErrUnauthorized) && a.deps.Ready != nil {
		if starting := a.deps.Ready(); starting != nil {
			return starting
		}
	}
	return err
}

// answer calls a handler and writes what it returns.
func (a *API) answer(w http.ResponseWriter, r *http.Request, rt *route) {
	if err := takeBody(w, r, rt.limit); err != nil {
		a.fail(w, r, err)
		return
	}
	v, err := rt.handle(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	status := rt.status
	if status == 0 {
		status = http.StatusOK
	}
	if rep, ok := v.(*reply); ok {
		for k, vs := range rep.header {
			w.Header()[k] = vs
		}
		for _, c := range rep.cookies {
			http.SetCookie(w, c)
		}
		if rep.status != 0 {
			status = rep.status
		}
		v = rep.body
	}
	if v == nil {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, r, status, v)
}

// takeBody reads the body, within limits of size and time, before the handler
// runs: a deadline on reading must be over by then, or it would end handlers
// that take longer.
func takeBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if limit == 0 {
		limit = objectLimit
	}
	rc := http.NewResponseController(w)
	// A writer without deadlines, as in tests, cannot be slow either.
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return err
		}
		return invalid("", "the body could not be read to its end")
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// writeJSON encodes v, zipped when it is worth it and wanted.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		buf.Reset()
		buf.WriteString(`{"error":{"code":"internal","message":"the answer could not be encoded"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	h.Add("Vary", "Accept-Encoding")
	if buf.Len() <= 1024 || !acceptsGzip(r) {
		h.Set("Content-Length", strconv.Itoa(buf.Len()))
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(buf.Bytes()) // an error here means that nobody listens
		}
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	zw := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(zw)
	zw.Reset(w)
	_, _ = zw.Write(buf.Bytes())
	_ = zw.Close()
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// decode reads the body of r strictly.
func decode(r *http.Request, v any) error {
	b, err := body(r)
	if err != nil {
		return err
	}
	return model.DecodeStrict(b, v)
}

// body returns the whole body, which serve has limited.
func body(r *http.Request) ([]byte, error) { return io.ReadAll(r.Body) }

// statusWriter remembers the status for the metrics.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush lets mounted handlers that stream do so.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/klauspost/compress/snappy"

	"panoptes/internal/model"
)

// The protocols, as the label of the counters.
const (
	protoV1   = "remote_write_1"
	protoV2   = "remote_write_2"
	protoOTLP = "otlp"
)

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
	messageV1    = "prometheus.WriteRequest"
	messageV2    = "io.prometheus.write.v2.Request"
)

// ratioFrom is the decoded size up to which the ratio does not matter: small
// messages of zeros are no bombs.
const ratioFrom = 1 << 20

// httpError is an answer that is already decided.
type httpError struct {
	code   int
	reason string
	msg    string
}

func (e *httpError) Error() string { return e.msg }

func answer(code int, reason, format string, args ...any) error {
	return &httpError{code, reason, fmt.Sprintf(format, args...)}
}

// serveWrite answers POST /api/v1/write.
func (g *Ingest) serveWrite(w http.ResponseWriter, r *http.Request) {
	proto, err := negotiate(r.Header)
	if err != nil {
		g.fail(w, protoV1, err)
		return
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		g.fail(w, proto, answer(http.StatusUnsupportedMediaType, "encoding", "Content-Encoding %.50q is not understood; send snappy (block format)", enc))
		return
	}
	src := g.sources.get(g.deps.Source(r.Context()))
	if err := src.admitted(time.Now()); err != nil {
		g.fail(w, proto, err)
		return
	}
	body, held, free, err := g.read(w, r, src)
	defer free()
	if err != nil {
		g.fail(w, proto, err)
		return
	}
	size, err := g.decodedLen(body)
	if err != nil {
		g.fail(w, proto, err)
		return
	}
	if !g.budget.take(src, int64(size), held) {
		g.fail(w, proto, errBusy)
		return
	}
	defer g.budget.give(src, int64(size))

	buf := g.buffers.get(size)
	defer g.buffers.put(buf)
	decoded, err := snappy.Decode((*buf)[:size], body)
	if err != nil {
		g.fail(w, proto, answer(http.StatusBadRequest, "snappy", "the body is not snappy (block format): %s", err))
		return
	}
	n, err := g.store(r.Context(), proto, decoded, src)
	if proto == protoV2 {
		n.headers(w.Header())
	}
	if err != nil {
		g.fail(w, proto, err)
		return
	}
	g.metrics.requests.WithLabelValues(proto, "204").Inc()
	w.WriteHeader(http.StatusNoContent)
}

// headers tells a version 2 sender what was taken.
func (n written) headers(h http.Header) {
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(n.samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(n.histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(n.exemplars))
}

// serveOTLP answers POST /api/v1/otlp/v1/metrics.
func (g *Ingest) serveOTLP(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != typeProtobuf && media != typeJSON {
		g.fail(w, protoOTLP, answer(http.StatusUnsupportedMediaType, "content_type", "Content-Type %.100q is not understood; send %s or %s",
			r.Header.Get("Content-Type"), typeProtobuf, typeJSON))
		return
	}
	enc := r.Header.Get("Content-Encoding")
	if enc != "" && enc != "gzip" && enc != "identity" {
		g.fail(w, protoOTLP, answer(http.StatusUnsupportedMediaType, "encoding", "Content-Encoding %.50q is not understood; send gzip or none", enc))
		return
	}
	src := g.sources.get(g.deps.Source(r.Context()))
	if err := src.admitted(time.Now()); err != nil {
		g.fail(w, protoOTLP, err)
		return
	}
	body, held, free, err := g.read(w, r, src)
	defer free()
	if err != nil {
		g.fail(w, protoOTLP, err)
		return
	}
	if enc == "gzip" {
		most := min(g.cfg.MaxDecoded, max(ratioFrom, g.cfg.MaxRatio*len(body)))
		if !g.budget.take(src, int64(most), held) {
			g.fail(w, protoOTLP, errBusy)
			return
		}
		defer g.budget.give(src, int64(most))
		if body, err = gunzip(body, most); err != nil {
			g.fail(w, protoOTLP, err)
			return
		}
	}
	r.Header.Del("Content-Encoding")
	r.Header.Set("Content-Type", media)
	g.pass(w, r, g.otlp, protoOTLP, body, src)
}

func gunzip(body []byte, most int) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, answer(http.StatusBadRequest, "gzip", "the body is not gzip: %s", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, int64(most)+1))
	switch {
	case len(out) > most:
		return nil, answer(http.StatusRequestEntityTooLarge, "decoded_size", "the body unpacks to more than %d bytes; send smaller requests", most)
	case err != nil:
		return nil, answer(http.StatusBadRequest, "gzip", "the body is not gzip: %s", err)
	}
	return out, nil
}

// negotiate finds the message type of a remote write.
func negotiate(h http.Header) (proto string, err error) {
	ct := h.Get("Content-Type")
	if ct == "" {
		return protoV1, nil
	}
	media, params, err := mime.ParseMediaType(ct)
	if err == nil && media == typeProtobuf {
		switch params["proto"] {
		case "", messageV1:
			return protoV1, nil
		case messageV2:
			return protoV2, nil
		}
	}
	return "", answer(http.StatusUnsupportedMediaType, "content_type",
		"Content-Type %.100q is not understood; send %s (remote write 1) or %s;proto=%s (remote write 2)", ct, typeProtobuf, typeProtobuf, messageV2)
}

// errBusy is 503 and not 429: it is this server's state rather than the sender's
// rate, and Prometheus drops what is answered 429 unless it is told otherwise.
var errBusy = answer(http.StatusServiceUnavailable, "in_flight", "this server is taking in as much as it may hold in memory; try again")

// read reads the body, for which it holds held bytes of the budget. free gives
// everything back, also after an error.
func (g *Ingest) read(w http.ResponseWriter, r *http.Request, from *source) (body []byte, held int64, free func(), err error) {
	if r.ContentLength > int64(g.cfg.MaxBody) {
		return nil, 0, func() {}, g.bodyTooLarge()
	}
	most := int64(g.cfg.MaxBody)
	if r.ContentLength >= 0 {
		most = r.ContentLength
	}
	if !g.budget.take(from, most, 0) {
		return nil, 0, func() {}, errBusy
	}
	buf := g.buffers.get(int(max(r.ContentLength+1, 4096))) // one more, to see the end without growing
	free = func() { g.budget.give(from, most); g.buffers.put(buf) }
	b := (*buf)[:0]
	src := http.MaxBytesReader(w, r.Body, int64(g.cfg.MaxBody))
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := src.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*buf = b[:cap(b)]
		var large *http.MaxBytesError
		switch {
		case err == io.EOF:
			return b, most, free, nil
		case errors.As(err, &large):
			return nil, most, free, g.bodyTooLarge()
		case err != nil:
			return nil, most, free, answer(http.StatusBadRequest, "body", "read body: %s", err)
		}
	}
}

func (g *Ingest) bodyTooLarge() error {
	return answer(http.StatusRequestEntityTooLarge, "body_size", "the body is larger than %d bytes; send smaller requests", g.cfg.MaxBody)
}

// decodedLen looks at the length that the body claims before anything is unpacked.
func (g *Ingest) decodedLen(body []byte) (int, error) {
	n, err := snappy.DecodedLen(body)
	switch {
	case err != nil:
		return 0, answer(http.StatusBadRequest, "snappy", "the body is not snappy (block format): %s", err)
	case n > g.cfg.MaxDecoded:
		return 0, answer(http.StatusRequestEntityTooLarge, "decoded_size", "the body unpacks to %d bytes, %d are allowed; send smaller requests", n, g.cfg.MaxDecoded)
	case n > ratioFrom && n > g.cfg.MaxRatio*len(body):
		return 0, answer(http.StatusRequestEntityTooLarge, "ratio", "the body unpacks to more than %d times its size", g.cfg.MaxRatio)
	}
	return n, nil
}

// pass gives a checked body to a handler of the library.
func (g *Ingest) pass(w http.ResponseWriter, r *http.Request, next http.Handler, proto string, body []byte, src *source) {
	o := &outcome{src: src, proto: proto}
	r = r.WithContext(context.WithValue(r.Context(), outcomeKey{}, o))
	r.Body = io.NopCloser(bytes.NewReader(body))
	ow := &outcomeWriter{ResponseWriter: w, o: o, code: http.StatusOK}
	if !g.serve(next, ow, r) {
		g.fail(w, proto, answer(http.StatusBadRequest, "malformed", "the message contradicts itself, for example by referring to a symbol that is not there"))
		return
	}
	g.metrics.requests.WithLabelValues(proto, strconv.Itoa(ow.code)).Inc()
	if o.internal != nil {
		g.log.Warn("samples were not stored", "protocol", proto, "code", ow.code, "err", o.internal)
	}
}

// serve calls a handler of the library, which panics on some messages that are
// well-formed and refer to what is not there. It returns false then, with
// nothing stored.
func (g *Ingest) serve(next http.Handler, w *outcomeWriter, r *http.Request) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Warn("message refused", "protocol", w.o.proto, "panic", p, "err", w.o.abandon())
		}
	}()
	next.ServeHTTP(w, r)
	return true
}

// outcomeWriter corrects the status code of a handler that knows fewer kinds of
// error than we do.
type outcomeWriter struct {
	http.ResponseWriter
	o    *outcome
	code int
}

func (w *outcomeWriter) WriteHeader(code int) {
	// The OTLP handler does not look at what Commit says, and a collector drops
	// for good what is answered 400 for one bad sample.
	lost := w.o.internal != nil && code/100 == 2
	switch {
	case w.o.internal != nil:
		code, _ = status(w.o.internal)
	case code == http.StatusInternalServerError:
		code = http.StatusBadRequest // the storage did not complain, so the message is at fault
	}
	if code == http.StatusBadRequest && w.o.later {
		code = http.StatusTooManyRequests
	}
	if code == http.StatusBadRequest && w.o.limited {
		code = http.StatusUnprocessableEntity
	}
	if retry(code) {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.code = code
	if lost {
		http.Error(w.ResponseWriter, "the samples were not stored; the server's log has the reason", code)
		return
	}
	w.ResponseWriter.WriteHeader(code)
}

const retryAfter = "5" // seconds

// retry says whether the sender should send the same again.
func retry(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable || code == http.StatusInsufficientStorage
}

// status maps an error to its answer and the reason that is counted.
func status(err error) (code int, reason string) {
	var h *httpError
	var r *refusal
	switch {
	case errors.As(err, &h):
		return h.code, h.reason
	case errors.As(err, &r) && r.later:
		return http.StatusTooManyRequests, r.reason
	case errors.As(err, &r) && r.limit:
		return http.StatusUnprocessableEntity, r.reason
	case errors.As(err, &r):
		return http.StatusBadRequest, r.reason
	case errors.Is(err, model.ErrNoSpace):
		return http.StatusInsufficientStorage, "no_space"
	case errors.Is(err, model.ErrUnavailable):
		return http.StatusServiceUnavailable, "unavailable"
	case errors.Is(err, model.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, model.ErrLimit):
		return http.StatusTooManyRequests, "limit"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "canceled"
	}
	return http.StatusInternalServerError, "internal"
}

// fail answers with an error, counts it, and logs what is not the client's fault.
func (g *Ingest) fail(w http.ResponseWriter, proto string, err error) {
	code, reason := status(err)
	var p *partial
	if !errors.As(err, &p) { // the series of a partial write are counted one by one
		g.metrics.refused.WithLabelValues(reason).Inc()
	}
	g.metrics.requests.WithLabelValues(proto, strconv.Itoa(code)).Inc()
	msg := err.Error()
	if code >= 500 {
		g.log.Warn("samples were not stored", "protocol", proto, "code", code, "err", err)
		if reason == "internal" {
			msg = "storing the samples did not work; the server's log has the reason"
		}
	}
	if retry(code) {
		w.Header().Set("Retry-After", retryAfter)
	}
	http.Error(w, msg, code)
}

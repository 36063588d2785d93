package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// methodQuery answers a query of another server, which is behind.
const methodQuery = "query.http"

// forwarder answers queries here, unless this server lacks samples that another
// one has: then it asks that one.
type forwarder struct {
	local  http.Handler
	behind func() string   // why this server lacks something; empty when it does not
	whole  func() []string // ids of live servers that lack nothing
	dial   func(id string) (wire.Conn, error)
}

// The parts of a query and of its answer on their way. The answer's head is
// one message, its body follows in pieces.
type (
	queryHead struct {
		Method string      `json:"method"`
		URI    string      `json:"uri"`
		Header http.Header `json:"header"`
		Body   []byte      `json:"body"`
		User   string      `json:"user"`

		Bound map[string]string `json:"bound,omitempty"`
	}
	answerHead struct {
		Status int         `json:"status"`
		Header http.Header `json:"header"`
	}
)

const (
	maxQueryBody = 1 << 20
	answerPiece  = 256 << 10
)

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	own := strings.HasPrefix(r.URL.Path, "/api/v1/admin/") || strings.HasPrefix(r.URL.Path, "/api/v1/status/") || strings.HasPrefix(r.URL.Path, "/v1/")
	if own || f.behind() == "" {
		f.local.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQueryBody))
	if err != nil {
		http.Error(w, "the query is larger than 1 MiB", http.StatusRequestEntityTooLarge)
		return
	}
	for _, id := range f.whole() {
		if f.pass(w, r, body, id) {
			return
		}
	}
	// Nobody else can answer: better something with a warning than nothing.
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.local.ServeHTTP(w, r)
}

// pass asks one server; false when it could not and nothing was written.
func (f *forwarder) pass(w http.ResponseWriter, r *http.Request, body []byte, id string) bool {
	conn, err := f.dial(id)
	if err != nil {
		return false
	}
	head := queryHead{Method: r.Method, URI: r.URL.RequestURI(), Header: http.Header{}, Body: body, User: userOf(r.Context()), Bound: boundOf(r.Context()).Map()}
	for _, k := range []string{"Content-Type", "Accept"} {
		if v := r.Header.Get(k); v != "" {
			head.Header.Set(k, v)
		}
	}
	msg, err := json.Marshal(head)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s, err := conn.Open(ctx, methodQuery)
	if err != nil {
		return false
	}
	if s.Send(msg) != nil || s.CloseSend() != nil {
		return false
	}
	first, err := s.Recv()
	var answer answerHead
	if err != nil || json.Unmarshal(first, &answer) != nil || answer.Status == http.StatusServiceUnavailable {
		return false
	}
	for k, v := range answer.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Status)
	for {
		piece, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
		}
		if _, err := w.Write(piece); err != nil {
			return true
		}
	}
}

// serve answers a query that another server passes on, from this server's own
// copy. The other one has looked at rights; the name counts for the limits.
func (f *forwarder) serve(_ model.Peer, s wire.Stream) error {
	msg, err := s.Recv()
	if err != nil {
		return err
	}
	var head queryHead
	if err := json.Unmarshal(msg, &head); err != nil {
		return fmt.Errorf("read a query of another server: %w", model.DecodeError(err))
	}
	u, err := url.ParseRequestURI(head.URI)
	if err != nil {
		return model.Invalid{{Field: "uri", Msg: err.Error()}}
	}
	ctx := context.WithValue(s.Context(), askingKey{}, asking{head.User, labels.FromMap(head.Bound)})
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, head.Method, u.RequestURI(), bytes.NewReader(head.Body))
	if err != nil {
		return model.Invalid{{Field: "method", Msg: err.Error()}}
	}
	for k, v := range head.Header {
		r.Header[k] = v
	}
	r.RequestURI = u.RequestURI()
	w := &streamWriter{stream: s, header: http.Header{}}
	f.local.ServeHTTP(w, r)
	w.WriteHeader(http.StatusOK)
	w.flush()
	return w.err
}

// streamWriter sends an answer in pieces.
type streamWriter struct {
	stream wire.Stream
	header http.Header
	buf    []byte
	begun  bool
	err    error
}

func (w *streamWriter) Header() http.Header { return w.header }

func (w *streamWriter) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = true
	head, err := json.Marshal(answerHead{Status: status, Header: w.header})
	if err == nil {
		err = w.stream.Send(head)
	}
	w.err = err
}

func (w *streamWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.buf = append(w.buf, p...)
	if len(w.buf) >= answerPiece {
		w.flush()
	}
	return len(p), w.err
}

func (w *streamWriter) flush() {
	for len(w.buf) > 0 && w.err == nil {
		n := min(len(w.buf), answerPiece)
		w.err = w.stream.Send(w.buf[:n])
		w.buf = w.buf[n:]
	}
}

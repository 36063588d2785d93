package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// pipe is a way to another server in this process: a stream is served by it at once.
type pipe struct {
	to    *forwarder
	after int // pieces of the answer before the way breaks; 0: it holds
	err   error
}

func (p *pipe) Call(context.Context, string, []byte) ([]byte, error) { return nil, p.err }

func (p *pipe) Open(ctx context.Context, _ string) (wire.ClientStream, error) {
	if p.err != nil {
		return nil, p.err
	}
	return &pipeStream{ctx: ctx, pipe: p}, nil
}

// pipeStream keeps what was sent and, once that is closed, what was answered.
type pipeStream struct {
	ctx      context.Context //nolint:containedctx // is the stream's life
	pipe     *pipe
	question [][]byte
	answer   [][]byte
	end      error
	given    int
}

func (s *pipeStream) Context() context.Context { return s.ctx }

func (s *pipeStream) Send(b []byte) error {
	s.question = append(s.question, bytes.Clone(b))
	return nil
}

func (s *pipeStream) CloseSend() error {
	s.end = s.pipe.to.serve(model.Peer{}, &pipeEnd{s})
	return nil
}

func (s *pipeStream) Recv() ([]byte, error) {
	if s.pipe.after > 0 && s.given == s.pipe.after {
		return nil, fmt.Errorf("%w: gone", model.ErrUnavailable)
	}
	if s.given == len(s.answer) {
		if s.end != nil {
			return nil, s.end
		}
		return nil, io.EOF
	}
	s.given++
	return s.answer[s.given-1], nil
}

// pipeEnd is the end of the one who answers.
type pipeEnd struct{ s *pipeStream }

func (e *pipeEnd) Context() context.Context { return e.s.ctx }
func (e *pipeEnd) Send(b []byte) error {
	e.s.answer = append(e.s.answer, bytes.Clone(b))
	return nil
}

func (e *pipeEnd) Recv() ([]byte, error) {
	if len(e.s.question) == 0 {
		return nil, io.EOF
	}
	b := e.s.question[0]
	e.s.question = e.s.question[1:]
	return b, nil
}

// A server that lacks samples has queries answered by one that lacks nothing,
// once; when nobody can, it answers itself. Half an answer is never a whole one.
func TestQueriesArePassedOnWhileBehind(t *testing.T) {
	echo := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "text/x")
			if r.URL.Query().Get("query") == "bad" {
				w.WriteHeader(http.StatusUnprocessableEntity)
			}
			fmt.Fprintf(w, "%s: %s %s %s %s", name, r.Method, r.URL.RequestURI(), body, strings.Repeat("x", 2*answerPiece))
		})
	}
	lacks := "something is missing"
	there := &forwarder{local: echo("there"), behind: func() string { return "also behind: it must not pass on" }}
	way := &pipe{to: there}
	dead := &pipe{err: errors.New("dead")}
	whole := []string{"dead", "there"}
	here := &forwarder{
		local: echo("here"), behind: func() string { return lacks }, whole: func() []string { return whole },
		dial: func(id string) (wire.Conn, error) {
			switch id {
			case "there":
				return way, nil
			case "dead":
				return dead, nil
			}
			return nil, model.ErrUnavailable
		},
	}
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		here.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}

	w := ask("POST", "/api/v1/query?query=up", "a=b")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/x", w.Header().Get("Content-Type"))
	require.True(t, strings.HasPrefix(w.Body.String(), "there: POST /api/v1/query?query=up a=b "), w.Body.String()[:60])
	require.Greater(t, w.Body.Len(), 2*answerPiece, "all pieces came")
	require.Equal(t, http.StatusUnprocessableEntity, ask("GET", "/api/v1/query?query=bad", "").Code)
	require.Equal(t, http.StatusRequestEntityTooLarge, ask("POST", "/api/v1/query", strings.Repeat("x", maxQueryBody+1)).Code)
	for _, own := range []string{"/api/v1/status/tsdb", "/api/v1/admin/tsdb/snapshot"} {
		require.True(t, strings.HasPrefix(ask("GET", own, "").Body.String(), "here: "), "%s is about this server", own)
	}

	way.after = 2
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask("GET", "/api/v1/query?query=up", "") })

	whole = []string{"dead", "unknown"}
	require.True(t, strings.HasPrefix(ask("POST", "/api/v1/query?query=up", "a=b").Body.String(), "here: POST /api/v1/query?query=up a=b "))
	lacks = ""
	whole = []string{"there"}
	require.True(t, strings.HasPrefix(ask("GET", "/api/v1/query?query=up", "").Body.String(), "here: "))
}

package api_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
)

// A part that panics is answered for, and the log has the stack.
func TestPanicIsAnsweredAndLogged(t *testing.T) {
	var log bytes.Buffer
	b := setUp(t, func(_ *api.Config, d *api.Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
		d.Query = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })
		d.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half ")
			panic("a bug")
		})
	})
	var f failure
	b.want(http.StatusInternalServerError, &f, b.call("viewer", "GET", "/api/v1/query?query=1", nil))
	require.Equal(t, "internal", f.Error.Code)
	require.NotContains(t, f.Error.Message, "a bug")
	require.Contains(t, log.String(), "a bug")
	require.Contains(t, log.String(), "panic_test.go")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { b.call("viewer", "GET", "/metrics", nil) },
		"half an answer ends with the connection")
}

package alert_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Null in place of an alert or a matcher is refused like any other fault.
func TestNullIsRefused(t *testing.T) {
	r := start(t, t.TempDir())
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/api/v2/alerts", `[null]`, http.StatusBadRequest},
		{"/api/v2/alerts", `[{"labels":{"alertname":"x"}},null]`, http.StatusBadRequest},
		{"/api/v2/alerts", `[{"labels":null}]`, http.StatusUnprocessableEntity},
		{"/api/v2/alerts", `[`, http.StatusBadRequest},
		{"/api/v2/alerts", `[{"labels":{"alertname":"x"}}]`, http.StatusOK},
		{"/api/v2/silences", `{"matchers":[null],"startsAt":"2026-11-21T06:00:00Z","endsAt":"2099-11-21T08:00:00Z","createdBy":"x","comment":"y"}`, http.StatusBadRequest},
		{"/api/v2/silences", `null`, http.StatusUnprocessableEntity},
		{"/api/v2/alerts", `[{"labels":{"alertname":"` + strings.Repeat("x", 9<<20) + `"}}]`, http.StatusRequestEntityTooLarge},
	} {
		req := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(c.body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, req)
		require.Equal(t, c.status, w.Code, "%s %.80s: %s", c.path, c.body, w.Body)
	}
}

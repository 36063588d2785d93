package notify_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/notify"
)

func TestRedirectionsThatLoseTheMessageAreFailures(t *testing.T) {
	var mu sync.Mutex
	var took []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		switch _, err := fmt.Sscanf(r.URL.Path, "/s3cret-word/%d", &status); {
		case err == nil && !strings.HasSuffix(r.URL.Path, "/"):
			http.Redirect(w, r, r.URL.Path+"/?token=0therw0rd", status)
		case r.URL.Path == "/round":
			http.Redirect(w, r, "/round", http.StatusPermanentRedirect)
		default:
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, fmt.Sprint(r.Method, " ", len(body) > 0))
			fmt.Fprint(w, "<html>welcome")
		}
	}))
	t.Cleanup(srv.Close)
	n := newNotify(t, notify.Deps{})
	try := func(path, more string) error {
		return n.Test(t.Context(), receiver(t, "webhook", `{"url":"`+srv.URL+path+`"`+more+`}`))
	}
	for _, status := range []string{"301", "302", "303"} {
		err := try("/s3cret-word/"+status, "")
		require.ErrorContains(t, err, status)
		require.ErrorContains(t, err, "configure the address")
		require.ErrorContains(t, err, srv.URL+"/…/…/?…")
		require.NotContains(t, err.Error(), "s3cret-word")
		require.NotContains(t, err.Error(), "0therw0rd")
	}
	require.Empty(t, took)
	for _, status := range []string{"307", "308"} {
		require.NoError(t, try("/s3cret-word/"+status, ""))
		require.ErrorContains(t, try("/s3cret-word/"+status, `,"http_config":{"follow_redirects":false}`), "configure the address")
	}
	require.Equal(t, []string{"POST true", "POST true"}, took)
	require.ErrorContains(t, try("/round", ""), "ten times")
}

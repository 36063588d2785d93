package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A job that names a file may not run on a server whose setting does not allow
// it: the other servers have all targets.
func TestTargetsThatAServerMayNotScrapeAreScraped(t *testing.T) {
	servers := grow(t, "eu", "eu")
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x 1\n") }))
	t.Cleanup(target.Close)
	var targets []string
	for i := range 30 {
		targets = append(targets, fmt.Sprintf(`{"targets":[%q],"labels":{"i":"%d"}}`, strings.TrimPrefix(target.URL, "http://"), i))
	}
	key := filepath.Join(servers[0].cfg.Path("sd"), "password")
	require.NoError(t, os.MkdirAll(filepath.Dir(key), 0o700))
	require.NoError(t, os.WriteFile(key, []byte("secret"), 0o600))
	code, answer := call(t, servers[0].app, "POST", "/v1/scrapes", fmt.Sprintf(
		`{"name":"j","config":{"scrape_interval":"5s","basic_auth":{"username":"a","password_file":%q},"static_configs":[%s]}}`, key, strings.Join(targets, ",")))
	require.Equal(t, http.StatusCreated, code, answer)
	for _, s := range servers {
		require.Eventually(t, func() bool {
			_, list := call(t, s.app, "GET", "/v1/scrape-targets", "")
			problems, _ := list["problems"].([]any)
			return list["total"] == float64(len(targets)) && len(problems) == 1
		}, 60*time.Second, 100*time.Millisecond)
	}
}

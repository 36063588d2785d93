package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is pushed again, to whichever server, is soon there: the one that writes
// the group hears of it at once.
func TestPushesToAnyServer(t *testing.T) {
	c := grow(t, "eu", "eu")
	for i := range 6 {
		path := fmt.Sprintf("/metrics/job/j%d", i/2) // some groups are written by the other one
		code, out := callAs(t, c[i%2].app, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }, "PUT", path, fmt.Sprintf("runs %d\n", i))
		require.Equal(t, http.StatusOK, code, out)
		for _, m := range c {
			require.Eventually(t, func() bool {
				_, got := call(t, m.app, "GET", "/api/v1/query?query="+url.QueryEscape(fmt.Sprintf(`runs{job="j%d"}`, i/2)), "")
				return strings.Contains(mustJSON(t, got), fmt.Sprintf(`"%d"]`, i))
			}, 30*time.Second, 50*time.Millisecond, "push %d on %s", i, m.cfg.Node)
		}
	}
}

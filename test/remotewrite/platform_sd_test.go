//go:build e2e

package remotewrite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// Two real Prometheus servers take their shares of our targets from us: together
// they scrape each target once, after our relabelling.
func TestPrometheusServersShareOurTargets(t *testing.T) {
	const n = 40
	prometheusBinary(t)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "answered{path=%q,q=%q} 1\n", r.URL.Path, r.URL.RawQuery)
	}))
	t.Cleanup(target.Close)
	var groups []string
	for i := range n {
		groups = append(groups, fmt.Sprintf(`{"targets":[%q],"labels":{"__metrics_path__":"/t%d","n":"%d"}}`, strings.TrimPrefix(target.URL, "http://"), i, i))
	}
	s := harness.Start(t, harness.Binary(t), t.TempDir())
	job := `{"name":"shop","labels":{"team":"web"},"config":{"scrape_interval":"1s","params":{"m":["x"]},"static_configs":[` + strings.Join(groups, ",") +
		`],"relabel_configs":[{"source_labels":["n"],"regex":"7","action":"drop"},{"source_labels":["n"],"target_label":"number"}]}}`
	code, data, err := s.Do(http.MethodPost, "/v1/scrapes", json.RawMessage(job))
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, code, "%s", data)

	var theirs []string
	for _, name := range []string{"p1", "p2"} {
		theirs = append(theirs, startPrometheus(t, map[string]any{"scrape_configs": []any{map[string]any{
			"job_name": "anything", "http_sd_configs": []any{map[string]any{
				"url": s.URL + "/v1/sd?job=shop&shards=p1,p2&shard=" + name, "refresh_interval": "1s", "authorization": map[string]any{"credentials": harness.APIKey},
			}},
		}}}))
	}
	found := func() map[string]int {
		out := map[string]int{}
		for _, p := range theirs {
			text, err := ask(p, "/api/v1/query", url.Values{"query": {`answered{job="shop",team="web",q="m=x"}`}})
			require.NoError(t, err)
			var got struct {
				Result []struct{ Metric map[string]string }
			}
			decode(t, []byte(text), &got)
			require.Less(t, len(got.Result), n-1, "a share is not all")
			for _, r := range got.Result {
				require.Equal(t, "/t"+r.Metric["number"], r.Metric["path"])
				out[r.Metric["number"]]++
			}
		}
		return out
	}
	require.Eventually(t, func() bool { return len(found()) == n-1 }, patience, 200*time.Millisecond)
	for number, times := range found() {
		require.Equal(t, 1, times, "target %s", number)
	}
	require.NotContains(t, found(), "7")
}

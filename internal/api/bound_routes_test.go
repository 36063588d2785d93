package api

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRoutesAreOpenOrClosed compares the table of routes with two lists. A new
// route is in neither and fails: whoever opens it to those who are bound to
// labels adds it to testdata/bound.txt, which the tests of the whole program read
// to look for what others have, and whoever opens it to everybody adds it here.
func TestRoutesAreOpenOrClosed(t *testing.T) {
	// Asked by whoever can reach the port. Those with ask look who it is.
	anyone := []string{
		"POST /v1/login", "POST /v1/logout", "GET /login", "POST /login", "GET /assets/",
		"GET /ping/{token}", "POST /ping/{token}", "GET /ping/{token}/{state}", "POST /ping/{token}/{state}",
		"GET /-/healthy", "GET /-/ready", "GET /api/health", "GET /metrics",
		"GET /agent/{os}/{arch}", "GET /agent/manifest.json", "GET /agent/manifest.json.sig", "GET /install.sh",
		"/v1/", "/api/", "/-/", "/ping/",
	}
	b, err := os.ReadFile("testdata/bound.txt")
	require.NoError(t, err)
	var open []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			open = append(open, line)
		}
	}
	var gotAnyone, gotOpen []string
	for _, rt := range (&API{}).routes() {
		require.NotEqual(t, rt.handle == nil, rt.raw == nil, "%s: one of handle and raw", rt.pattern)
		require.False(t, rt.need == "" && rt.bound, "%s: who asks is not known there", rt.pattern)
		switch {
		case rt.need == "":
			gotAnyone = append(gotAnyone, rt.pattern)
		case rt.bound:
			gotOpen = append(gotOpen, rt.pattern)
		}
	}
	slices.Sort(open)
	slices.Sort(gotOpen)
	require.Equal(t, open, gotOpen)
	require.ElementsMatch(t, anyone, gotAnyone)
}

package all_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
)

func TestEveryKindIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range all.Kinds() {
		require.False(t, seen[k.Name()])
		seen[k.Name()] = true
		a := k.About()
		require.NotEmpty(t, a.Label["en"])
		require.Equal(t, a.Target == nil, a.Placeholder == "", k.Name())
		if a.Placeholder != "" {
			c := model.Check{Name: "x", Type: k.Name(), Target: a.Placeholder}
			require.NoError(t, probe.Normalize(all.Kinds(), &c), k.Name())
		}
	}
	for _, n := range []string{"http", "tcp", "icmp", "dns", "tls", "websocket", "grpc", "push"} {
		require.True(t, seen[n], n)
	}
}

func TestEveryKindPassesTheSuite(t *testing.T) {
	for _, k := range all.Kinds() {
		files, err := filepath.Glob(filepath.Join("..", k.Name(), "*_test.go"))
		require.NoError(t, err)
		var tests strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			tests.Write(b)
		}
		require.Contains(t, tests.String(), "probetest.Suite{", "kind %s", k.Name())
	}
}

func TestSecretPaths(t *testing.T) {
	k, ok := probe.Find(all.Kinds(), "http")
	require.True(t, ok)
	require.Subset(t, probe.SecretPaths(k), []string{"http.basic_auth.password", "http.bearer_token", "http.oauth2.client_secret", "http.secret_headers.*", "http.tls.key", "http.proxy.password"})
}

func TestNormalizeNamesEveryFault(t *testing.T) {
	c := model.Check{Name: "", Type: "http", Target: "x", Block: json.RawMessage(`{"method":"get","max_redirects":99}`)}
	var inv model.Invalid
	require.True(t, errors.As(probe.Normalize(all.Kinds(), &c), &inv))
	var fields []string
	for _, f := range inv {
		fields = append(fields, f.Field)
	}
	require.Subset(t, fields, []string{"name", "target", "http.method", "http.max_redirects"})
	c = model.Check{Name: "a", Type: "gopher"}
	require.ErrorContains(t, probe.Normalize(all.Kinds(), &c), "choose one of http")
}

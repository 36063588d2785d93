package agent_test

import (
	"crypto/tls"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// insecure believes everybody and shows nothing.
func insecure(string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} //nolint:gosec // of a test
}

func goList(t *testing.T) []string {
	out, err := exec.Command("go", "list", "-deps", "panoptes/cmd/panoptes-agent").Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

package harness_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// No address is given twice while a test runs, although nothing listens there.
func TestFreeAddrGivesNoneTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 300 {
		addr := harness.FreeAddr(t, "127.0.0.1")
		require.False(t, seen[addr], addr)
		seen[addr] = true
	}
	for addr := range seen {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}

package harness_test

import (
	"net"
	"strconv"
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

// Ports of programs are given once, too, and again when they have ended.
func TestFreeOffsetGivesNoneTwice(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		offset, release, err := harness.FreeOffset(30)
		require.NoError(t, err)
		t.Cleanup(release)
		for port := 9700 + offset; port < 9730+offset; port++ {
			require.False(t, seen[port], port)
			seen[port] = true
		}
	}
	for range 100 {
		_, port, err := net.SplitHostPort(harness.FreeAddr(t, "127.0.0.1"))
		require.NoError(t, err)
		number, err := strconv.Atoi(port)
		require.NoError(t, err)
		require.False(t, seen[number], port)
	}
	for given := 0; given < 25_000; given += 100 { // more than there are
		_, release, err := harness.FreeOffset(100)
		require.NoError(t, err)
		release()
	}
}

package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ports that FreeAddr gives lie below those that systems give away by themselves,
// so that no connection takes one between the look and its use, and below those
// that the tests with whole programs count up from.
const firstPort, lastPort = 10240, 19600

// FreeAddr returns an address of host, an address of loopback, on which nothing
// listens, neither TCP nor UDP. Until the test ends nobody else is given its port,
// also no test of another package that runs meanwhile. (Only Linux has such names;
// elsewhere chance has to do.)
func FreeAddr(t testing.TB, host string) string {
	t.Helper()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		release, ok := reserve(port)
		if !ok {
			continue
		}
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		if !free(addr) {
			release()
			continue
		}
		t.Cleanup(release)
		return addr
	}
	require.FailNow(t, "no free port", "of %s between %d and %d", host, firstPort, lastPort)
	return ""
}

// reserve keeps a port until release, or the end of this process: the name of a
// socket that is in no directory can be had once.
func reserve(port int) (release func(), ok bool) {
	if runtime.GOOS != "linux" {
		return func() {}, true
	}
	name, err := net.Listen("unix", fmt.Sprint("@panoptes-test-port-", port))
	if err != nil {
		return nil, false
	}
	return func() { _ = name.Close() }, true // nobody sent anything
}

func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close() //nolint:errcheck // nobody connected
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return pc.Close() == nil
}

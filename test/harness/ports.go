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

// Ports that are given here lie below those that systems give away by themselves,
// so that no connection takes one between the look and its use.
const firstPort, lastPort = 10240, 32000

// programPort is the first one of a program whose --port-offset is 0.
const programPort = 9700

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

// FreeOffset returns a --port-offset at which nothing listens on the n ports of
// 127.0.0.1 that begin with the program's first one. Until release they are kept
// as by FreeAddr. It asks for no test, so that any goroutine may use it.
func FreeOffset(n int) (offset int, release func(), err error) {
	for range 1000 {
		first := firstPort + rand.IntN(lastPort-firstPort-n)
		if release, ok := reserveRange(first, n); ok {
			return first - programPort, release, nil
		}
	}
	return 0, nil, fmt.Errorf("no %d free ports in a row between %d and %d", n, firstPort, lastPort)
}

func reserveRange(first, n int) (release func(), ok bool) {
	var kept []func()
	release = func() {
		for _, r := range kept {
			r()
		}
	}
	for port := first; port < first+n; port++ {
		r, ok := reserve(port)
		if ok {
			kept = append(kept, r)
		}
		if !ok || !free(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
			release()
			return nil, false
		}
	}
	return release, true
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

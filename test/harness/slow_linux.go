package harness

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// slowPacket waits for its time on a slow link.
type slowPacket struct {
	due  time.Time
	data []byte
}

// Slow makes all that goes between two hosts take longer and lets a share of
// the packets be lost, in both directions, until end is called. The router
// hands these packets to a TUN device; the test keeps them for a while and
// gives them back. (The kernel's own netem is often not built in.)
func (n *Network) Slow(a, b *Host, delay time.Duration, loss float64, seed uint64) (end func()) {
	n.t.Helper()
	n.slow++
	name, table := fmt.Sprintf("slow%d", n.slow), strconv.Itoa(1000+n.slow)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(n.t, err, "open /dev/net/tun")
	req, err := unix.NewIfreq(name)
	require.NoError(n.t, err)
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	require.NoError(n.t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	// A file that does not block ends its readers when it is closed.
	tun := os.NewFile(uintptr(fd), name)
	run := func(args string) { n.t.Helper(); require.NoError(n.t, Command("ip", strings.Fields(args)...)) }
	run("link set " + name + " up txqueuelen 10000")
	run("route add default dev " + name + " table " + table)
	rules := []string{
		fmt.Sprintf("iif %s from %s to %s lookup %s", a.link, a.IP, b.IP, table),
		fmt.Sprintf("iif %s from %s to %s lookup %s", b.link, b.IP, a.IP, table),
	}
	for _, r := range rules {
		run("rule add " + r)
	}
	queue := make(chan slowPacket, 50_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(queue)
		luck := rand.New(rand.NewPCG(seed, 1))
		buf := make([]byte, 1<<16)
		for {
			k, err := tun.Read(buf)
			if err != nil {
				return
			}
			if luck.Float64() < loss {
				continue
			}
			select {
			case queue <- slowPacket{time.Now().Add(delay), append([]byte(nil), buf[:k]...)}:
			default: // a full queue loses packets, as a router's does
			}
		}
	})
	wg.Go(func() {
		for p := range queue {
			<-time.After(time.Until(p.due))
			// A packet that is refused is lost.
			_, _ = tun.Write(p.data)
		}
	})
	var once sync.Once
	end = func() {
		once.Do(func() {
			for _, r := range rules {
				if err := Command("ip", strings.Fields("rule del "+r)...); err != nil {
					n.t.Errorf("end a slow link: %s", err)
				}
			}
			tun.Close()
			wg.Wait()
		})
	}
	n.t.Cleanup(end)
	return end
}

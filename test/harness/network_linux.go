package harness

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The addresses of a Network. The test itself is the router between the hosts:
// it reaches all of them whatever is cut, and serves any address of World.
const (
	World      = "10.77.200.0/22" // every address of it ends at the test's own listeners
	hostSubnet = "10.77.%d.%d"
)

// Network is a set of hosts, each a network namespace of its own behind a
// router, which is the namespace of the test. It needs Isolated.
type Network struct {
	t     testing.TB
	hosts int
	slow  int // links that were slowed down so far
}

// NewNetwork prepares the router. There is one at a time.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if os.Getenv(isolatedEnv) == "" {
		t.Skip("skipped: this test runs in a network namespace of its own")
	}
	n := &Network{t: t}
	n.nft(`add table inet faults
delete table inet faults
add table inet faults
add set inet faults cuts { type ipv4_addr . ipv4_addr; flags interval; }
add chain inet faults pre { type filter hook prerouting priority -300; }
add chain inet faults out { type filter hook output priority -300; }
add rule inet faults pre ip saddr . ip daddr @cuts counter drop
add rule inet faults out ip saddr . ip daddr @cuts counter drop
`)
	// It is there already when this is not the first network of the process.
	_ = Command("ip", "route", "add", "local", World, "dev", "lo")
	return n
}

func (n *Network) nft(script string) {
	n.t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	require.NoError(n.t, err, "nft: %s", out)
}

// Host is a machine on the network: a namespace with one interface.
type Host struct {
	Name string
	IP   string // its own address
	net  *Network
	ns   *os.File
	link string
}

// Host adds a machine. It is removed at the end of the test.
func (n *Network) Host(name string) *Host {
	n.t.Helper()
	n.hosts++
	i := n.hosts
	require.Less(n.t, i, 100, "too many hosts")
	h := &Host{Name: name, net: n, IP: fmt.Sprintf(hostSubnet, i, 2), link: fmt.Sprintf("host%d", i)}
	made := make(chan error, 1)
	go func() {
		// The thread keeps the new namespace and ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		var err error
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		made <- err
	}()
	require.NoError(n.t, <-made)
	n.t.Cleanup(func() { h.remove() })
	gateway := fmt.Sprintf(hostSubnet, i, 1)
	// One of an earlier test may still be waiting for its namespace to end.
	_ = Command("ip", "link", "del", h.link)
	add := exec.Command("ip", "link", "add", h.link, "type", "veth", "peer", "name", "eth0", "netns", "/proc/self/fd/3")
	add.ExtraFiles = []*os.File{h.ns}
	out, err := add.CombinedOutput()
	require.NoError(n.t, err, "add a pair of interfaces: %s", out)
	require.NoError(n.t, Command("ip", "addr", "add", gateway+"/24", "dev", h.link))
	require.NoError(n.t, Command("ip", "link", "set", h.link, "up"))
	require.NoError(n.t, h.Do(func() error {
		for _, args := range []string{"link set lo up", "addr add " + h.IP + "/24 dev eth0", "link set eth0 up", "route add default via " + gateway} {
			if err := Command("ip", strings.Fields(args)...); err != nil {
				return err
			}
		}
		return nil
	}))
	return h
}

func (h *Host) remove() {
	if err := Command("ip", "link", "del", h.link); err != nil {
		h.net.t.Logf("remove host %s: %s", h.Name, err)
	}
	h.ns.Close()
}

// Do calls fn on a thread that is inside the host: processes it starts and
// sockets it opens belong to the host. fn must not start goroutines that do.
func (h *Host) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine instead of going
		// back to the others in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the namespace of %s: %w", h.Name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// Cut drops everything between the two sides, in both directions. An entry is
// an address or a prefix such as World.
func (n *Network) Cut(a, b []string) { n.t.Helper(); n.change("add", a, b, true) }

// CutOneWay drops what goes from one side to the other.
func (n *Network) CutOneWay(from, to []string) { n.t.Helper(); n.change("add", from, to, false) }

// Heal ends what Cut or CutOneWay with the same sides began.
func (n *Network) Heal(a, b []string) { n.t.Helper(); n.change("delete", a, b, true) }

// HealOneWay ends CutOneWay.
func (n *Network) HealOneWay(from, to []string) { n.t.Helper(); n.change("delete", from, to, false) }

// HealAll ends all cuts.
func (n *Network) HealAll() { n.t.Helper(); n.nft("flush set inet faults cuts\n") }

func (n *Network) change(verb string, a, b []string, both bool) {
	n.t.Helper()
	var pairs []string
	for _, x := range a {
		for _, y := range b {
			pairs = append(pairs, x+" . "+y)
			if both {
				pairs = append(pairs, y+" . "+x)
			}
		}
	}
	if len(pairs) > 0 {
		n.nft(verb + " element inet faults cuts { " + strings.Join(pairs, ", ") + " }\n")
	}
}

// WorldAddr returns the i-th address of World, from 1.
func WorldAddr(i int) string {
	a := netip.MustParsePrefix(World).Addr().As4()
	n := int(a[2])<<8 | int(a[3]) + i
	a[2], a[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(a).String()
}

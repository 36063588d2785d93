package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Policy says which addresses checks may reach. Link-local, metadata,
// multicast and unspecified addresses are refused whatever it says.
type Policy struct {
	AllowLoopback bool           // 127.0.0.0/8 and ::1
	AllowPrivate  bool           // RFC 1918, fc00::/7 and 100.64.0.0/10
	DenyPorts     []int          // our own ports: refused on loopback and on this machine's addresses
	Allow         []netip.Prefix // when not empty, nothing else is reached
	Deny          []netip.Prefix // refused besides
}

// Dialer opens connections to addresses that the policy allows. It looks at
// the address that is really dialed, after name resolution, so neither
// redirects nor changing DNS answers lead around it. A nil *Dialer refuses
// what the zero Policy refuses.
type Dialer struct {
	policy Policy

	mu       sync.Mutex // guards own and ownUntil
	own      []netip.Addr
	ownUntil time.Time
}

// NewDialer makes a dialer that obeys p.
func NewDialer(p Policy) *Dialer { return &Dialer{policy: p} }

// RefusedError says that policy forbids an address. It is never a statement
// about the target.
type RefusedError struct {
	Addr   string // address, with port where one matters
	Reason string // what it is and what to do
}

func (e *RefusedError) Error() string { return "address " + e.Addr + " is refused: " + e.Reason }

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
	sharedNet = netip.MustParsePrefix("100.64.0.0/10")
	metadata  = map[netip.Addr]string{
		netip.MustParseAddr("fd00:ec2::254"):   "it serves cloud credentials",
		netip.MustParseAddr("100.100.100.200"): "it serves cloud credentials",
		netip.MustParseAddr("168.63.129.16"):   "it serves cloud credentials",
	}
)

// CheckAddr returns a *RefusedError when no packet may go to a.
func (d *Dialer) CheckAddr(a netip.Addr) error {
	var p Policy
	if d != nil {
		p = d.policy
	}
	refuse := func(format string, args ...any) error {
		return &RefusedError{Addr: a.String(), Reason: fmt.Sprintf(format, args...)}
	}
	v := a.WithZone("").Unmap()
	if nat64.Contains(v) {
		b := v.As16()
		v = netip.AddrFrom4([4]byte(b[12:]))
	}
	if why, ok := metadata[v]; ok {
		return refuse("%s; choose another target", why)
	}
	switch {
	case !v.IsValid():
		return refuse("it is not an IP address")
	case v.IsLinkLocalUnicast():
		return refuse("link-local addresses serve cloud credentials; use the host's routable address")
	case v.IsMulticast(), v == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return refuse("multicast and broadcast are not probed; use the address of one host")
	case v.IsUnspecified(), thisNet.Contains(v):
		return refuse("it names no host; use the host's own address")
	}
	in := func(ps []netip.Prefix) bool {
		return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(v) })
	}
	switch {
	case in(p.Deny):
		return refuse("the configured deny list of this worker contains it")
	case len(p.Allow) > 0:
		if !in(p.Allow) {
			return refuse("the configured allow list of this worker does not contain it; add it there")
		}
	case v.IsLoopback() && !p.AllowLoopback:
		return refuse("checks of loopback addresses are switched off on this worker; allow loopback in its probe settings")
	case (v.IsPrivate() || sharedNet.Contains(v)) && !p.AllowPrivate:
		return refuse("checks of private networks are switched off on this worker; allow private networks in its probe settings")
	}
	return nil
}

// CheckAddrPort is CheckAddr for one port: our own ports on this machine are
// refused too.
func (d *Dialer) CheckAddrPort(ap netip.AddrPort) error {
	if err := d.CheckAddr(ap.Addr()); err != nil {
		return err
	}
	if d == nil || !slices.Contains(d.policy.DenyPorts, int(ap.Port())) {
		return nil
	}
	v := ap.Addr().WithZone("").Unmap()
	if v.IsLoopback() || d.Own(v) {
		return &RefusedError{Addr: ap.String(), Reason: "the port belongs to this program's own cluster traffic; check the web port instead"}
	}
	return nil
}

// Own reports whether a is an address of this machine, as of half a minute ago
// at most.
func (d *Dialer) Own(a netip.Addr) bool {
	return slices.Contains(d.ownAddrs(), a.WithZone("").Unmap())
}

// ownAddrs lists this machine's addresses, read at most every half minute.
func (d *Dialer) ownAddrs() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.After(d.ownUntil) {
		d.ownUntil = now.Add(30 * time.Second)
		if addrs, err := net.InterfaceAddrs(); err == nil {
			d.own = d.own[:0]
			for _, a := range addrs {
				if n, ok := a.(*net.IPNet); ok {
					if ip, ok := netip.AddrFromSlice(n.IP); ok {
						d.own = append(d.own, ip.Unmap())
					}
				}
			}
		}
	}
	return slices.Clone(d.own)
}

// Control is a hook for net.Dialer and net.ListenConfig: it refuses addresses
// after resolution and before the first packet.
func (d *Dialer) Control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{Addr: address, Reason: "it is not an IP address with a port"}
	}
	return d.CheckAddrPort(ap)
}

// DialContext connects like net.Dialer.DialContext to an address that policy
// allows. Networks are tcp, tcp4, tcp6, udp, udp4, udp6.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := net.Dialer{Control: d.Control, KeepAlive: -1, FallbackDelay: -1}
	return nd.DialContext(ctx, network, address)
}

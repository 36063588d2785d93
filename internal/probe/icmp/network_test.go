package icmp

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	xicmp "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// Addresses of hosts that behave in ways no host on loopback does.
const (
	Silent      = "192.0.2.1" // loses every packet
	Late        = "192.0.2.2" // answers after 300 ms
	Unreachable = "192.0.2.3" // a router says that there is no way
	Noisy       = "192.0.2.4" // answers what was not asked
	Flooding    = "192.0.2.5" // answers what was not asked without end
	Near        = "192.0.2.6" // answers at once
)

// Simulated is the kind on a network of such hosts; loopback stays real.
func Simulated() Kind {
	return Kind{open: func(a netip.Addr) (conn, error) {
		if a.IsLoopback() {
			return open(a)
		}
		return &network{host: a, in: make(chan packet, 256), moved: make(chan struct{}, 1)}, nil
	}}
}

type packet struct {
	body []byte
	due  time.Time
}

// network is a conn to one simulated host.
type network struct {
	host netip.Addr
	in   chan packet

	mu       sync.Mutex // guards deadline
	deadline time.Time
	moved    chan struct{} // the deadline changed
}

func (n *network) SetDeadline(t time.Time) error { return n.SetReadDeadline(t) }

func (n *network) SetReadDeadline(t time.Time) error {
	n.mu.Lock()
	n.deadline = t
	n.mu.Unlock()
	select {
	case n.moved <- struct{}{}:
	default:
	}
	return nil
}

func (n *network) Close() error    { return nil }
func (n *network) onlyReplies(int) {}

func (n *network) write(b []byte, _ netip.Addr) error {
	m, err := xicmp.ParseMessage(1, b)
	if err != nil {
		return err
	}
	reply := func(m *xicmp.Message, wait time.Duration) error {
		b, err := m.Marshal(nil)
		n.in <- packet{b, time.Now().Add(wait)}
		return err
	}
	m.Type = ipv4.ICMPTypeEchoReply
	switch n.host.String() {
	case Unreachable:
		return &os.SyscallError{Syscall: "sendto", Err: syscall.EHOSTUNREACH}
	case Near:
		return reply(m, 0)
	case Late:
		return reply(m, 300*time.Millisecond)
	case Noisy:
		n.in <- packet{body: []byte{0, 1}}
		n.in <- packet{body: b} // our own echo, sent back
		echo := *m.Body.(*xicmp.Echo)
		other := append([]byte(nil), echo.Data...)
		other[0]++ // the tag of somebody else
		return reply(&xicmp.Message{Type: m.Type, Body: &xicmp.Echo{ID: echo.ID, Seq: echo.Seq, Data: other}}, 0)
	}
	return nil
}

func (n *network) read(buf []byte) (int, int, net.Addr, error) {
	from := &net.UDPAddr{IP: n.host.AsSlice()}
	for {
		n.mu.Lock()
		dl := n.deadline
		n.mu.Unlock()
		var late <-chan time.Time
		if !dl.IsZero() {
			if !time.Now().Before(dl) {
				return 0, 0, nil, os.ErrDeadlineExceeded
			}
			t := time.NewTimer(time.Until(dl))
			defer t.Stop()
			late = t.C
		}
		if n.host.String() == Flooding {
			return copy(buf, []byte{0, 0, 0xff, 0xff, 1, 2, 3, 4}), 64, from, nil
		}
		select {
		case <-late:
		case <-n.moved:
		case p := <-n.in:
			if wait := time.Until(p.due); wait > 0 {
				time.AfterFunc(wait, func() { n.in <- p })
				continue
			}
			return copy(buf, p.body), 64, from, nil
		}
	}
}

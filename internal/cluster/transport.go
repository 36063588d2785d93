package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds of what strangers may open before they have shown that they know the key.
const (
	maxStreams       = 32
	maxStreamsFromIP = 12
	dialTimeout      = 1500 * time.Millisecond // one lost SYN is sent again after 1 s
	streamTimeout    = 10 * time.Second        // of one stream as a whole
	maxPacket        = 1 << 16
)

// transport carries packets over UDP and streams over TCP, both on one port. It
// replaces the library's own, whose streams are unbounded in number, have no
// deadline for some writes, and outlive a shutdown.
type transport struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	wg      sync.WaitGroup
	closed  sync.Once
	resolve func() (netip.AddrPort, error) // what is advertised
	refused func()
	// blocked lets tests cut the way to an address; nil in earnest.
	blocked atomic.Pointer[func(network, to string) bool]

	mu     sync.Mutex // guards the rest
	conns  map[*conn]struct{}
	fromIP map[netip.Addr]int
	ended  bool
}

// listen binds UDP and TCP to the same port of bind.
func listen(bind string) (*transport, error) {
	ua, err := net.ResolveUDPAddr("udp", bind)
	if err != nil {
		return nil, fmt.Errorf("read the gossip address %q: %w", bind, err)
	}
	// A port that is free for TCP may be taken for UDP: with port 0 try others.
	for attempt := 0; ; attempt++ {
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ua.IP, Port: ua.Port, Zone: ua.Zone})
		if err != nil {
			return nil, fmt.Errorf("listen for gossip: %w", err)
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: ua.IP, Port: port, Zone: ua.Zone})
		if err == nil {
			// As large as the system allows; a smaller one only loses more in bursts.
			_ = udp.SetReadBuffer(2 << 20)
			return &transport{
				udp: udp, tcp: tcp, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
				conns: map[*conn]struct{}{}, fromIP: map[netip.Addr]int{}, refused: func() {},
			}, nil
		}
		_ = tcp.Close()
		if ua.Port != 0 || attempt == 20 {
			return nil, fmt.Errorf("listen for gossip: %w", err)
		}
	}
}

func (t *transport) port() int { return t.tcp.Addr().(*net.TCPAddr).Port }

func (t *transport) start() {
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
}

func (t *transport) readPackets() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.udp.ReadFromUDP(buf)
		at := time.Now()
		if err != nil {
			if !t.pause(err) {
				return
			}
			continue
		}
		if n == 0 {
			continue
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: at}:
		case <-t.done:
			return
		}
	}
}

func (t *transport) acceptStreams() {
	for {
		c, err := t.tcp.AcceptTCP()
		if err != nil {
			if !t.pause(err) {
				return
			}
			continue
		}
		tracked := t.track(c, true)
		if tracked == nil {
			t.refused()
			_ = c.Close()
			continue
		}
		select {
		case t.streams <- tracked:
		case <-t.done:
			_ = tracked.Close()
			return
		}
	}
}

// pause waits a moment after a failed read, say for want of descriptors. It
// returns false when there is nothing more to read.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-t.done:
		return false
	case <-time.After(20 * time.Millisecond):
		return true
	}
}

// conn is a stream that ends with the transport.
type conn struct {
	*net.TCPConn
	t    *transport
	from netip.Addr // of an accepted one
	once sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		delete(c.t.conns, c)
		if c.from.IsValid() {
			if c.t.fromIP[c.from]--; c.t.fromIP[c.from] <= 0 {
				delete(c.t.fromIP, c.from)
			}
		}
	})
	return c.TCPConn.Close()
}

// track returns nil when there are too many accepted streams, or at the end.
func (t *transport) track(tc *net.TCPConn, accepted bool) *conn {
	c := &conn{TCPConn: tc, t: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil
	}
	if accepted {
		ap, err := netip.ParseAddrPort(tc.RemoteAddr().String())
		if err != nil {
			return nil
		}
		ip := ap.Addr().Unmap()
		var all int
		for _, n := range t.fromIP {
			all += n
		}
		// Several servers share a machine when somebody tries the program.
		if all >= maxStreams || (t.fromIP[ip] >= maxStreamsFromIP && !ip.IsLoopback()) {
			return nil
		}
		c.from = ip
		t.fromIP[ip]++
	}
	t.conns[c] = struct{}{}
	return c
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	ap, err := t.resolve()
	if err != nil {
		return nil, 0, err
	}
	return net.IP(ap.Addr().Unmap().AsSlice()), int(ap.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send a packet: %w", err)
	}
	if f := t.blocked.Load(); f != nil && (*f)("udp", addr) {
		return time.Now(), nil
	}
	_, err = t.udp.WriteToUDPAddrPort(b, ap)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	timeout = min(timeout, dialTimeout)
	if f := t.blocked.Load(); f != nil && (*f)("tcp", addr) {
		select {
		case <-t.done:
		case <-time.After(timeout):
		}
		return nil, fmt.Errorf("dial %s: blocked", addr)
	}
	nc, err := (&net.Dialer{Timeout: timeout}).Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := t.track(nc.(*net.TCPConn), false)
	if c == nil {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	// A peer that is paused takes nothing in: no stream may wait for it for ever.
	if err := c.SetDeadline(time.Now().Add(streamTimeout)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. It ends all streams.
func (t *transport) Shutdown() error {
	t.closed.Do(func() {
		close(t.done)
		_ = t.udp.Close()
		_ = t.tcp.Close()
		t.mu.Lock()
		t.ended = true
		open := make([]*conn, 0, len(t.conns))
		for c := range t.conns {
			open = append(open, c)
		}
		t.mu.Unlock()
		for _, c := range open {
			_ = c.TCPConn.Close()
		}
	})
	t.wg.Wait()
	return nil
}

// splitAddr reads host:port with a numeric port.
func splitAddr(s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number from 0 to 65535", p)
	}
	return host, int(n), nil
}

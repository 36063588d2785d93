package icmp

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	xicmp "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"panoptes/internal/probe"
)

// conn sends and receives ICMP packets of one address family.
type conn interface {
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	Close() error
	// onlyReplies asks for the answers to echoes with this id alone, as far as
	// the system can tell them apart.
	onlyReplies(id int)
	write(packet []byte, to netip.Addr) error
	// read returns a packet without its IP header, and the hop limit that was
	// left, 0 when it is not known.
	read(buf []byte) (n, hops int, from net.Addr, err error)
}

// socket is a conn of the system: an unprivileged one, or a raw one.
type socket struct {
	*xicmp.PacketConn
	raw bool
}

// open opens an unprivileged socket when the system allows it, else a raw one.
func open(a netip.Addr) (conn, error) {
	nets, any := []string{"udp4", "ip4:icmp"}, "0.0.0.0"
	if a.Is6() {
		nets, any = []string{"udp6", "ip6:ipv6-icmp"}, "::"
	}
	c, err := xicmp.ListenPacket(nets[0], any)
	raw := err != nil
	if raw {
		var err2 error
		if c, err2 = xicmp.ListenPacket(nets[1], any); err2 != nil {
			return nil, probe.NotTried(fmt.Errorf("this worker may not send ICMP: allow its group in net.ipv4.ping_group_range or give it CAP_NET_RAW (%w)", err))
		}
	}
	if c4 := c.IPv4PacketConn(); c4 != nil {
		_ = c4.SetControlMessage(ipv4.FlagTTL, true)
	}
	if c6 := c.IPv6PacketConn(); c6 != nil {
		_ = c6.SetControlMessage(ipv6.FlagHopLimit, true)
	}
	return socket{c, raw}, nil
}

// onlyReplies keeps the traffic of others from a raw socket, which would fill
// its buffer when many checks run. Without it answers are told apart all the same.
func (s socket) onlyReplies(id int) {
	if !s.raw {
		return
	}
	if c6 := s.IPv6PacketConn(); c6 != nil {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		_ = c6.SetICMPFilter(&f)
		return
	}
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadMemShift{Off: 0}, // length of the IP header
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(ipv4.ICMPTypeEchoReply), SkipTrue: 3},
		bpf.LoadIndirect{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(id), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 17},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		_ = s.IPv4PacketConn().SetBPF(prog)
	}
}

func (s socket) write(packet []byte, to netip.Addr) error {
	var dst net.Addr = &net.UDPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	if s.raw {
		dst = &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	}
	_, err := s.WriteTo(packet, dst)
	return err
}

func (s socket) read(buf []byte) (n, hops int, from net.Addr, err error) {
	if c4 := s.IPv4PacketConn(); c4 != nil {
		n, cm, from, err := c4.ReadFrom(buf)
		if cm != nil {
			hops = cm.TTL
		}
		return n, hops, from, err
	}
	n, cm, from, err := s.IPv6PacketConn().ReadFrom(buf)
	if cm != nil {
		hops = cm.HopLimit
	}
	return n, hops, from, err
}

package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
)

// TCP counts the connections by state with one dump of the kernel, never by
// walking the files of processes. When a dump takes long – hundreds of
// thousands of sockets – it is asked for less often, so that it never takes
// more than about one percent of a core.
type TCP struct {
	dump  func(ctx context.Context, family, protocol uint8, each func(socket)) error
	next  time.Time
	kept  [stateCount]float64
	valid bool
}

// NewTCP makes the collector "tcpstat".
func NewTCP() *TCP { return &TCP{dump: dump} }

// Name implements metric.Collector.
func (c *TCP) Name() string { return "tcpstat" }

// States of the kernel; the last two slots sum the queues.
var states = [...]string{"", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close",
	"close_wait", "last_ack", "listen", "closing", "new_syn_recv", "rx_queued_bytes", "tx_queued_bytes"}

const (
	stateListen = 10
	stateRx     = 13
	stateTx     = 14
	stateCount  = 15
)

// socket is what a dump says of one socket.
type socket struct {
	state          uint8
	family         uint8
	local, remote  netip.AddrPort
	rxQueue, txQue uint32
}

// Collect implements metric.Collector.
func (c *TCP) Collect(ctx context.Context, out *metric.Batch) error {
	if now := time.Now(); !c.valid || !now.Before(c.next) {
		var sum [stateCount]float64
		each := func(s socket) {
			if int(s.state) < stateRx {
				sum[s.state]++
			}
			sum[stateRx] += float64(s.rxQueue)
			sum[stateTx] += float64(s.txQue)
		}
		for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
			if err := c.dump(ctx, family, unix.IPPROTO_TCP, each); err != nil {
				if family == unix.AF_INET6 && ctx.Err() == nil {
					continue // no IPv6
				}
				return err
			}
		}
		c.kept, c.valid = sum, true
		c.next = now.Add(min(100*time.Since(now), 2*time.Minute))
	}
	for i, name := range states {
		if name != "" && name != "new_syn_recv" {
			out.Add("node_tcp_connection_states", c.kept[i], "state", name)
		}
	}
	return nil
}

// dump asks the kernel for all sockets of a family and protocol (sock_diag(7)).
func dump(ctx context.Context, family, protocol uint8, each func(socket)) error {
	return dumpStates(ctx, family, protocol, 0xffffffff, each)
}

// dumpStates asks for those sockets only whose state is in the mask.
func dumpStates(ctx context.Context, family, protocol uint8, mask uint32, each func(socket)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("%w: open sock_diag: %w", metric.ErrAbsent, err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(int64(200 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return fmt.Errorf("set sock_diag timeout: %w", err)
	}
	const length = 16 + 56
	var req [length]byte
	ne := binary.NativeEndian
	ne.PutUint32(req[0:], length)
	ne.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16], req[17] = family, protocol
	ne.PutUint32(req[20:], mask)
	if err := unix.Sendto(fd, req[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fmt.Errorf("read sock_diag: %w", err)
		}
		done, err := messages(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// messages reads the netlink messages of one datagram.
func messages(b []byte, each func(socket)) (done bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= 16 {
		n, kind := int(ne.Uint32(b)), ne.Uint16(b[4:])
		if n < 16 || n > len(b) {
			return true, errors.New("sock_diag: a message of impossible length")
		}
		body := b[16:n]
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if e := int32(ne.Uint32(body)); e != 0 {
					return true, os.NewSyscallError("sock_diag", unix.Errno(-e))
				}
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if s, ok := message(body); ok {
				each(s)
			}
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return false, nil
}

// message reads struct inet_diag_msg.
func message(b []byte) (socket, bool) {
	if len(b) < 72 {
		return socket{}, false
	}
	ne := binary.NativeEndian
	s := socket{family: b[0], state: b[1], rxQueue: ne.Uint32(b[56:]), txQue: ne.Uint32(b[60:])}
	s.local = netip.AddrPortFrom(address(b[0], b[8:24]), binary.BigEndian.Uint16(b[4:]))
	s.remote = netip.AddrPortFrom(address(b[0], b[24:40]), binary.BigEndian.Uint16(b[6:]))
	return s, true
}

func address(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16])).Unmap()
}

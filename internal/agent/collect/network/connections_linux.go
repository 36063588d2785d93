package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	maxListeners = 200
	maxPeers     = 20
	maxDistinct  = 100000
)

// Listening are the TCP ports at which somebody listens.
func Listening(ctx context.Context) (map[uint16]struct{}, error) {
	out := map[uint16]struct{}{}
	each := func(s socket) {
		if s.state == stateListen {
			out[s.local.Port()] = struct{}{}
		}
	}
	if err := dumpStates(ctx, unix.AF_INET, unix.IPPROTO_TCP, 1<<stateListen, each); err != nil {
		return nil, err
	}
	_ = dumpStates(ctx, unix.AF_INET6, unix.IPPROTO_TCP, 1<<stateListen, each) // there may be no IPv6
	return out, ctx.Err()
}

// Look takes a picture of the sockets now.
func Look(ctx context.Context) (Connections, error) {
	c := Connections{States: map[string]int{}}
	listen := map[Listener]struct{}{}
	ports := map[uint16]int{}
	peers := map[netip.Addr]int{}
	tcp := func(s socket) {
		if int(s.state) < len(states) && states[s.state] != "" {
			c.States[states[s.state]]++
		}
		switch {
		case s.state == stateListen:
			if len(listen) < maxDistinct {
				listen[Listener{Protocol: "tcp", Address: s.local.Addr().String(), Port: s.local.Port()}] = struct{}{}
			}
		case s.state == 1:
			ports[s.local.Port()]++
			if a := s.remote.Addr(); len(peers) < maxDistinct || peers[a] > 0 {
				peers[a]++
			}
		}
	}
	udp := func(s socket) {
		if s.remote.Port() == 0 && len(listen) < maxDistinct {
			listen[Listener{Protocol: "udp", Address: s.local.Addr().String(), Port: s.local.Port()}] = struct{}{}
		}
	}
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		for _, p := range [...]struct {
			protocol uint8
			each     func(socket)
		}{{unix.IPPROTO_TCP, tcp}, {unix.IPPROTO_UDP, udp}} {
			if err := dump(ctx, family, p.protocol, p.each); err != nil && family == unix.AF_INET && p.protocol == unix.IPPROTO_TCP {
				return c, err
			}
		}
	}
	for l := range listen {
		if l.Protocol == "tcp" {
			l.Established = ports[l.Port]
		}
		c.Listeners = append(c.Listeners, l)
	}
	slices.SortFunc(c.Listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Address, b.Address))
	})
	c.Listeners = c.Listeners[:min(len(c.Listeners), maxListeners)]
	for a, n := range peers {
		c.Peers = append(c.Peers, Peer{a.String(), n})
	}
	slices.SortFunc(c.Peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Address, b.Address))
	})
	c.Peers = c.Peers[:min(len(c.Peers), maxPeers)]
	return c, nil
}

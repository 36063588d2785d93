package agentcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"panoptes/internal/agent/mesh"
	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/icmp"
)

// Mesh says whether this host looks at other hosts with an agent, and at which.
type Mesh struct {
	Enabled bool     `json:"enabled,omitempty"` // default false: at none, whatever the servers say
	Allow   []string `json:"allow,omitempty"`   // addresses and networks that may be looked at; empty: private ones
	Deny    []string `json:"deny,omitempty"`    //
}

// newMesh makes the mesh, nil when the file does not allow it.
func newMesh(cfg Config, log *slog.Logger) (*mesh.Mesh, error) {
	if !cfg.Mesh.Enabled {
		return nil, nil
	}
	allow, err := prefixes("mesh.allow", cfg.Mesh.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := prefixes("mesh.deny", cfg.Mesh.Deny)
	if err != nil {
		return nil, err
	}
	dialer := probe.NewDialer(probe.Policy{AllowPrivate: true, Allow: allow, Deny: deny})
	allowed := func(a netip.Addr) error {
		if len(allow) == 0 && !a.IsPrivate() && !shared.Contains(a) {
			return &probe.RefusedError{Addr: a.String(), Reason: "it is not private; name it or its network under mesh.allow in the agent's file"}
		}
		return dialer.CheckAddr(a)
	}
	p := &pinger{dialer: dialer, log: log.With("component", "mesh")}
	return mesh.New(mesh.Deps{Ping: p.ping, Allowed: allowed, Own: ownAddrs, Logger: p.log})
}

// shared are the addresses of providers' networks, which overlays use as well.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func ownAddrs() (out []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

// wsaRefused is how Windows says that a connection was refused.
const wsaRefused = syscall.Errno(10061)

const (
	echoes     = 3
	icmpAgain  = 10 * time.Minute // before ICMP is tried again where it was not possible
	echoConfig = `{"count": 3, "spacing": "50ms", "size": 56}`
)

// pinger looks at an address by ICMP, or by TCP where the system does not let
// it send ICMP.
type pinger struct {
	dialer *probe.Dialer
	log    *slog.Logger

	mu      sync.Mutex // guards without
	without time.Time  // until then ICMP is not tried
}

func (p *pinger) ping(ctx context.Context, a netip.Addr, port int) (mesh.Answer, error) {
	p.mu.Lock()
	icmpToo := time.Now().After(p.without)
	p.mu.Unlock()
	if icmpToo {
		ans, err := p.echo(ctx, a)
		if err == nil {
			return ans, nil
		}
		p.mu.Lock()
		if time.Now().After(p.without) {
			p.without = time.Now().Add(icmpAgain)
			p.log.Info("peers are looked at by TCP", "port", port, "err", err)
		}
		p.mu.Unlock()
	}
	return p.connect(ctx, a, port)
}

// echo sends echoes. An error says that none could be sent.
func (p *pinger) echo(ctx context.Context, a netip.Addr) (mesh.Answer, error) {
	probing, err := icmp.Kind{}.Compile(&model.Check{Type: "icmp", Target: a.String(), Block: json.RawMessage(echoConfig)}, &probe.Env{Now: time.Now, Dialer: p.dialer})
	if err != nil {
		return mesh.Answer{}, err
	}
	out := probing.Run(ctx)
	ans := mesh.Answer{Sent: echoes}
	loss := 1.0
	for _, s := range out.Samples {
		switch {
		case s.Name == "probe_icmp_packet_loss_ratio":
			loss = s.Value
		case s.Name == "probe_icmp_duration_seconds" && len(s.Labels) == 2 && s.Labels[1] == "rtt":
			ans.RTT = time.Duration(s.Value * float64(time.Second))
		}
	}
	if e, ok := out.Evidence.(map[string]any); ok {
		if sent, ok := e["sent"].(int); ok {
			ans.Sent = sent
		}
	}
	if ans.Sent == 0 {
		return ans, errors.New(out.Message)
	}
	ans.Got = int(float64(ans.Sent)*(1-loss) + 0.5)
	return ans, nil
}

// connect opens a connection and closes it. A host that refuses has answered.
func (p *pinger) connect(ctx context.Context, a netip.Addr, port int) (mesh.Answer, error) {
	began := time.Now()
	c, err := p.dialer.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(port)))
	took := time.Since(began)
	var refused *probe.RefusedError
	switch {
	case err == nil:
		_ = c.Close()
		return mesh.Answer{Sent: 1, Got: 1, RTT: took}, nil
	case errors.As(err, &refused):
		return mesh.Answer{}, fmt.Errorf("look at %s: %w", a, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, wsaRefused):
		return mesh.Answer{Sent: 1, Got: 1, RTT: took}, nil
	}
	return mesh.Answer{Sent: 1}, nil
}

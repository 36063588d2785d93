// Package icmp probes hosts by ICMP echo.
package icmp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	xicmp "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// Config is the block "icmp".
type Config struct {
	Count    int            `json:"count,omitempty"`    // echoes per run; default 3
	Size     int            `json:"size,omitempty"`     // bytes of payload; default 56
	Spacing  model.Duration `json:"spacing,omitempty"`  // time between two echoes; default 200ms
	MaxLoss  *float64       `json:"max_loss,omitempty"` // share of lost echoes from which the check is degraded; default 0.5
	IPFamily string         `json:"ip_family,omitempty"`
	// DegradedAfter is compared with the mean round-trip time.
	DegradedAfter model.Duration `json:"degraded_after,omitempty"`
}

// Kind is the type "icmp".
type Kind struct {
	open func(netip.Addr) (conn, error) // nil opens a socket
}

// Name implements probe.Kind.
func (Kind) Name() string { return "icmp" }

type icmpProbe struct {
	env     *probe.Env
	cfg     Config
	host    string
	maxLoss float64
	open    func(netip.Addr) (conn, error)
}

// Compile implements probe.Kind.
func (k Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &icmpProbe{env: env, cfg: Config{Count: 3, Size: 56, Spacing: model.Duration(200 * time.Millisecond)}, host: c.Target, maxLoss: 0.5, open: k.open}
	if p.open == nil {
		p.open = open
	}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	inv.AddErr("", probe.Host(c.Target))
	if p.cfg.Count < 1 || p.cfg.Count > 100 {
		inv.Add("icmp.count", "must lie between 1 and 100")
	}
	if p.cfg.Size < tagLen || p.cfg.Size > 65500 {
		inv.Add("icmp.size", "must lie between %d and 65500", tagLen)
	}
	if d := p.cfg.Spacing.D(); d < 10*time.Millisecond || d > time.Minute {
		inv.Add("icmp.spacing", "must lie between 10ms and 1m")
	}
	if p.cfg.MaxLoss != nil {
		p.maxLoss = *p.cfg.MaxLoss
		if !(p.maxLoss >= 0 && p.maxLoss <= 1) {
			inv.Add("icmp.max_loss", "must lie between 0 and 1")
		}
	}
	if p.cfg.IPFamily != "" && !slices.Contains(probe.Families, p.cfg.IPFamily) {
		inv.Add("icmp.ip_family", "must be auto, 4 or 6")
	}
	if p.cfg.DegradedAfter < 0 {
		inv.Add("icmp.degraded_after", "must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// tally is what the echoes of one run found.
type tally struct {
	sent, got int
	rtt       time.Duration // sum
	hops      int
	setup     time.Duration
}

// Run implements probe.Probe.
func (p *icmpProbe) Run(ctx context.Context) probe.Outcome {
	start := time.Now()
	addrs, err := p.env.Resolve(ctx, p.host, p.cfg.IPFamily)
	route := probe.Route{Resolve: time.Since(start)}
	var t tally
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%s has no address", p.host)
	}
	if err == nil {
		route.Addr = addrs[0]
		if err = p.env.Dialer.CheckAddr(addrs[0]); err == nil {
			t, err = p.echo(ctx, addrs[0])
		}
	}
	return p.judge(route, t, err)
}

func (p *icmpProbe) judge(route probe.Route, t tally, err error) probe.Outcome {
	out := probe.Outcome{Samples: route.Samples(make([]probe.Sample, 0, 10))}
	mean := time.Duration(0)
	if t.got > 0 {
		mean = t.rtt / time.Duration(t.got)
	}
	for _, ph := range []struct {
		name string
		d    time.Duration
	}{{"resolve", route.Resolve}, {"setup", t.setup}, {"rtt", mean}} {
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_icmp_duration_seconds", Labels: []string{"phase", ph.name}, Value: ph.d.Seconds()})
	}
	loss := 1.0
	if t.sent > 0 {
		loss = 1 - float64(t.got)/float64(t.sent)
	}
	out.Samples = append(out.Samples, probe.Sample{Name: "probe_icmp_packet_loss_ratio", Value: loss})
	if t.hops > 0 {
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_icmp_reply_hop_limit", Value: float64(t.hops)})
	}
	switch {
	case t.got == 0 && err != nil:
		out.Message, out.Untried = probe.Reason(err), probe.Untried(err) && t.sent == 0
	case t.got == 0:
		out.Message = fmt.Sprintf("no answer to %d echoes", t.sent)
	default:
		out.Success = true
		out.Message = fmt.Sprintf("%d of %d echoes answered, %s", t.got, t.sent, probe.Ms(mean))
		for _, a := range []struct {
			model.AssertionResult
			use bool
		}{
			{model.AssertionResult{Text: fmt.Sprintf("loss <= %g", p.maxLoss), Found: fmt.Sprintf("%.2f", loss), Passed: loss <= p.maxLoss}, true},
			{model.AssertionResult{Text: "round trip <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(mean), Passed: mean <= p.cfg.DegradedAfter.D()}, p.cfg.DegradedAfter > 0},
		} {
			if a.use {
				out.Assertions = append(out.Assertions, a.AssertionResult)
			}
			if a.use && !a.Passed {
				out.Degraded, out.Message = true, "degraded: "+a.Text+", found "+a.Found
			}
		}
	}
	if !out.Success || out.Degraded {
		e := map[string]any{"sent": t.sent, "received": t.got, "loss": loss}
		if route.Addr.IsValid() {
			e["address"] = route.Addr.String()
		}
		out.Evidence = e
	}
	return out
}

// tagLen is the length of what ties an answer to its echo: 12 random bytes and
// the number of the echo.
const tagLen = 16

// echo sends the echoes and collects the answers until all are in or ctx ends.
func (p *icmpProbe) echo(ctx context.Context, a netip.Addr) (t tally, err error) {
	if err := ctx.Err(); err != nil {
		return t, err
	}
	begin := time.Now()
	c, err := p.open(a)
	if err != nil {
		return t, err
	}
	defer c.Close()
	stop := probe.Watch(ctx, c)
	defer stop()
	var tag [tagLen]byte
	_, _ = rand.Read(tag[:])
	payload := make([]byte, p.cfg.Size)
	id := int(binary.BigEndian.Uint16(tag[:]))
	c.onlyReplies(id)
	t.setup = time.Since(begin)
	sentAt := make([]time.Time, p.cfg.Count)
	answered := make([]bool, p.cfg.Count)
	buf := make([]byte, 65536)
	next := time.Now()
	for t.got < p.cfg.Count {
		if t.sent < p.cfg.Count && !time.Now().Before(next) {
			binary.BigEndian.PutUint32(tag[12:], uint32(t.sent))
			copy(payload, tag[:])
			msg := xicmp.Message{Type: ipv4.ICMPTypeEcho, Body: &xicmp.Echo{ID: id, Seq: t.sent, Data: payload}}
			if a.Is6() {
				msg.Type = ipv6.ICMPTypeEchoRequest
			}
			b, err := msg.Marshal(nil)
			if err != nil {
				return t, err
			}
			sentAt[t.sent] = time.Now()
			if err := c.write(b, a); err != nil {
				return t, err
			}
			t.sent++
			next = next.Add(p.cfg.Spacing.D())
		}
		if err := until(ctx, c, t.sent < p.cfg.Count, next); err != nil {
			return t, err
		}
		n, hops, from, err := c.read(buf)
		if err != nil {
			if ctx.Err() == nil && t.sent < p.cfg.Count && isTimeout(err) {
				continue // time for the next echo
			}
			if isTimeout(err) || ctx.Err() != nil {
				if ctx.Err() == context.Canceled {
					return t, ctx.Err()
				}
				return t, nil
			}
			return t, err
		}
		seq, ok := Answer(buf[:n], a.Is6(), tag[:12])
		if !ok || seq >= t.sent || answered[seq] || !sameHost(from, a) {
			continue
		}
		answered[seq] = true
		t.got++
		t.rtt += time.Since(sentAt[seq])
		t.hops = hops
	}
	return t, nil
}

// until sets how long the next read may wait.
func until(ctx context.Context, c conn, more bool, next time.Time) error {
	dl, ok := ctx.Deadline()
	if more && (!ok || next.Before(dl)) {
		dl, ok = next, true
	}
	if !ok {
		dl = time.Time{}
	}
	if err := c.SetReadDeadline(dl); err != nil {
		return err
	}
	// The context may have ended before the deadline was moved.
	return ctx.Err()
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func sameHost(from net.Addr, a netip.Addr) bool {
	var ip net.IP
	switch f := from.(type) {
	case *net.UDPAddr:
		ip = f.IP
	case *net.IPAddr:
		ip = f.IP
	}
	got, ok := netip.AddrFromSlice(ip)
	return ok && got.Unmap() == a.WithZone("")
}

// Answer reads an ICMP packet and returns the number of the echo that it
// answers. Only a packet with our tag counts: an unprivileged socket changes
// the id, a raw one sees the answers of everybody.
func Answer(b []byte, v6 bool, tag []byte) (seq int, ok bool) {
	proto := 1
	if v6 {
		proto = 58
	}
	m, err := xicmp.ParseMessage(proto, b)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
		return 0, false
	}
	e, isEcho := m.Body.(*xicmp.Echo)
	if !isEcho || len(e.Data) < tagLen || string(e.Data[:12]) != string(tag) {
		return 0, false
	}
	n := binary.BigEndian.Uint32(e.Data[12:])
	return int(n), n <= 100 && int(n) == e.Seq
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("Ping (ICMP)", "Ping（ICMP）"), Target: probe.T("Host", "主机"), Placeholder: "gw.example"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return []probe.Field{
		{Name: "count", Type: "int", Default: "3", Label: t("Echoes per run", "每次发送数量")},
		{Name: "max_loss", Type: "float", Default: "0.5", Label: t("Degraded from this share lost", "丢包率超过此值视为降级")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
		{Name: "size", Type: "int", Default: "56", Advanced: true, Label: t("Payload bytes", "负载字节数")},
		{Name: "spacing", Type: "duration", Default: "200ms", Advanced: true, Label: t("Time between echoes", "发送间隔")},
		{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: t("IP family", "IP 协议族")},
	}
}

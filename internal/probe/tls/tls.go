// Package tls probes certificates and what a server accepts in TLS.
package tls

import (
	"context"
	stdtls "crypto/tls"
	"slices"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "tls": the settings all kinds share, flat. A certificate
// that ends within min_days_left (default 14) makes the check degraded.
type Config struct {
	tlsinfo.Config
	MinDaysLeft *float64 `json:"min_days_left,omitempty"`
	FailDays    float64  `json:"fail_days_left,omitempty"` // nearer than this is down
	IPFamily    string   `json:"ip_family,omitempty"`
	ALPN        []string `json:"alpn,omitempty"`
	// DegradedAfter is compared with the time until the handshake is done.
	DegradedAfter model.Duration `json:"degraded_after,omitempty"`
}

// DefaultDays is the default of min_days_left.
const DefaultDays = 14

// Kind is the type "tls".
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "tls" }

type tlsProbe struct {
	env  *probe.Env
	cfg  Config
	host string
	port uint16
	tls  *stdtls.Config
}

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &tlsProbe{env: env}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	var err error
	p.host, p.port, err = probe.HostPort(c.Target, 443)
	inv.AddErr("", err)
	p.cfg.Config.MinDaysLeft = DefaultDays
	if p.cfg.MinDaysLeft != nil {
		p.cfg.Config.MinDaysLeft = *p.cfg.MinDaysLeft
	}
	if p.cfg.FailDays < 0 || p.cfg.FailDays > 3650 {
		inv.Add("tls.fail_days_left", "must lie between 0 and 3650")
	}
	if p.cfg.IPFamily != "" && !slices.Contains(probe.Families, p.cfg.IPFamily) {
		inv.Add("tls.ip_family", "must be auto, 4 or 6")
	}
	if p.cfg.DegradedAfter < 0 {
		inv.Add("tls.degraded_after", "must not be negative")
	}
	p.tls = p.cfg.Config.Compile("tls", p.host, &inv)
	for i, a := range p.cfg.ALPN {
		if a == "" || len(a) > 255 || i > 15 {
			inv.Add(model.Index("tls.alpn", i), "must be a protocol's name, for example h2; up to 16 of them")
		}
	}
	p.tls.NextProtos = p.cfg.ALPN
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Run implements probe.Probe.
func (p *tlsProbe) Run(ctx context.Context) probe.Outcome {
	start := time.Now()
	conn, route, err := p.env.Connect(ctx, "tcp", p.host, p.port, p.cfg.IPFamily)
	out := probe.Outcome{Samples: route.Samples(make([]probe.Sample, 0, 10))}
	if err != nil {
		out.Message, out.Untried = probe.Reason(err), probe.Untried(err)
		out.Evidence = map[string]any{"address": route.Addr.String(), "error": out.Message}
		return out
	}
	defer conn.Close()
	stop := probe.Watch(ctx, conn)
	defer stop()
	tc := stdtls.Client(conn, p.tls)
	err = tc.HandshakeContext(ctx)
	var facts *tlsinfo.Facts
	if err != nil {
		facts = tlsinfo.FromError(err)
		out.Message = tlsinfo.Reason(err)
	} else {
		cs := tc.ConnectionState()
		facts = tlsinfo.FromState(&cs)
		out.Success = true
		took := time.Since(start)
		out.Message = facts.Version + " in " + probe.Ms(took) + ", certificate ends " + facts.End().UTC().Format(time.DateOnly)
		p.judge(facts, took, &out)
	}
	out.Samples = facts.Samples(out.Samples)
	if !out.Success || out.Degraded {
		out.Evidence = map[string]any{"address": route.Addr.String(), "tls": facts, "error": out.Message}
	}
	return out
}

func (p *tlsProbe) judge(facts *tlsinfo.Facts, took time.Duration, out *probe.Outcome) {
	now := time.Now()
	if p.env.Now != nil {
		now = p.env.Now()
	}
	hard := tlsinfo.Config{MinDaysLeft: p.cfg.FailDays}
	if r, ok := hard.Assert(facts, now); r.Text != "" {
		out.Assertions = append(out.Assertions, r)
		if !ok {
			out.Success, out.Message = false, r.Text+", found "+r.Found
		}
	}
	if r, ok := p.cfg.Config.Assert(facts, now); r.Text != "" {
		out.Assertions = append(out.Assertions, r)
		if !ok {
			out.Degraded = true
			if out.Success {
				out.Message = "degraded: " + r.Text + ", found " + r.Found
			}
		}
	}
	if d := p.cfg.DegradedAfter; d > 0 {
		r := model.AssertionResult{Text: "handshake time <= " + d.String(), Found: probe.Ms(took), Passed: took <= d.D()}
		out.Assertions = append(out.Assertions, r)
		if !r.Passed && out.Success && !out.Degraded {
			out.Message = "degraded: " + r.Text + ", found " + r.Found
		}
		out.Degraded = out.Degraded || !r.Passed
	}
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("Certificate (TLS)", "证书（TLS）"), Target: probe.T("Host, or host and port", "主机，或主机和端口"), Placeholder: "www.example.com:443"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	out := []probe.Field{}
	for _, f := range tlsinfo.Fields() {
		f.Name = f.Name[len("tls."):]
		if f.Name == "min_days_left" {
			f.Default = "14"
		}
		out = append(out, f)
	}
	return append(out,
		probe.Field{Name: "fail_days_left", Type: "float", Default: "0", Label: probe.T("Down when the certificate ends within (days)", "证书剩余天数少于此值视为故障")},
		probe.Field{Name: "degraded_after", Type: "duration", Label: probe.T("Degraded when slower than", "慢于此值视为降级")},
		probe.Field{Name: "alpn", Type: "list", Advanced: true, Label: probe.T("ALPN protocols", "ALPN 协议")},
		probe.Field{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: probe.T("IP family", "IP 协议族")})
}

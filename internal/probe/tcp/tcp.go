// Package tcp probes TCP ports, plain, with TLS, or with STARTTLS, and may
// hold a short dialogue.
package tcp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "tcp".
type Config struct {
	Security      string         `json:"security,omitempty"` // none (default), tls, smtp, imap, pop3, ftp (STARTTLS)
	TLS           tlsinfo.Config `json:"tls,omitzero"`
	Dialogue      []Step         `json:"dialogue,omitempty"`
	IPFamily      string         `json:"ip_family,omitempty"`
	DegradedAfter model.Duration `json:"degraded_after,omitempty"`
}

// Step waits for a line, then sends one; either may be left out.
type Step struct {
	Expect string       `json:"expect,omitempty"` // keyword or "re:…"; lines are read until one matches
	Send   model.Secret `json:"send,omitempty"`   // sent with a line break
}

var securities = []string{"none", "tls", "smtp", "imap", "pop3", "ftp"}

// Kind is the type "tcp".
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "tcp" }

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &tcpProbe{env: env}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	var err error
	p.host, p.port, err = probe.HostPort(c.Target, 0)
	inv.AddErr("", err)
	if p.cfg.Security == "" {
		p.cfg.Security = "none"
	}
	if !slices.Contains(securities, p.cfg.Security) {
		inv.Add("tcp.security", "must be one of %s", strings.Join(securities, ", "))
	}
	if p.cfg.IPFamily != "" && !slices.Contains(probe.Families, p.cfg.IPFamily) {
		inv.Add("tcp.ip_family", "must be auto, 4 or 6")
	}
	if p.cfg.DegradedAfter < 0 {
		inv.Add("tcp.degraded_after", "must not be negative")
	}
	p.tls = p.cfg.TLS.Compile("tcp.tls", p.host, &inv)
	if len(p.cfg.Dialogue) > 32 {
		inv.Add("tcp.dialogue", "has more than 32 steps")
	}
	for i, s := range p.cfg.Dialogue {
		f := model.Index("tcp.dialogue", i)
		p.expect = append(p.expect, probe.CompilePattern(s.Expect, f+".expect", &inv))
		if s.Expect == "" && s.Send == "" {
			inv.Add(f, "needs expect or send")
		}
		if len(s.Send) > 4096 {
			inv.Add(f+".send", "is longer than 4096 bytes")
		}
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

type tcpProbe struct {
	env    *probe.Env
	cfg    Config
	host   string
	port   uint16
	tls    *tls.Config
	expect []*probe.Pattern
}

// maxRead bounds what one run reads.
const maxRead = 64 << 10

// session is the open connection of one run.
type session struct {
	net.Conn
	r     *bufio.Reader
	facts *tlsinfo.Facts
	lines []string // last lines of the target
}

func (s *session) use(c net.Conn) {
	s.Conn = c
	s.r = bufio.NewReaderSize(io.LimitReader(c, maxRead), 4096)
}

// Run implements probe.Probe.
func (p *tcpProbe) Run(ctx context.Context) probe.Outcome {
	start := time.Now()
	conn, route, err := p.env.Connect(ctx, "tcp", p.host, p.port, p.cfg.IPFamily)
	var out probe.Outcome
	out.Samples = route.Samples(make([]probe.Sample, 0, 12))
	if err != nil {
		out.Message, out.Untried = probe.Reason(err), probe.Untried(err)
		out.Evidence = map[string]any{"address": addr(route), "error": out.Message}
		return out
	}
	defer conn.Close()
	stop := probe.Watch(ctx, conn)
	defer stop()
	s := &session{}
	s.use(conn)
	out.Success = true
	out.Message = "connected in " + probe.Ms(route.Connect)
	failed, err := p.talk(ctx, s)
	took := time.Since(start)
	if err != nil {
		out.Success, out.Message = false, err.Error()
	}
	out.Assertions = append(out.Assertions, failed...)
	out.Samples = append(out.Samples, probe.Sample{Name: "probe_failed_due_to_regex", Value: regex(failed)})
	out.Samples = s.facts.Samples(out.Samples)
	if r, ok := p.cfg.TLS.Assert(s.facts, time.Now()); r.Text != "" {
		out.Assertions = append(out.Assertions, r)
		p.degrade(&out, ok, "degraded: "+r.Text+", found "+r.Found)
	}
	if d := p.cfg.DegradedAfter.D(); d > 0 {
		r := model.AssertionResult{Text: "response time <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(took), Passed: took <= d}
		out.Assertions = append(out.Assertions, r)
		p.degrade(&out, r.Passed, "degraded: "+r.Text+", found "+r.Found)
	}
	if !out.Success || out.Degraded {
		out.Evidence = map[string]any{"address": addr(route), "received": s.lines, "tls": s.facts, "error": out.Message}
	}
	return out
}

func (p *tcpProbe) degrade(out *probe.Outcome, ok bool, msg string) {
	if !ok && out.Success {
		if !out.Degraded {
			out.Message = msg
		}
		out.Degraded = true
	}
}

func regex(rs []model.AssertionResult) float64 {
	if slices.ContainsFunc(rs, func(r model.AssertionResult) bool { return !r.Passed }) {
		return 1
	}
	return 0
}

func addr(r probe.Route) string {
	if r.Addr.IsValid() {
		return r.Addr.String()
	}
	return ""
}

// talk secures the connection and holds the dialogue.
func (p *tcpProbe) talk(ctx context.Context, s *session) (rs []model.AssertionResult, err error) {
	switch p.cfg.Security {
	case "none":
	case "tls":
		if err := p.secure(ctx, s); err != nil {
			return nil, err
		}
	default:
		for _, st := range starttls[p.cfg.Security] {
			if st.send != "" {
				if _, err := io.WriteString(s, st.send+"\r\n"); err != nil {
					return nil, fmt.Errorf("STARTTLS: %s", probe.Reason(err))
				}
			}
			if err := s.reply(st.want); err != nil {
				return nil, fmt.Errorf("STARTTLS: %s", err)
			}
		}
		if err := p.secure(ctx, s); err != nil {
			return nil, err
		}
	}
	for i, st := range p.cfg.Dialogue {
		if pat := p.expect[i]; pat != nil {
			r := model.AssertionResult{Text: "receives " + pat.Text}
			err := s.until(pat)
			if n := len(s.lines); n > 0 {
				r.Found = s.lines[n-1]
			}
			r.Passed = err == nil
			rs = append(rs, r)
			if err != nil {
				return rs, fmt.Errorf("waiting for %q: %s", probe.Line(pat.Text), err)
			}
		}
		if st.Send != "" {
			if _, err := io.WriteString(s, st.Send.Reveal()+"\r\n"); err != nil {
				return rs, fmt.Errorf("send: %s", probe.Reason(err))
			}
		}
	}
	return rs, nil
}

func (p *tcpProbe) secure(ctx context.Context, s *session) error {
	tc := tls.Client(s.Conn, p.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		s.facts = tlsinfo.FromError(err)
		return errors.New(tlsinfo.Reason(err))
	}
	cs := tc.ConnectionState()
	s.facts = tlsinfo.FromState(&cs)
	s.use(tc)
	return nil
}

// line reads one line, without its end.
func (s *session) line() (string, error) {
	b, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	b = bytes.TrimRight(b, "\r\n")
	if err == io.EOF && len(b) > 0 {
		err = nil
	}
	if err != nil {
		if err == io.EOF {
			return "", errors.New("the connection was closed")
		}
		return "", errors.New(probe.Reason(err))
	}
	l := probe.Line(string(b))
	if len(s.lines) == 20 {
		s.lines = append(s.lines[:0], s.lines[1:]...)
	}
	s.lines = append(s.lines, l)
	return string(b), nil
}

func (s *session) until(p *probe.Pattern) error {
	for {
		l, err := s.line()
		if err != nil {
			return err
		}
		if p.Match([]byte(l)) {
			return nil
		}
	}
}

type exchange struct{ send, want string }

// starttls holds the dialogues of RFC 3207, 2595 and 4217.
var starttls = map[string][]exchange{
	"smtp": {{"", "220"}, {"EHLO panoptes", "250"}, {"STARTTLS", "220"}},
	"imap": {{"", "* OK"}, {"a STARTTLS", "a OK"}},
	"pop3": {{"", "+OK"}, {"STLS", "+OK"}},
	"ftp":  {{"", "220"}, {"AUTH TLS", "234"}},
}

// reply reads up to the line that ends a reply and checks how it begins.
func (s *session) reply(want string) error {
	for {
		l, err := s.line()
		if err != nil {
			return err
		}
		switch {
		case len(l) > 3 && l[3] == '-', strings.HasPrefix(l, "* ") && want[0] != '*':
			continue
		case strings.HasPrefix(l, want):
			return nil
		}
		return fmt.Errorf("the target answered %q, wanted %s", probe.Line(l), want)
	}
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("TCP port", "TCP 端口"), Target: probe.T("Host and port", "主机和端口"), Placeholder: "db.example:5432"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return append([]probe.Field{
		{Name: "security", Type: "enum", Enum: securities, Default: "none", Label: t("Security", "加密方式"), Help: t("smtp, imap, pop3 and ftp begin in the clear and switch by STARTTLS.", "smtp、imap、pop3、ftp 先明文连接，再通过 STARTTLS 加密。")},
		{Name: "dialogue", Type: "object", Advanced: true, Label: t("Dialogue", "会话"), Help: t("A list of {expect, send}: wait for a line, then send one.", "{expect, send} 列表：先等待一行，再发送一行。")},
		{Name: "dialogue.*.send", Type: "secret", Advanced: true, Label: t("Send", "发送")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
		{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: t("IP family", "IP 协议族")},
	}, tlsinfo.Fields()...)
}

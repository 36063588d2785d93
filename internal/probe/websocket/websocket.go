// Package websocket probes WebSocket servers.
package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"
	"golang.org/x/net/http/httpguts"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "websocket".
type Config struct {
	Subprotocols  []string                `json:"subprotocols,omitempty"` // one of them must be chosen
	Headers       map[string]string       `json:"headers,omitempty"`
	SecretHeaders map[string]model.Secret `json:"secret_headers,omitempty"`
	Send          string                  `json:"send,omitempty"`   // a text message
	Expect        string                  `json:"expect,omitempty"` // keyword or "re:…" in a message
	TLS           tlsinfo.Config          `json:"tls,omitzero"`
	IPFamily      string                  `json:"ip_family,omitempty"`
	DegradedAfter model.Duration          `json:"degraded_after,omitempty"`
}

// Kind is the type "websocket".
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "websocket" }

type wsProbe struct {
	env    *probe.Env
	cfg    Config
	url    *url.URL
	port   uint16
	header nethttp.Header
	tls    *tls.Config
	expect *probe.Pattern
}

const maxMessage = 1 << 20

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &wsProbe{env: env, header: nethttp.Header{}, port: 80}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	u, err := url.Parse(c.Target)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || u.Fragment != "":
		inv.Add("target", "must be a URL such as wss://live.example/feed")
		u = &url.URL{}
	case u.User != nil:
		inv.Add("target", "must not contain a user name or password; use a secret header")
	default:
		inv.AddErr("", probe.Host(u.Hostname()))
	}
	if u.Scheme == "wss" {
		p.port = 443
	}
	if ps := u.Port(); ps != "" {
		n, err := strconv.ParseUint(ps, 10, 16)
		if err != nil || n == 0 {
			inv.Add("target", "port %q must be a number from 1 to 65535", ps)
		}
		p.port = uint16(n)
	}
	p.url = u
	add := func(field, k, v string) {
		switch {
		case !httpguts.ValidHeaderFieldName(k) || !httpguts.ValidHeaderFieldValue(v):
			inv.Add(field+"."+k, "is no valid header")
		case strings.HasPrefix(nethttp.CanonicalHeaderKey(k), "Sec-Websocket-"), strings.EqualFold(k, "Upgrade"), strings.EqualFold(k, "Connection"):
			inv.Add(field+"."+k, "is set by the check itself; leave it out")
		}
		p.header.Set(k, v)
	}
	for k, v := range p.cfg.Headers {
		add("websocket.headers", k, v)
	}
	for k, v := range p.cfg.SecretHeaders {
		add("websocket.secret_headers", k, v.Reveal())
	}
	for i, s := range p.cfg.Subprotocols {
		if !httpguts.ValidHeaderFieldName(s) || i > 15 {
			inv.Add(model.Index("websocket.subprotocols", i), "must be a protocol's name; up to 16 of them")
		}
	}
	if len(p.cfg.Send) > 64<<10 {
		inv.Add("websocket.send", "is longer than 64 KiB")
	}
	p.expect = probe.CompilePattern(p.cfg.Expect, "websocket.expect", &inv)
	p.tls = p.cfg.TLS.Compile("websocket.tls", u.Hostname(), &inv)
	p.tls.NextProtos = []string{"http/1.1"}
	if p.cfg.IPFamily != "" && !slices.Contains(probe.Families, p.cfg.IPFamily) {
		inv.Add("websocket.ip_family", "must be auto, 4 or 6")
	}
	if p.cfg.DegradedAfter < 0 {
		inv.Add("websocket.degraded_after", "must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Run implements probe.Probe.
func (p *wsProbe) Run(ctx context.Context) probe.Outcome {
	runCtx := ctx
	start := time.Now()
	var route probe.Route
	var head *handshake
	stop := func() bool { return true }
	defer func() { stop() }()
	d := gorilla.Dialer{
		Subprotocols: p.cfg.Subprotocols, TLSClientConfig: p.tls,
		NetDialContext: func(ctx context.Context, network, _ string) (c net.Conn, err error) {
			c, route, err = p.env.Connect(ctx, network, p.url.Hostname(), p.port, p.cfg.IPFamily)
			if err == nil {
				// The handshake looks at the deadline of ctx only, not at its end.
				stop = context.AfterFunc(runCtx, func() { _ = c.Close() })
				head = &handshake{Conn: c, left: maxHead}
				if p.url.Scheme == "wss" {
					head.left += maxTLS
				}
				return head, nil
			}
			return c, err
		},
	}
	conn, resp, err := d.DialContext(ctx, p.url.String(), p.header)
	took := time.Since(start)
	out := probe.Outcome{Samples: route.Samples(make([]probe.Sample, 0, 12))}
	var facts *tlsinfo.Facts
	var message string
	if err == nil {
		head.done = true
		defer conn.Close()
		if tc, ok := conn.NetConn().(*tls.Conn); ok {
			cs := tc.ConnectionState()
			facts = tlsinfo.FromState(&cs)
		}
		message, err = p.talk(conn)
		took = time.Since(start)
	} else {
		facts = tlsinfo.FromError(err)
	}
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	out.Samples = append(out.Samples,
		probe.Sample{Name: "probe_websocket_status_code", Value: float64(status)},
		probe.Sample{Name: "probe_websocket_duration_seconds", Labels: []string{"phase", "connect"}, Value: route.Connect.Seconds()},
		probe.Sample{Name: "probe_websocket_duration_seconds", Labels: []string{"phase", "total"}, Value: took.Seconds()})
	out.Samples = facts.Samples(out.Samples)
	out.Success = err == nil
	out.Message = "connected in " + probe.Ms(took)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		} else if head != nil && head.full {
			err = fmt.Errorf("the header is longer than %d KiB", maxHead>>10)
		}
		out.Message, out.Untried = reason(err, status), probe.Untried(err)
	}
	if p.expect != nil && status == 101 {
		out.Assertions = append(out.Assertions, model.AssertionResult{Text: "receives " + p.expect.Text, Found: probe.Line(message), Passed: err == nil})
	}
	p.degrade(&out, facts, took)
	if !out.Success || out.Degraded {
		out.Evidence = map[string]any{"status": status, "received": probe.Line(message), "tls": facts, "error": out.Message}
	}
	return out
}

// What a target may send before the connection is open: its header, and below it
// the certificates and the rest of TLS.
const (
	maxHead = 128 << 10
	maxTLS  = 512 << 10
)

// handshake is a connection that reads no more than is left until it is done:
// the library bounds messages, and not the header before them.
type handshake struct {
	net.Conn
	left       int
	full, done bool
}

func (h *handshake) Read(b []byte) (int, error) {
	if h.done {
		return h.Conn.Read(b)
	}
	if h.left <= 0 {
		h.full = true
		return 0, io.ErrShortBuffer
	}
	n, err := h.Conn.Read(b[:min(len(b), h.left)])
	h.left -= n
	return n, err
}

func (p *wsProbe) degrade(out *probe.Outcome, facts *tlsinfo.Facts, took time.Duration) {
	var rs []model.AssertionResult
	if r, _ := p.cfg.TLS.Assert(facts, time.Now()); r.Text != "" {
		rs = append(rs, r)
	}
	if d := p.cfg.DegradedAfter.D(); d > 0 {
		rs = append(rs, model.AssertionResult{Text: "response time <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(took), Passed: took <= d})
	}
	for _, r := range rs {
		out.Assertions = append(out.Assertions, r)
		if !r.Passed && out.Success {
			out.Degraded, out.Message = true, "degraded: "+r.Text+", found "+r.Found
		}
	}
}

func reason(err error, status int) string {
	var ve *tls.CertificateVerificationError
	switch {
	case errors.As(err, &ve):
		return tlsinfo.Reason(err)
	case errors.Is(err, gorilla.ErrBadHandshake):
		return fmt.Sprintf("the target answered %d %s instead of switching to WebSocket", status, nethttp.StatusText(status))
	}
	return probe.Reason(err)
}

// talk sends and waits for the message that is expected.
func (p *wsProbe) talk(conn *gorilla.Conn) (last string, err error) {
	if len(p.cfg.Subprotocols) > 0 && !slices.Contains(p.cfg.Subprotocols, conn.Subprotocol()) {
		return "", fmt.Errorf("the target chose none of the subprotocols %s", strings.Join(p.cfg.Subprotocols, ", "))
	}
	conn.SetReadLimit(maxMessage)
	if p.cfg.Send != "" {
		if err := conn.WriteMessage(gorilla.TextMessage, []byte(p.cfg.Send)); err != nil {
			return "", err
		}
	}
	if p.expect != nil {
		for n := 0; ; n++ {
			if n == 1000 {
				return last, fmt.Errorf("1000 messages came, none with %q", p.expect.Text)
			}
			_, b, err := conn.ReadMessage()
			if err != nil {
				return last, err
			}
			last = string(b[:min(len(b), 300)])
			if p.expect.Match(b) {
				break
			}
		}
	}
	// A good-bye is polite; an answer to it is not waited for.
	_ = conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, ""), time.Now().Add(time.Second))
	return last, nil
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("WebSocket", "WebSocket"), Target: probe.T("URL", "网址"), Placeholder: "wss://live.example/feed"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return append([]probe.Field{
		{Name: "send", Type: "text", Label: t("Message to send", "发送的消息")},
		{Name: "expect", Type: "string", Label: t("Expected message", "期望的消息"), Help: t("A keyword, or re: followed by a regular expression.", "关键字，或以 re: 开头的正则表达式。")},
		{Name: "subprotocols", Type: "list", Advanced: true, Label: t("Subprotocols", "子协议")},
		{Name: "headers", Type: "map", Advanced: true, Label: t("Headers", "请求头")},
		{Name: "secret_headers", Type: "map", Advanced: true, Label: t("Secret headers", "机密请求头")},
		{Name: "secret_headers.*", Type: "secret", Advanced: true, Label: t("Secret header", "机密请求头")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
		{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: t("IP family", "IP 协议族")},
	}, tlsinfo.Fields()...)
}

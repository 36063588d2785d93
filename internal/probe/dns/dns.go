// Package dns probes name servers and the answers they give.
package dns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/condition"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "dns".
type Config struct {
	RecordType     string           `json:"record_type,omitempty"`  // default A
	Resolvers      []string         `json:"resolvers,omitempty"`    // host or host:port, tried in turn; default the system's
	Protocol       string           `json:"protocol,omitempty"`     // udp (default), tcp, tls
	NoRecursion    bool             `json:"no_recursion,omitempty"` // do not ask for recursion
	ExpectRcode    string           `json:"expect_rcode,omitempty"` // default NOERROR
	ExpectAnswer   []string         `json:"expect_answer,omitempty"`
	ExpectAnswerBy string           `json:"expect_answer_by,omitempty"` // any (default): every entry is found; all: every answer is among the entries
	MinAnswers     *int             `json:"min_answers,omitempty"`      // default 1 for NOERROR
	Conditions     []condition.Line `json:"conditions,omitempty"`       // [BODY] is the list of answers as JSON
	TLS            tlsinfo.Config   `json:"tls,omitzero"`
	DegradedAfter  model.Duration   `json:"degraded_after,omitempty"`
}

var types = []string{"A", "AAAA", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SRV", "SVCB", "TLSA", "TXT", "ANY"}
var protocols = []string{"udp", "tcp", "tls"}

// Kind is the type "dns". The target is the name to look up.
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "dns" }

type resolver struct {
	host string
	port uint16
}

type dnsProbe struct {
	env        *probe.Env
	cfg        Config
	qtype      uint16
	rcode      int
	name       string
	resolvers  []resolver
	expect     []expectation
	min        int
	conditions []*condition.Condition
	tls        *tls.Config
}

type expectation struct {
	text string
	re   *probe.Pattern // nil compares for equality
}

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &dnsProbe{env: env}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	p.compileQuestion(c.Target, &inv)
	p.compileExpect(&inv)
	if p.cfg.Protocol == "" {
		p.cfg.Protocol = "udp"
	}
	if !slices.Contains(protocols, p.cfg.Protocol) {
		inv.Add("dns.protocol", "must be udp, tcp or tls")
	}
	port := uint16(53)
	if p.cfg.Protocol == "tls" {
		port = 853
	}
	if len(p.cfg.Resolvers) > 8 {
		inv.Add("dns.resolvers", "has more than 8 entries")
	}
	for i, r := range p.cfg.Resolvers {
		h, n, err := probe.HostPort(r, port)
		if err != nil {
			inv.Add(model.Index("dns.resolvers", i), "must be a host or host:port, for example 192.0.2.53 or ns1.example:5353")
			continue
		}
		p.resolvers = append(p.resolvers, resolver{h, n})
	}
	p.tls = p.cfg.TLS.Compile("dns.tls", "", &inv)
	if p.cfg.DegradedAfter < 0 {
		inv.Add("dns.degraded_after", "must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *dnsProbe) compileQuestion(target string, inv *model.Invalid) {
	if p.cfg.RecordType == "" {
		p.cfg.RecordType = "A"
	}
	if !slices.Contains(types, p.cfg.RecordType) {
		inv.Add("dns.record_type", "must be one of %s", strings.Join(types, ", "))
	}
	p.qtype = mdns.StringToType[p.cfg.RecordType]
	if a, err := netip.ParseAddr(target); err == nil && p.cfg.RecordType == "PTR" {
		target, _ = mdns.ReverseAddr(a.String())
	}
	_, ok := mdns.IsDomainName(target)
	if target == "" || !ok || len(target) > 253 || strings.ContainsAny(target, " \t\r\n/:\\") {
		inv.Add("target", "must be the name to look up, for example www.example.com")
	}
	p.name = mdns.Fqdn(target)
}

func (p *dnsProbe) compileExpect(inv *model.Invalid) {
	if p.cfg.ExpectRcode == "" {
		p.cfg.ExpectRcode = "NOERROR"
	}
	var ok bool
	if p.rcode, ok = mdns.StringToRcode[p.cfg.ExpectRcode]; !ok {
		inv.Add("dns.expect_rcode", "must be a response code, for example NOERROR, NXDOMAIN, SERVFAIL or REFUSED")
	}
	if by := p.cfg.ExpectAnswerBy; by != "" && by != "any" && by != "all" {
		inv.Add("dns.expect_answer_by", "must be any or all")
	}
	if len(p.cfg.ExpectAnswer) > 64 {
		inv.Add("dns.expect_answer", "has more than 64 entries")
		return
	}
	for i, s := range p.cfg.ExpectAnswer {
		f := model.Index("dns.expect_answer", i)
		if s == "" {
			inv.Add(f, "must not be empty")
		}
		e := expectation{text: s}
		if strings.HasPrefix(s, "re:") {
			e.re = probe.CompilePattern(s, f, inv)
		}
		p.expect = append(p.expect, e)
	}
	if p.rcode == mdns.RcodeSuccess {
		p.min = 1
	}
	if p.cfg.MinAnswers != nil {
		p.min = *p.cfg.MinAnswers
		if p.min < 0 || p.min > 1000 {
			inv.Add("dns.min_answers", "must lie between 0 and 1000")
		}
	}
	p.conditions = condition.Compile(p.cfg.Conditions, "dns.conditions", inv)
}

// found is what one resolver answered.
type found struct {
	route   probe.Route
	msg     *mdns.Msg
	request time.Duration
	facts   *tlsinfo.Facts
	server  string
}

// Run implements probe.Probe. Resolvers are asked in turn until one answers.
func (p *dnsProbe) Run(ctx context.Context) probe.Outcome {
	start := time.Now()
	resolvers := p.resolvers
	if len(resolvers) == 0 {
		resolvers = system()
	}
	var f found
	err := errors.New("no resolver is configured on this machine; name one in dns.resolvers")
	untried := true // nobody was asked
	for i, r := range resolvers {
		f, err = p.ask(ctx, r, len(resolvers)-i)
		untried = untried && probe.Untried(err)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	took := time.Since(start)
	out := probe.Outcome{Samples: f.route.Samples(make([]probe.Sample, 0, 16))}
	for _, ph := range []struct {
		name string
		d    time.Duration
	}{{"resolve", f.route.Resolve}, {"connect", f.route.Connect}, {"request", f.request}} {
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_dns_duration_seconds", Labels: []string{"phase", ph.name}, Value: ph.d.Seconds()})
	}
	put := func(name string, v float64) {
		out.Samples = append(out.Samples, probe.Sample{Name: name, Value: v})
	}
	if err != nil {
		put("probe_dns_query_succeeded", 0)
		out.Untried = untried
		out.Message = f.server + ": " + probe.Reason(err)
		if f.server == "" {
			out.Message = probe.Reason(err)
		}
		out.Evidence = map[string]any{"resolver": f.server, "error": out.Message}
		return out
	}
	put("probe_dns_query_succeeded", 1)
	put("probe_dns_answer_rrs", float64(len(f.msg.Answer)))
	put("probe_dns_authority_rrs", float64(len(f.msg.Ns)))
	put("probe_dns_additional_rrs", float64(additional(f.msg)))
	for _, rr := range f.msg.Answer {
		if soa, ok := rr.(*mdns.SOA); ok {
			put("probe_dns_serial", float64(soa.Serial))
			break
		}
	}
	out.Samples = f.facts.Samples(out.Samples)
	p.judge(f, took, &out)
	return out
}

func system() []resolver {
	cfg, err := mdns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	var out []resolver
	port, _ := strconv.ParseUint(cfg.Port, 10, 16)
	for _, s := range cfg.Servers {
		out = append(out, resolver{s, uint16(port)})
	}
	return out
}

// ask puts the question to one resolver with its share of the time.
func (p *dnsProbe) ask(ctx context.Context, r resolver, left int) (f found, err error) {
	f.server = net.JoinHostPort(r.host, strconv.Itoa(int(r.port)))
	if dl, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(dl)/time.Duration(left))
		defer cancel()
	}
	network := p.cfg.Protocol
	if network == "tls" {
		network = "tcp"
	}
	f, err = p.over(ctx, r, network, f)
	if err == nil && f.msg.Truncated && network == "udp" {
		return p.over(ctx, r, "tcp", f)
	}
	return f, err
}

func (p *dnsProbe) over(ctx context.Context, r resolver, network string, f found) (found, error) {
	conn, route, err := p.env.Connect(ctx, network, r.host, r.port, "")
	f.route = route
	if err != nil {
		return f, err
	}
	defer conn.Close()
	stop := probe.Watch(ctx, conn)
	defer stop()
	if p.cfg.Protocol == "tls" {
		cfg := p.tls
		if cfg.ServerName == "" {
			cfg = cfg.Clone()
			cfg.ServerName = r.host
		}
		tc := tls.Client(conn, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			f.facts = tlsinfo.FromError(err)
			return f, errors.New(tlsinfo.Reason(err))
		}
		cs := tc.ConnectionState()
		f.facts = tlsinfo.FromState(&cs)
		conn = tc
	}
	start := time.Now()
	defer func() { f.request = time.Since(start) }()
	m := new(mdns.Msg)
	m.SetQuestion(p.name, p.qtype)
	m.RecursionDesired = !p.cfg.NoRecursion
	m.SetEdns0(1232, false)
	dc := mdns.Conn{Conn: conn, UDPSize: 1232}
	if err := dc.WriteMsg(m); err != nil {
		return f, err
	}
	for {
		// A datagram that does not belong to the question is passed over.
		got, err := dc.ReadMsg()
		if err != nil {
			if network == "udp" && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) && !isNet(err) {
				continue
			}
			return f, err
		}
		if Answers(got, m) {
			f.msg, f.request = got, time.Since(start)
			return f, nil
		}
		if network != "udp" {
			return f, errors.New("the answer belongs to another question")
		}
	}
}

func isNet(err error) bool {
	var ne net.Error
	return errors.As(err, &ne)
}

// Answers reports whether a is an answer to q.
func Answers(a, q *mdns.Msg) bool {
	return a != nil && a.Response && a.Id == q.Id && (len(a.Question) == 0 || len(a.Question) == 1 &&
		a.Question[0].Qtype == q.Question[0].Qtype && strings.EqualFold(a.Question[0].Name, q.Question[0].Name))
}

// Data is the part of a record that people compare: "192.0.2.1", "10 mx.example."
func Data(rr mdns.RR) string {
	if t, ok := rr.(*mdns.TXT); ok {
		return strings.Join(t.Txt, "")
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

func (p *dnsProbe) judge(f found, took time.Duration, out *probe.Outcome) {
	var answers []string
	for _, rr := range f.msg.Answer {
		if p.qtype == mdns.TypeANY || rr.Header().Rrtype == p.qtype {
			answers = append(answers, Data(rr))
		}
	}
	rcode := mdns.RcodeToString[f.msg.Rcode]
	out.Success = true
	out.Message = fmt.Sprintf("%s, %s in %s", rcode, shorten(answers), probe.Ms(took))
	check := func(r model.AssertionResult, degraded bool) {
		out.Assertions = append(out.Assertions, r)
		switch {
		case r.Passed:
		case degraded:
			if out.Success && !out.Degraded {
				out.Message = "degraded: " + r.Text + ", found " + r.Found
			}
			out.Degraded = true
		case out.Success:
			out.Success, out.Message = false, r.Text+", found "+r.Found
		}
	}
	check(model.AssertionResult{Text: "rcode == " + p.cfg.ExpectRcode, Found: rcode, Passed: f.msg.Rcode == p.rcode}, false)
	if p.min > 0 {
		check(model.AssertionResult{Text: fmt.Sprintf("%s answers >= %d", p.cfg.RecordType, p.min), Found: strconv.Itoa(len(answers)), Passed: len(answers) >= p.min}, false)
	}
	if p.cfg.ExpectAnswerBy == "all" && len(p.expect) > 0 {
		for _, a := range answers {
			ok := slices.ContainsFunc(p.expect, func(e expectation) bool { return e.match(a) })
			check(model.AssertionResult{Text: "answer is expected", Found: probe.Line(a), Passed: ok}, false)
		}
	} else {
		for _, e := range p.expect {
			check(model.AssertionResult{Text: "an answer is " + e.text, Found: shorten(answers), Passed: slices.ContainsFunc(answers, e.match)}, false)
		}
	}
	if len(p.conditions) > 0 {
		v := condition.Values{Connected: true, ResponseTime: took, DNSRcode: rcode, Body: jsonList(answers), CertExpiry: f.facts.Left(time.Now())}
		if f.route.Addr.IsValid() {
			v.IP = f.route.Addr.String()
		}
		for _, c := range p.conditions {
			check(c.Eval(&v), c.Severity == condition.Degraded)
		}
	}
	if r, ok := p.cfg.TLS.Assert(f.facts, time.Now()); r.Text != "" {
		check(r, !ok)
	}
	if d := p.cfg.DegradedAfter.D(); d > 0 {
		check(model.AssertionResult{Text: "response time <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(took), Passed: took <= d}, true)
	}
	if !out.Success || out.Degraded {
		out.Evidence = map[string]any{"resolver": f.server, "rcode": rcode, "answers": answers[:min(len(answers), 50)], "tls": f.facts}
	}
}

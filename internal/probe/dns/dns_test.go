package dns_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"panoptes/internal/probe"
	"panoptes/internal/probe/dns"
	"panoptes/internal/probe/probetest"
)

// nameServer answers on UDP and TCP at one port.
func nameServer(t *testing.T, h mdns.HandlerFunc) string {
	var pc net.PacketConn
	var l net.Listener
	for range 20 { // a port that is free for one may be taken for the other
		var err error
		pc, err = net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		require.NoError(t, pc.Close())
	}
	require.NotNil(t, l, "no free port")
	for _, s := range []*mdns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		up := make(chan struct{})
		done := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return pc.LocalAddr().String()
}

func answer(rrs ...string) mdns.HandlerFunc {
	return func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		for _, s := range rrs {
			rr, err := mdns.NewRR(s)
			if err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	}
}

// packets answers each datagram with f until the test ends.
func packets(t *testing.T, f func(pc net.PacketConn, to net.Addr)) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			_, to, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			f(pc, to)
		}
	}()
	t.Cleanup(func() { _ = pc.Close(); <-done })
	return pc.LocalAddr().String()
}

// secure puts TLS before a name server.
func secure(t *testing.T, cert *httptest.Server, to string) string {
	return probetest.Listen(t, func(c net.Conn) {
		in := tls.Server(c, &tls.Config{Certificates: cert.TLS.Certificates})
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
		<-ended
	})
}

func TestSuite(t *testing.T) {
	good := answer("www.example.com. 60 IN A 192.0.2.1")
	up := func(t *testing.T) string { return nameServer(t, good) }
	slow := func(t *testing.T) string {
		return nameServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
			<-time.After(300 * time.Millisecond)
			good(w, q)
		})
	}
	garbage := []byte("\x00\xff\x13 what is this")
	// A frame of 65535 bytes, and then the next.
	frames := append([]byte{0xff, 0xff}, make([]byte, 0xffff)...)
	run := func(protocol string, s probetest.Suite) {
		t.Run(protocol, func(t *testing.T) {
			s.Kind, s.Faults = dns.Kind{}, faults
			s.Names = []string{"probe_dns_duration_seconds", "probe_dns_answer_rrs", "probe_dns_authority_rrs", "probe_dns_additional_rrs", "probe_dns_query_succeeded", "probe_dns_lookup_time_seconds", "probe_ip_protocol"}
			s.Aim = func(a string) (string, string) {
				return "www.example.com", `{"resolvers":["` + a + `"],"protocol":"` + protocol + `","tls":{"insecure_skip_verify":true}}`
			}
			s.Test(t)
		})
	}
	run("udp", probetest.Suite{
		Up: up, Slow: slow, Refused: probetest.Refused,
		Hole: func(t *testing.T) string { return packets(t, func(net.PacketConn, net.Addr) {}) },
		Garbage: func(t *testing.T) string {
			return packets(t, func(pc net.PacketConn, to net.Addr) { _, _ = pc.WriteTo(garbage, to) })
		},
		Endless: func(t *testing.T) string {
			return packets(t, func(pc net.PacketConn, to net.Addr) {
				for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
					if _, err := pc.WriteTo(garbage, to); err != nil {
						return
					}
				}
			})
		},
	})
	endless := func(t *testing.T) string { return probetest.Endless(t, frames) }
	run("tcp", probetest.Suite{Up: up, Slow: slow, Refused: probetest.Refused, Hole: probetest.Hole, Garbage: probetest.Garbage, Endless: endless})
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	run("tls", probetest.Suite{
		Up:      func(t *testing.T) string { return secure(t, cert, up(t)) },
		Slow:    func(t *testing.T) string { return secure(t, cert, slow(t)) },
		Refused: probetest.Refused, Hole: probetest.Hole, Garbage: probetest.Garbage,
		Endless: func(t *testing.T) string { return secure(t, cert, endless(t)) },
	})
}

func TestOverTLS(t *testing.T) {
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	ns := secure(t, cert, nameServer(t, answer("www.example.com. 60 IN A 192.0.2.1")))
	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw})))
	require.NoError(t, err)
	f := func(settings string, ok, degraded bool, message string) probe.Outcome {
		t.Helper()
		out := probetest.Run(t, dns.Kind{}, "www.example.com", `{"resolvers":["`+ns+`"],"protocol":"tls","expect_answer":["192.0.2.1"],"tls":`+settings+`}`, 20*time.Second)
		require.Equal(t, ok, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		require.Contains(t, out.Message, message)
		return out
	}
	out := f(`{"ca":`+string(ca)+`}`, true, false, "NOERROR, 192.0.2.1") // the resolver's address is what the certificate must name
	names := map[string]bool{}
	for _, s := range out.Samples {
		names[s.Name] = true
	}
	require.Subset(t, slices.Collect(maps.Keys(names)), []string{"probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_expiry_timestamp_seconds", "probe_tls_version_info"})
	f(`{}`, false, false, "certificate")
	f(`{"ca":`+string(ca)+`,"server_name":"other.example.net"}`, false, false, "other.example.net")
}

var faults = []probetest.Fault{
	{Target: "-", Field: "target"}, {Target: "a b", Field: "target"}, {Target: "x.example", Block: `{"record_type":"Q"}`, Field: "dns.record_type"},
	{Target: "x.example", Block: `{"resolvers":["a:b"]}`, Field: "dns.resolvers[0]"}, {Target: "x.example", Block: `{"protocol":"quic"}`, Field: "dns.protocol"},
	{Target: "x.example", Block: `{"expect_rcode":"FINE"}`, Field: "dns.expect_rcode"}, {Target: "x.example", Block: `{"expect_answer":["re:("]}`, Field: "dns.expect_answer[0]"},
	{Target: "x.example", Block: `{"expect_answer_by":"some"}`, Field: "dns.expect_answer_by"}, {Target: "x.example", Block: `{"min_answers":-1}`, Field: "dns.min_answers"},
	{Target: "x.example", Block: `{"conditions":["x"]}`, Field: "dns.conditions[0]"},
}

func TestAnswers(t *testing.T) {
	ns := nameServer(t, answer("www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN A 192.0.2.2"))
	f := func(block, protocol string, ok bool) {
		t.Helper()
		b := `{"resolvers":["` + ns + `"],"protocol":"` + protocol + `"` + block + `}`
		out := probetest.Run(t, dns.Kind{}, "www.example.com", b, 20*time.Second)
		require.Equal(t, ok, out.Success, "%s: %s", b, out.Message)
		names := map[string]float64{}
		for _, s := range out.Samples {
			names[s.Name] = s.Value
		}
		require.EqualValues(t, 2, names["probe_dns_answer_rrs"])
		require.EqualValues(t, 1, names["probe_dns_query_succeeded"])
		require.Contains(t, names, "probe_dns_duration_seconds")
	}
	for _, proto := range []string{"udp", "tcp"} {
		f(``, proto, true)
		f(`,"expect_answer":["192.0.2.1"]`, proto, true)
		f(`,"expect_answer":["192.0.2.9"]`, proto, false)
		f(`,"expect_answer":["192.0.2.1"],"expect_answer_by":"all"`, proto, false)
		f(`,"expect_answer":["re:^192\\.0\\.2\\."],"expect_answer_by":"all"`, proto, true)
		f(`,"min_answers":3`, proto, false)
		f(`,"expect_rcode":"NXDOMAIN"`, proto, false)
		f(`,"conditions":["len([BODY]) == 2","[DNS_RCODE] == NOERROR","[BODY][0] == 192.0.2.1"]`, proto, true)
	}
}

func TestRcodeAndTypes(t *testing.T) {
	ns := nameServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		switch q.Question[0].Qtype {
		case mdns.TypeTXT:
			answer(`x.example. 60 IN TXT "a" "b"`)(w, q)
		case mdns.TypeMX:
			answer(`x.example. 60 IN MX 10 mail.example.`)(w, q)
		case mdns.TypeSOA:
			answer(`x.example. 60 IN SOA ns.example. root.example. 77 1 1 1 1`)(w, q)
		default:
			m := new(mdns.Msg)
			m.SetRcode(q, mdns.RcodeNameError)
			_ = w.WriteMsg(m)
		}
	})
	f := func(typ, block string, ok bool) {
		t.Helper()
		out := probetest.Run(t, dns.Kind{}, "x.example", `{"record_type":"`+typ+`","resolvers":["`+ns+`"]`+block+`}`, 20*time.Second)
		require.Equal(t, ok, out.Success, out.Message)
	}
	f("TXT", `,"expect_answer":["ab"]`, true)
	f("MX", `,"expect_answer":["10 mail.example."]`, true)
	f("SOA", ``, true)
	f("A", ``, false)
	f("A", `,"expect_rcode":"NXDOMAIN"`, true)
}

func TestBadServers(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	out := probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+silent.LocalAddr().String()+`"]}`, 200*time.Millisecond)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "timed out")

	good := nameServer(t, answer("x.example. 60 IN A 192.0.2.1"))
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+silent.LocalAddr().String()+`","`+good+`"]}`, 8*time.Second)
	require.True(t, out.Success, out.Message)

	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Refused(t)+`"],"protocol":"tcp"}`, 20*time.Second)
	require.Contains(t, out.Message, "connection refused")
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Garbage(t)+`"],"protocol":"tcp"}`, 300*time.Millisecond)
	require.False(t, out.Success)
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Garbage(t)+`"],"protocol":"tls"}`, 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "TLS")

	// Somebody else's answer must not count.
	spoof := nameServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		m.Id++
		_ = w.WriteMsg(m)
		_, _ = w.Write([]byte("garbage"))
		answer("x.example. 60 IN A 192.0.2.7")(w, q)
	})
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+spoof+`"],"expect_answer":["192.0.2.7"]}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
}

func FuzzAnswer(f *testing.F) {
	q := new(mdns.Msg)
	q.SetQuestion("x.example.", mdns.TypeA)
	q.Id = 7
	r := new(mdns.Msg)
	r.SetReply(q)
	b, _ := r.Pack()
	f.Add(b)
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(mdns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		if dns.Answers(m, q) && m.Id != 7 {
			t.Fatal("took a foreign answer")
		}
		for _, rr := range m.Answer {
			_ = dns.Data(rr)
		}
	})
}

// What EDNS adds to an answer is no record of it.
func TestAdditionalRecordsAreCountedWithoutEDNS(t *testing.T) {
	ns := nameServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		for _, s := range []string{"x.example. 60 IN MX 10 mail.example.", "mail.example. 60 IN A 192.0.2.1"} {
			rr, err := mdns.NewRR(s)
			if err == nil && rr.Header().Rrtype == mdns.TypeMX {
				m.Answer = append(m.Answer, rr)
			} else if err == nil {
				m.Extra = append(m.Extra, rr)
			}
		}
		m.SetEdns0(1232, false)
		_ = w.WriteMsg(m)
	})
	out := probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+ns+`"],"record_type":"MX"}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	got := map[string]float64{}
	for _, s := range out.Samples {
		got[s.Name] = s.Value
	}
	require.EqualValues(t, 1, got["probe_dns_additional_rrs"])
	require.EqualValues(t, 1, got["probe_dns_answer_rrs"])
}

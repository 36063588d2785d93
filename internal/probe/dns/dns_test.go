package dns_test

import (
	"net"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/dns"
	"panoptes/internal/probe/probetest"
)

// nameServer answers on UDP and TCP at one port.
func nameServer(t *testing.T, h mdns.HandlerFunc) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	require.NoError(t, err)
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

func TestFaults(t *testing.T) {
	probetest.Suite{
		Kind: dns.Kind{},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "a b", Field: "target"}, {Target: "x.example", Block: `{"record_type":"Q"}`, Field: "dns.record_type"},
			{Target: "x.example", Block: `{"resolvers":["a:b"]}`, Field: "dns.resolvers[0]"}, {Target: "x.example", Block: `{"protocol":"quic"}`, Field: "dns.protocol"},
			{Target: "x.example", Block: `{"expect_rcode":"FINE"}`, Field: "dns.expect_rcode"}, {Target: "x.example", Block: `{"expect_answer":["re:("]}`, Field: "dns.expect_answer[0]"},
			{Target: "x.example", Block: `{"expect_answer_by":"some"}`, Field: "dns.expect_answer_by"}, {Target: "x.example", Block: `{"min_answers":-1}`, Field: "dns.min_answers"},
			{Target: "x.example", Block: `{"conditions":["x"]}`, Field: "dns.conditions[0]"},
		},
	}.Test(t)
}

func TestAnswers(t *testing.T) {
	ns := nameServer(t, answer("www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN A 192.0.2.2"))
	f := func(block, protocol string, ok bool) {
		t.Helper()
		b := `{"resolvers":["` + ns + `"],"protocol":"` + protocol + `"` + block + `}`
		out := probetest.Run(t, dns.Kind{}, "www.example.com", b, 2*time.Second)
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
		out := probetest.Run(t, dns.Kind{}, "x.example", `{"record_type":"`+typ+`","resolvers":["`+ns+`"]`+block+`}`, 2*time.Second)
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
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+silent.LocalAddr().String()+`","`+good+`"]}`, time.Second)
	require.True(t, out.Success, out.Message)

	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Refused(t)+`"],"protocol":"tcp"}`, time.Second)
	require.Contains(t, out.Message, "connection refused")
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Garbage(t)+`"],"protocol":"tcp"}`, 300*time.Millisecond)
	require.False(t, out.Success)
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+probetest.Garbage(t)+`"],"protocol":"tls"}`, 300*time.Millisecond)
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
	out = probetest.Run(t, dns.Kind{}, "x.example", `{"resolvers":["`+spoof+`"],"expect_answer":["192.0.2.7"]}`, time.Second)
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

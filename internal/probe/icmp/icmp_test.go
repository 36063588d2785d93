package icmp_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	xicmp "golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"panoptes/internal/probe"
	"panoptes/internal/probe/icmp"
	"panoptes/internal/probe/probetest"
)

// allowed reports whether this machine lets us send real echoes.
func allowed() bool {
	for _, network := range []string{"udp4", "ip4:icmp"} {
		if c, err := xicmp.ListenPacket(network, "0.0.0.0"); err == nil {
			_ = c.Close()
			return true
		}
	}
	return false
}

func TestSuite(t *testing.T) {
	host := func(a string) func(*testing.T) string { return func(*testing.T) string { return a } }
	up := "127.0.0.1"
	if !allowed() {
		up = icmp.Near
	}
	probetest.Suite{Kind: icmp.Simulated(), Block: `{"spacing":"10ms"}`, Silence: "no answer to 3 echoes",
		Up: host(up), Slow: host(icmp.Late), Refused: host(icmp.Unreachable), Hole: host(icmp.Silent), Garbage: host(icmp.Noisy), Endless: host(icmp.Flooding),
		Names: []string{"probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_icmp_duration_seconds", "probe_icmp_packet_loss_ratio", "probe_icmp_reply_hop_limit"}, Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "a b", Field: "target"}, {Target: "x", Block: `{"count":101}`, Field: "icmp.count"}, {Target: "x", Block: `{"size":1}`, Field: "icmp.size"},
			{Target: "x", Block: `{"spacing":"1ms"}`, Field: "icmp.spacing"}, {Target: "x", Block: `{"max_loss":2}`, Field: "icmp.max_loss"}, {Target: "x", Block: `{"ip_family":"x"}`, Field: "icmp.ip_family"},
		}}.Test(t)
}

func TestLoopback(t *testing.T) {
	if !allowed() {
		t.Skip("this machine allows no ICMP sockets")
	}
	out := probetest.Run(t, icmp.Kind{}, "127.0.0.1", `{"spacing":"10ms"}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	names := map[string]float64{}
	for _, s := range out.Samples {
		names[s.Name] = s.Value
	}
	require.Zero(t, names["probe_icmp_packet_loss_ratio"])
	require.Contains(t, names, "probe_icmp_duration_seconds")
	require.Contains(t, names, "probe_icmp_reply_hop_limit")

	// Concurrent runs must not take each other's answers.
	p := probetest.Compile(t, icmp.Kind{}, "127.0.0.1", `{"count":20,"spacing":"10ms","size":1000}`)
	done := make(chan probe.Outcome)
	for range 8 {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done <- p.Run(ctx)
		}()
	}
	for range 8 {
		require.Contains(t, (<-done).Message, "20 of 20")
	}
	if c, err := xicmp.ListenPacket("ip6:ipv6-icmp", "::1"); err == nil {
		_ = c.Close()
		out = probetest.Run(t, icmp.Kind{}, "::1", `{"spacing":"10ms"}`, 20*time.Second)
		require.True(t, out.Success, out.Message)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	probetest.Compile(t, icmp.Kind{}, "127.0.0.1", `{"count":50,"spacing":"1m"}`).Run(ctx)
	require.Less(t, time.Since(start), 20*time.Second)
}

func TestUnreachableIsSaid(t *testing.T) {
	out := probetest.Run(t, icmp.Simulated(), icmp.Unreachable, "", 20*time.Second)
	require.False(t, out.Success)
	require.Equal(t, "no route to host", out.Message)
}

func TestRefusedByPolicy(t *testing.T) {
	out := probetest.Run(t, icmp.Kind{}, "169.254.169.254", "", 20*time.Second)
	require.False(t, out.Success)
	require.True(t, out.Untried)
	require.Contains(t, out.Message, "refused")
}

func FuzzAnswer(f *testing.F) {
	tag := []byte("0123456789ab")
	m := xicmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &xicmp.Echo{ID: 1, Seq: 2, Data: append(tag, 0, 0, 0, 2)}}
	b, _ := m.Marshal(nil)
	f.Add(b, false)
	f.Add([]byte{0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if seq, ok := icmp.Answer(b, v6, tag); ok && (seq < 0 || seq > 100) {
			t.Fatalf("sequence %d", seq)
		}
	})
}

package tcp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/probetest"
	"panoptes/internal/probe/tcp"
)

func greeter(t *testing.T, wait time.Duration) string {
	return probetest.Listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		<-time.After(wait)
		fmt.Fprint(c, "hello there\r\n")
		l, _ := r.ReadString('\n')
		fmt.Fprintf(c, "you said %s", l)
		_, _ = r.ReadString('\n')
	})
}

const dialogue = `{"dialogue":[{"expect":"hello","send":"ping"},{"expect":"re:^you said (ping)"}]}`

func TestSuite(t *testing.T) {
	probetest.Suite{
		Kind: tcp.Kind{}, Block: dialogue,
		Up:      func(t *testing.T) string { return greeter(t, 0) },
		Slow:    func(t *testing.T) string { return greeter(t, 300*time.Millisecond) },
		Refused: probetest.Refused, Hole: probetest.Hole, Garbage: probetest.Garbage,
		Endless: func(t *testing.T) string {
			return probetest.Listen(t, func(c net.Conn) {
				for {
					if _, err := c.Write([]byte(strings.Repeat("x\n", 4096))); err != nil {
						return
					}
				}
			})
		},
		Names: []string{"probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_failed_due_to_regex"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "host", Field: "target"}, {Target: "host:0", Field: "target"}, {Target: "a b:1", Field: "target"},
			{Block: `{"security":"ssl"}`, Field: "tcp.security"}, {Block: `{"ip_family":"x"}`, Field: "tcp.ip_family"},
			{Block: `{"dialogue":[{}]}`, Field: "tcp.dialogue[0]"}, {Block: `{"dialogue":[{"expect":"re:("}]}`, Field: "tcp.dialogue[0].expect"},
		},
	}.Test(t)
}

func TestPlainConnect(t *testing.T) {
	out := probetest.Run(t, tcp.Kind{}, probetest.Hole(t), "", 20*time.Second)
	require.True(t, out.Success, out.Message)
	out = probetest.Run(t, tcp.Kind{}, probetest.Refused(t), "", 20*time.Second)
	require.Equal(t, "connection refused", out.Message)
}

func TestStartTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil) // for its certificate
	defer s.Close()
	cfg := &tls.Config{Certificates: s.TLS.Certificates}
	smtp := probetest.Listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		fmt.Fprint(c, "220-mail\r\n220 mail\r\n")
		_, _ = r.ReadString('\n')
		fmt.Fprint(c, "250-mail\r\n250 STARTTLS\r\n")
		_, _ = r.ReadString('\n')
		fmt.Fprint(c, "220 go\r\n")
		_ = tls.Server(c, cfg).Handshake()
	})
	out := probetest.Run(t, tcp.Kind{}, smtp, `{"security":"smtp","tls":{"insecure_skip_verify":true}}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	var found bool
	for _, x := range out.Samples {
		found = found || x.Name == "probe_ssl_earliest_cert_expiry"
	}
	require.True(t, found)
	out = probetest.Run(t, tcp.Kind{}, smtp, `{"security":"smtp"}`, 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "certificate")
	out = probetest.Run(t, tcp.Kind{}, greeter(t, 0), `{"security":"smtp"}`, 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "STARTTLS")
}

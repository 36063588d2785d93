package http_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/http"
	"panoptes/internal/probe/probetest"
)

// pipe joins two connections until both directions have ended.
func pipe(a net.Conn, fromA io.Reader, b net.Conn) {
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(b, fromA); _ = b.Close() }()
	_, _ = io.Copy(a, b)
	_ = a.Close()
	<-done
}

// connectProxy tunnels for whoever says u:p; it counts the tunnels.
func connectProxy(tunnels *atomic.Int32) func(net.Conn) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p"))
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		r, err := nethttp.ReadRequest(br)
		if err != nil {
			return
		}
		if r.Method != nethttp.MethodConnect || r.Header.Get("Proxy-Authorization") != want {
			fmt.Fprint(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		out, err := net.Dial("tcp", r.RequestURI)
		if err != nil {
			fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return
		}
		tunnels.Add(1)
		fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		pipe(c, br, out)
	}
}

// socks5 is a proxy after RFC 1928 with user and password after RFC 1929.
func socks5(tunnels *atomic.Int32) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		take := func(n int) []byte {
			b := make([]byte, n)
			_, _ = io.ReadFull(br, b)
			return b
		}
		methods := take(int(take(2)[1]))
		method := byte(0xff)
		for _, m := range methods {
			if m == 2 {
				method = 2
			}
		}
		_, _ = c.Write([]byte{5, method})
		if method != 2 {
			return
		}
		user := string(take(int(take(2)[1])))
		password := string(take(int(take(1)[0])))
		if user != "u" || password != "p" {
			_, _ = c.Write([]byte{1, 1})
			return
		}
		_, _ = c.Write([]byte{1, 0})
		var host string
		switch take(4)[3] {
		case 1:
			host = net.IP(take(4)).String()
		case 3:
			host = string(take(int(take(1)[0])))
		}
		p := take(2)
		out, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(int(p[0])<<8|int(p[1]))))
		if err != nil {
			_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		tunnels.Add(1)
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		pipe(c, br, out)
	}
}

func TestTunnels(t *testing.T) {
	hello := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) { fmt.Fprintf(w, "hello over %s", r.Proto) })
	plain := httptest.NewServer(hello)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(hello)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	require.NoError(t, err)

	var tunnels atomic.Int32
	f := func(target, proxy, password, expect, message string) {
		t.Helper()
		before := tunnels.Load()
		block := `{"tls":{"ca":` + string(ca) + `},"proxy":{"url":"` + proxy + `","username":"u","password":"` + password + `"},"expect_body":"` + expect + `"}`
		out := probetest.Run(t, http.Kind{}, target, block, 20*time.Second)
		require.Equal(t, message == "", out.Success, out.Message)
		require.Contains(t, out.Message, message)
		require.Equal(t, message == "", tunnels.Load() == before+1, "tunnels")
	}
	connect := "http://" + probetest.Listen(t, connectProxy(&tunnels))
	f(secure.URL, connect, "p", "hello over HTTP/2.0", "")
	f(secure.URL, connect, "wrong", "hello", "407")
	f("https://"+probetest.Refused(t), connect, "p", "hello", "502")
	socks := "socks5://" + probetest.Listen(t, socks5(&tunnels))
	f(secure.URL, socks, "p", "hello over HTTP/2.0", "")
	f(plain.URL, socks, "p", "hello over HTTP/1.1", "")
	f(plain.URL, socks, "wrong", "hello", "proxy")
	f("http://"+probetest.Refused(t), socks, "p", "hello", "connection refused")
}

func http2Server(t *testing.T, h nethttp.HandlerFunc) string {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestSuiteOverHTTP2(t *testing.T) {
	serve := func(h nethttp.HandlerFunc) func(*testing.T) string {
		return func(t *testing.T) string { return http2Server(t, h) }
	}
	probetest.Suite{
		Kind: http.Kind{}, Block: `{"tls":{"insecure_skip_verify":true},"expect_body":"HTTP/2.0"}`,
		Up: serve(func(w nethttp.ResponseWriter, r *nethttp.Request) { fmt.Fprint(w, r.Proto) }),
		Slow: serve(func(w nethttp.ResponseWriter, r *nethttp.Request) {
			<-time.After(300 * time.Millisecond)
			fmt.Fprint(w, r.Proto)
		}),
		Hole: serve(func(_ nethttp.ResponseWriter, r *nethttp.Request) { <-r.Context().Done() }),
		// Headers above the limit.
		Garbage: serve(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			for i := range 20 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 8000))
			}
			fmt.Fprint(w, "HTTP/2.0")
		}),
		Refused: func(t *testing.T) string { return "https://" + probetest.Refused(t) },
		Endless: serve(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			for b := make([]byte, 64<<10); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}),
		Faults: []probetest.Fault{{Block: `{"tls":{"ca":"x"}}`, Field: "http.tls.ca"}},
	}.Test(t)
}

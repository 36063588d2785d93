package http_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/http"
	"panoptes/internal/probe/probetest"
)

func server(t testing.TB, h nethttp.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func prefix(f func(*testing.T) string) func(*testing.T) string {
	return func(t *testing.T) string { return "http://" + f(t) }
}

func TestSuite(t *testing.T) {
	probetest.Suite{
		Kind: http.Kind{},
		Up: func(t *testing.T) string {
			return server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) { fmt.Fprint(w, "fine") })
		},
		Slow: func(t *testing.T) string {
			return server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
				select {
				case <-time.After(300 * time.Millisecond):
				case <-r.Context().Done():
				}
			})
		},
		Refused: prefix(probetest.Refused), Hole: prefix(probetest.Hole), Garbage: prefix(probetest.Garbage),
		Endless: func(t *testing.T) string {
			return server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
				b := make([]byte, 64<<10)
				for {
					if _, err := w.Write(b); err != nil {
						return
					}
				}
			})
		},
		Names: []string{"probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_ip_addr_hash", "probe_http_duration_seconds", "probe_http_status_code",
			"probe_http_version", "probe_http_redirects", "probe_http_ssl", "probe_http_content_length", "probe_http_uncompressed_body_length", "probe_failed_due_to_regex"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "file:///etc/passwd", Field: "target"}, {Target: "http://u:p@x.example/", Field: "target"},
			{Target: "http://", Field: "target"}, {Target: "http://x:99999/", Field: "target"}, {Target: "http://a b/", Field: "target"},
			{Block: `{"method":"get"}`, Field: "http.method"}, {Block: `{"method":"A B"}`, Field: "http.method"}, {Block: `{"method":"CONNECT"}`, Field: "http.method"},
			{Block: `{"headers":{"a b":"c"}}`, Field: "http.headers"}, {Block: `{"headers":{"X":"a\r\nb"}}`, Field: "http.headers.X"},
			{Block: `{"headers":{"Content-Length":"3"}}`, Field: "http.headers.Content-Length"},
			{Block: `{"expect_status":["200","x"]}`, Field: "http.expect_status[1]"}, {Block: `{"expect_status":["299-200"]}`, Field: "http.expect_status[0]"},
			{Block: `{"expect_body":"re:("}`, Field: "http.expect_body"}, {Block: `{"reject_body":"re:("}`, Field: "http.reject_body"},
			{Block: `{"expect_headers":{"X":"re:("}}`, Field: "http.expect_headers.X"},
			{Block: `{"expect_json":[{"path":"","op":"~"}]}`, Field: "http.expect_json[0].op"}, {Block: `{"expect_json":[{"path":"a","op":"=="}]}`, Field: "http.expect_json[0].value"},
			{Block: `{"conditions":["[STATUS] 200"]}`, Field: "http.conditions[0]"}, {Block: `{"conditions":[{"condition":"[STATUS] == 200","severity":"x"}]}`, Field: "http.conditions[0].severity"},
			{Block: `{"max_redirects":11}`, Field: "http.max_redirects"}, {Block: `{"max_body_bytes":1048577}`, Field: "http.max_body_bytes"},
			{Block: `{"basic_auth":{"username":""}}`, Field: "http.basic_auth.username"}, {Block: `{"bearer_token":"a\nb"}`, Field: "http.bearer_token"},
			{Block: `{"oauth2":{"token_url":"x","client_id":"","client_secret":""}}`, Field: "http.oauth2.token_url"},
			{Block: `{"bearer_token":"a","basic_auth":{"username":"b"}}`, Field: "http.basic_auth"},
			{Block: `{"proxy":{"url":"ftp://x"}}`, Field: "http.proxy.url"}, {Block: `{"ip_family":"5"}`, Field: "http.ip_family"},
			{Block: `{"tls":{"ca":"x"}}`, Field: "http.tls.ca"}, {Block: `{"tls":{"cert":"x"}}`, Field: "http.tls.key"}, {Block: `{"tls":{"min_version":"4"}}`, Field: "http.tls.min_version"},
			{Block: `{"degraded_after":3}`, Field: "http.degraded_after"}, {Block: `{"max_redirects":"x"}`, Field: "http.max_redirects"},
		},
	}.Test(t)
}

func TestExpectations(t *testing.T) {
	url := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("X-Who", "me")
		if r.URL.Path == "/missing" {
			w.WriteHeader(nethttp.StatusNotFound)
		}
		fmt.Fprint(w, `{"status":"ok","items":[{"id":7},{"id":8}],"load":0.5,"tags":["a","b"]}`)
	})
	f := func(path, block string, ok, degraded bool) {
		t.Helper()
		out := probetest.Run(t, http.Kind{}, url+path, block, 20*time.Second)
		require.Equal(t, ok, out.Success, "%s: %s", block, out.Message)
		require.Equal(t, degraded, out.Degraded, "%s: %s", block, out.Message)
	}
	f("/", ``, true, false)
	f("/missing", ``, false, false)
	f("/missing", `{"expect_status":["400-499"]}`, true, false)
	f("/missing", `{"conditions":["[STATUS] == 404"]}`, true, false)
	f("/", `{"expect_body":"items"}`, true, false)
	f("/", `{"expect_body":"nothing"}`, false, false)
	f("/", `{"expect_body":"re:\"id\":[0-9]"}`, true, false)
	f("/", `{"reject_body":"ok"}`, false, false)
	f("/", `{"expect_headers":{"x-who":"me"}}`, true, false)
	f("/", `{"expect_headers":{"x-who":"you"}}`, false, false)
	f("/", `{"expect_headers":{"x-none":""}}`, false, false)
	f("/", `{"expect_json":[{"path":"items[1].id","op":"==","value":8},{"path":"status","op":"contains","value":"o"},{"path":"load","op":"<","value":1},{"path":"tags","op":"contains","value":"b"},{"path":"nope","op":"exists","value":false}]}`, true, false)
	f("/", `{"expect_json":[{"path":"items[1].id","op":">","value":8}]}`, false, false)
	f("/", `{"expect_json":[{"path":"nope","op":"exists"}]}`, false, false)
	f("/", `{"conditions":["[BODY].items[0].id == 7","len([BODY].items) == 2","has([BODY].load) == true","[BODY].status == pat(o*)","[STATUS] == any(200, 204)","[IP] == 127.0.0.1","[CONNECTED] == true","[RESPONSE_TIME] < 5s"]}`, true, false)
	f("/", `{"conditions":["degraded: [BODY].load < 0.1"]}`, true, true)
	f("/", `{"conditions":[{"condition":"[BODY].load < 0.1","severity":"degraded"},"[STATUS] == 500"]}`, false, true)
}

func TestRedirects(t *testing.T) {
	var got []string
	other := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		got = append(got, "other auth="+r.Header.Get("Authorization")+" secret="+r.Header.Get("X-Secret"))
	})
	url := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		switch r.URL.Path {
		case "/loop":
			nethttp.Redirect(w, r, "/loop", nethttp.StatusFound)
		case "/post":
			got = append(got, r.Method)
			nethttp.SetCookie(w, &nethttp.Cookie{Name: "a", Value: "b"})
			nethttp.Redirect(w, r, "/after", nethttp.StatusSeeOther)
		case "/after":
			c, _ := r.Cookie("a")
			got = append(got, r.Method+fmt.Sprint(c))
		case "/away":
			got = append(got, "auth="+r.Header.Get("Authorization"))
			nethttp.Redirect(w, r, other, nethttp.StatusTemporaryRedirect)
		case "/file":
			nethttp.Redirect(w, r, "file:///etc/passwd", nethttp.StatusFound)
		case "/meta":
			nethttp.Redirect(w, r, "http://169.254.169.254/latest", nethttp.StatusFound)
		}
	})
	run := func(path, block string) probe.Outcome {
		got = nil
		return probetest.Run(t, http.Kind{}, url+path, block, 20*time.Second)
	}
	out := run("/loop", "")
	require.False(t, out.Success)
	require.Contains(t, out.Message, "too many redirects")
	require.True(t, run("/loop", `{"max_redirects":0,"expect_status":["302"]}`).Success)
	require.True(t, run("/post", `{"method":"POST","body":"x"}`).Success)
	require.Equal(t, []string{"POST", "GETa=b"}, got)
	require.True(t, run("/away", `{"bearer_token":"tok","secret_headers":{"X-Secret":"s"}}`).Success)
	require.Equal(t, []string{"auth=Bearer tok", "other auth= secret="}, got)
	require.False(t, run("/file", "").Success)
	out = run("/meta", "")
	require.False(t, out.Success)
	require.Contains(t, out.Message, "169.254.169.254")
	require.Contains(t, out.Message, "refused")
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) { fmt.Fprint(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	out := probetest.Run(t, http.Kind{}, s.URL, "", 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "certificate")
	require.Contains(t, names(out), "probe_ssl_earliest_cert_expiry")
	out = probetest.Run(t, http.Kind{}, s.URL, `{"tls":{"insecure_skip_verify":true},"expect_body":"HTTP/2.0","conditions":["[CERTIFICATE_EXPIRATION] > 48h"]}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	require.Contains(t, names(out), "probe_tls_version_info")
	out = probetest.Run(t, http.Kind{}, s.URL, `{"tls":{"insecure_skip_verify":true,"min_days_left":3650}}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
}

func TestACertificateThatEndsSoonDegrades(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	env := probetest.Env()
	env.Now = func() time.Time { return s.Certificate().NotAfter.Add(-10*24*time.Hour - time.Minute) }
	f := func(days int, degraded bool, message string) {
		t.Helper()
		block := fmt.Sprintf(`{"expect_status":["404"],"tls":{"insecure_skip_verify":true,"min_days_left":%d}}`, days)
		p, err := http.Kind{}.Compile(probetest.Check("http", s.URL, block), env)
		require.NoError(t, err)
		out := p.Run(t.Context())
		require.True(t, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		require.Contains(t, out.Message, message)
	}
	f(0, false, "404")
	f(10, false, "404")
	f(11, true, "certificate days left >= 11, found 10.0")
}

func names(o probe.Outcome) (out []string) {
	for _, s := range o.Samples {
		out = append(out, s.Name)
	}
	return out
}

func TestOAuth2(t *testing.T) {
	asked := 0
	url := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/token" {
			asked++
			id, secret, _ := r.BasicAuth()
			if id != "me" || secret != "hush" || r.FormValue("audience") != "api" {
				w.WriteHeader(nethttp.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "T1", "expires_in": 3600})
			return
		}
		if r.Header.Get("Authorization") != "Bearer T1" {
			w.WriteHeader(nethttp.StatusForbidden)
		}
	})
	p := probetest.Compile(t, http.Kind{}, url+"/api", `{"oauth2":{"token_url":"`+url+`/token","client_id":"me","client_secret":"hush","audience":"api"}}`)
	for range 3 {
		out := p.Run(t.Context())
		require.True(t, out.Success, out.Message)
	}
	require.Equal(t, 1, asked)
	out := probetest.Run(t, http.Kind{}, url+"/api", `{"oauth2":{"token_url":"`+url+`/token","client_id":"me","client_secret":"wrong"}}`, 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "401")
}

func TestProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must be ignored
	target := server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) { fmt.Fprint(w, "direct") })
	require.True(t, probetest.Run(t, http.Kind{}, target, `{"expect_body":"direct"}`, 20*time.Second).Success)
	proxy := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(nethttp.StatusProxyAuthRequired)
			return
		}
		fmt.Fprint(w, "via proxy "+r.URL.String())
	})
	out := probetest.Run(t, http.Kind{}, target+"/x", `{"proxy":{"url":"`+proxy+`","username":"u","password":"p"},"expect_body":"via proxy `+target+`/x"}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	out = probetest.Run(t, http.Kind{}, "http://169.254.169.254/", `{"proxy":{"url":"`+proxy+`"}}`, 20*time.Second)
	require.Contains(t, out.Message, "refused")
}

func TestHugeHeader(t *testing.T) {
	a := probetest.Listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nX: "))
		for {
			if _, err := c.Write([]byte(strings.Repeat("a", 4096))); err != nil {
				return
			}
		}
	})
	out := probetest.Run(t, http.Kind{}, "http://"+a, "", 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "header is longer")
}

func FuzzCompile(f *testing.F) {
	f.Add("https://x.example/", `{"method":"GET","expect_status":["200-299"],"conditions":["[STATUS] == 200"]}`)
	f.Add("http://[::1]:80/", `{"headers":{"a":"b"},"expect_json":[{"path":"a.b","op":"==","value":1}]}`)
	f.Fuzz(func(t *testing.T, target, block string) {
		_, err := http.Kind{}.Compile(&model.Check{Type: "http", Target: target, Block: json.RawMessage(block)}, probetest.Env())
		if err != nil && !probe.IsInvalid(err) {
			t.Fatalf("%v is no model.Invalid", err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b"))
	var answer atomic.Pointer[[]byte]
	a := probetest.Listen(f, func(c net.Conn) { _, _ = c.Write(*answer.Load()) })
	p := probetest.Compile(f, http.Kind{}, "http://"+a, `{"expect_body":"ok","max_redirects":0}`)
	f.Fuzz(func(t *testing.T, b []byte) {
		answer.Store(&b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = p.Run(ctx)
	})
}

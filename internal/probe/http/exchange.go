package http

import (
	"bufio"
	"bytes"
	"compress/gzip"
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
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// request is one request before it is written in HTTP/1 or HTTP/2.
type request struct {
	url     *url.URL
	method  string
	header  nethttp.Header
	host    string
	body    string
	hasBody bool
	cookies []string
}

func (p *httpProbe) request(u *url.URL, method string, withBody bool) *request {
	r := &request{url: u, method: method, host: u.Host}
	r.header = make(nethttp.Header, len(p.header)+len(p.secret)+2)
	for k, v := range p.header {
		r.header[k] = v
	}
	if p.trusts(u) {
		for k, v := range p.secret {
			r.header[k] = v
		}
	}
	if h := r.header.Get("Host"); h != "" {
		if u == p.url || p.url == nil {
			r.host = h
		}
		delete(r.header, "Host")
	}
	if _, ok := r.header["User-Agent"]; !ok {
		r.header["User-Agent"] = userAgent
	}
	if withBody && (p.cfg.Body != "" || method == "POST" || method == "PUT" || method == "PATCH") {
		r.body, r.hasBody = p.cfg.Body, true
	}
	return r
}

// trusts reports whether what is secret may be sent to u: the target's own host,
// and never in the clear when the target is not.
func (p *httpProbe) trusts(u *url.URL) bool {
	return u == p.url || p.url == nil || u.Host == p.url.Host && (u.Scheme == p.url.Scheme || u.Scheme == "https")
}

var userAgent = []string{"Panoptes"}

// render writes the request as HTTP/1.1. One connection serves one request.
func (p *httpProbe) render(r *request) []byte {
	var b bytes.Buffer
	target := r.url.RequestURI()
	if p.proxy != nil && p.proxy.Scheme != "socks5" && r.url.Scheme == "http" {
		target = r.url.Scheme + "://" + r.url.Host + target
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.method, target, r.host)
	if p.proxy != nil && p.proxy.Scheme != "socks5" && r.url.Scheme == "http" && p.cfg.Proxy.Username != "" {
		b.WriteString("Proxy-Authorization: " + p.proxyAuth() + "\r\n")
	}
	_ = r.header.Write(&b)
	if len(r.cookies) > 0 {
		b.WriteString("Cookie: " + strings.Join(r.cookies, "; ") + "\r\n")
	}
	if r.hasBody {
		b.WriteString("Content-Length: " + strconv.Itoa(len(r.body)) + "\r\n")
	}
	b.WriteString("\r\n")
	b.WriteString(r.body)
	return b.Bytes()
}

func (p *httpProbe) proxyAuth() string {
	h := nethttp.Request{Header: nethttp.Header{}}
	h.SetBasicAuth(p.cfg.Proxy.Username, p.cfg.Proxy.Password.Reveal())
	return h.Header.Get("Authorization")
}

func port(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	switch u.Scheme {
	case "https":
		return 443
	case "socks5":
		return 1080
	}
	return 80
}

// exchange sends one request and reads its answer into st.
func (p *httpProbe) exchange(ctx context.Context, req *request, raw []byte, st *state) error {
	st.resp, st.facts, st.body, st.truncated = nil, nil, st.body[:0], false
	conn, err := p.connect(ctx, req.url, st)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := probe.Watch(ctx, conn)
	defer stop()
	if req.url.Scheme == "https" {
		start := time.Now()
		cfg := p.tls
		if h := req.url.Hostname(); h != p.url.Hostname() {
			cfg = cfg.Clone()
			cfg.ServerName, cfg.Certificates = h, nil
		}
		tc := tls.Client(conn, cfg)
		err := tc.HandshakeContext(ctx)
		st.phases[2] += time.Since(start)
		if err != nil {
			return &stageError{"tls", err}
		}
		cs := tc.ConnectionState()
		st.facts = tlsinfo.FromState(&cs)
		if cs.NegotiatedProtocol == "h2" {
			return p.exchange2(ctx, tc, req, st)
		}
		conn = tc
	}
	start := time.Now()
	if _, err := conn.Write(raw); err != nil {
		// The server may have answered and closed without reading the body.
		if ctx.Err() != nil || len(req.body) == 0 {
			return &stageError{"request", err}
		}
	}
	br := readers.Get().(*bufio.Reader)
	head := &io.LimitedReader{R: conn, N: maxHead}
	br.Reset(head)
	defer func() { br.Reset(nil); readers.Put(br) }()
	for range 6 {
		st.resp, err = nethttp.ReadResponse(br, &nethttp.Request{Method: req.method})
		if err != nil || st.resp.StatusCode >= 200 || st.resp.StatusCode == 101 {
			break
		}
	}
	st.phases[3] += time.Since(start)
	if err != nil {
		st.resp = nil
		return &stageError{"response", shortError(err, head.N <= 0)}
	}
	head.N = 1 << 60
	return p.read(st)
}

const maxHead = 128 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

func shortError(err error, full bool) error {
	switch {
	case full:
		return fmt.Errorf("the header is longer than %d KiB", maxHead>>10)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed before the answer was complete")
	}
	return err
}

// read takes in the body up to the limit. It does not close it: to close a body
// of HTTP/1 is to read all of it, and the connection is closed in its place.
func (p *httpProbe) read(st *state) error {
	start := time.Now()
	defer func() { st.phases[4] += time.Since(start) }()
	body := st.resp.Body
	var src io.Reader = body
	if strings.EqualFold(st.resp.Header.Get("Content-Encoding"), "gzip") && st.resp.ContentLength != 0 {
		if zr, err := gzip.NewReader(body); err == nil {
			src = zr
		} else if !errors.Is(err, io.EOF) {
			return &stageError{"body", err}
		}
	}
	b := st.body[:0]
	for int64(len(b)) < p.limit {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(512, len(b)))
		}
		n, err := src.Read(b[len(b):min(int64(cap(b)), p.limit)])
		b = b[:len(b)+n]
		if err == io.EOF {
			st.body = b
			return nil
		}
		if err != nil {
			st.body = b
			return &stageError{"body", shortError(err, false)}
		}
	}
	st.body, st.truncated = b, true
	return nil
}

// exchange2 is the HTTP/2 side of exchange.
func (p *httpProbe) exchange2(ctx context.Context, tc *tls.Conn, req *request, st *state) error {
	start := time.Now()
	t := &nethttp.Transport{
		DisableCompression: true, MaxResponseHeaderBytes: maxHead, ForceAttemptHTTP2: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return tc, nil },
	}
	cc, err := t.NewClientConn(ctx, "https", net.JoinHostPort(req.url.Hostname(), strconv.Itoa(int(port(req.url)))))
	if err != nil {
		return &stageError{"request", err}
	}
	defer cc.Close()
	hr, err := nethttp.NewRequestWithContext(ctx, req.method, req.url.String(), nil)
	if err != nil {
		return &stageError{"request", err}
	}
	hr.Header, hr.Host = req.header, req.host
	if len(req.cookies) > 0 {
		hr.Header.Set("Cookie", strings.Join(req.cookies, "; "))
	}
	if req.hasBody {
		hr.Body, hr.ContentLength = io.NopCloser(strings.NewReader(req.body)), int64(len(req.body))
	}
	st.resp, err = cc.RoundTrip(hr)
	st.phases[3] += time.Since(start)
	if err != nil {
		st.resp = nil
		return &stageError{"response", shortError(err, false)}
	}
	defer st.resp.Body.Close()
	return p.read(st)
}

// connect opens the way to u, through the proxy when there is one.
func (p *httpProbe) connect(ctx context.Context, u *url.URL, st *state) (net.Conn, error) {
	via := u
	if p.proxy != nil {
		via = p.proxy
	}
	conn, route, err := p.env.Connect(ctx, "tcp", via.Hostname(), port(via), p.cfg.IPFamily)
	st.route.Addr = route.Addr
	st.route.Resolve += route.Resolve
	st.phases[0] += route.Resolve
	st.phases[1] += route.Connect
	if err != nil {
		if p.proxy != nil {
			return nil, &stageError{"proxy", err}
		}
		return nil, &stageError{"connect", err}
	}
	if p.proxy == nil {
		return conn, nil
	}
	start := time.Now()
	out, err := p.through(ctx, conn, u)
	st.phases[1] += time.Since(start)
	if err != nil {
		_ = conn.Close()
		return nil, &stageError{"proxy", err}
	}
	return out, nil
}

// through asks the proxy at the other end of conn for u.
func (p *httpProbe) through(ctx context.Context, conn net.Conn, u *url.URL) (net.Conn, error) {
	if a, err := p.env.Resolve(ctx, u.Hostname(), p.cfg.IPFamily); err == nil {
		// The proxy resolves for itself; what we can see is refused all the same.
		for _, ip := range a {
			if err := p.env.Dialer.CheckAddr(ip); err != nil {
				return nil, err
			}
		}
	}
	addr := net.JoinHostPort(u.Hostname(), strconv.Itoa(int(port(u))))
	stop := probe.Watch(ctx, conn)
	defer stop()
	if p.proxy.Scheme == "socks5" {
		var auth *proxy.Auth
		if p.cfg.Proxy.Username != "" {
			auth = &proxy.Auth{User: p.cfg.Proxy.Username, Password: p.cfg.Proxy.Password.Reveal()}
		}
		d, err := proxy.SOCKS5("tcp", "", auth, opened{conn})
		if err != nil {
			return nil, err
		}
		return d.Dial("tcp", addr)
	}
	if p.proxy.Scheme == "https" {
		tc := tls.Client(conn, &tls.Config{ServerName: p.proxy.Hostname(), RootCAs: p.tls.RootCAs})
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = tc
	}
	if u.Scheme == "http" {
		return conn, nil
	}
	ask := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if p.cfg.Proxy.Username != "" {
		ask += "Proxy-Authorization: " + p.proxyAuth() + "\r\n"
	}
	if _, err := io.WriteString(conn, ask+"\r\n"); err != nil {
		return nil, err
	}
	// One byte at a time: what follows the answer belongs to TLS.
	br := bufio.NewReaderSize(io.LimitReader(oneByte{conn}, maxHead), 16)
	resp, err := nethttp.ReadResponse(br, &nethttp.Request{Method: "CONNECT"})
	if err != nil {
		return nil, shortError(err, false)
	}
	if resp.StatusCode != 200 {
		return nil, fmt.Errorf("answered %s", statusText(resp))
	}
	return conn, nil
}

// opened is a dialer that hands out the connection it has.
type opened struct{ net.Conn }

func (o opened) Dial(_, _ string) (net.Conn, error) { return o.Conn, nil }

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return o.r.Read(p[:1])
}

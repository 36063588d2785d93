package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	proxyTimeout   = 5 * time.Second
	maxProxyAnswer = 16 << 10
)

// Dialer connects to servers, through an HTTP proxy (CONNECT) where one is
// given for the address. Proxy gets the address host:port; a nil URL means
// directly.
func Dialer(proxy func(addr string) (*url.URL, error)) func(ctx context.Context, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: proxyTimeout, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		var via *url.URL
		if proxy != nil {
			var err error
			if via, err = proxy(addr); err != nil {
				return nil, fmt.Errorf("proxy for %s: %w", addr, err)
			}
		}
		if via == nil {
			return d.DialContext(ctx, "tcp", addr)
		}
		c, err := connect(ctx, d, via, addr)
		if err != nil {
			return nil, fmt.Errorf("connect to %s through the proxy %s: %w", addr, via.Host, err)
		}
		return c, nil
	}
}

// FixedProxy uses one proxy for all addresses.
func FixedProxy(raw string) (func(string) (*url.URL, error), error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("must be the URL of an HTTP proxy, for example http://proxy.example:3128")
	}
	return func(string) (*url.URL, error) { return u, nil }, nil
}

// EnvProxy uses HTTPS_PROXY and NO_PROXY.
func EnvProxy(addr string) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
}

func connect(ctx context.Context, d *net.Dialer, via *url.URL, addr string) (_ net.Conn, err error) {
	host := via.Host
	if via.Port() == "" {
		port := "80"
		if via.Scheme == "https" {
			port = "443"
		}
		host = net.JoinHostPort(via.Hostname(), port)
	}
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(proxyTimeout)); err != nil {
		return nil, err
	}
	if via.Scheme == "https" {
		t := tls.Client(c, &tls.Config{ServerName: via.Hostname(), MinVersion: tls.VersionTLS12})
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c = t
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if via.User != nil {
		password, _ := via.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	limited := &countedReader{Conn: c, left: maxProxyAnswer}
	r := bufio.NewReaderSize(limited, 1<<10)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if r.Buffered() > 0 { // TLS begins with us: what comes before is not a server of ours
		return nil, errors.New("it sends what nobody asked for")
	}
	return c, nil
}

// countedReader bounds what a proxy may answer.
type countedReader struct {
	net.Conn
	left int
}

func (c *countedReader) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("its answer does not end")
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

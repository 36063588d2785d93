package scrape

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	commonconfig "github.com/prometheus/common/config"
)

// passage is a proxy on this machine for the mechanisms of discovery. All of
// them but HTTP discovery make connections by themselves; sent through here,
// they reach what the dialer lets them reach. It serves only who has a secret
// that it gave out.
type passage struct {
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	log    *slog.Logger
	listen net.Listener

	mu    sync.Mutex // guards the rest
	ways  map[string]*way
	conns map[net.Conn]struct{} // of tunnels
	ended bool
}

// way is what one job asks through.
type way struct {
	job       string
	transport *http.Transport // knows the proxy that the job itself names
}

func newPassage(dial func(context.Context, string, string) (net.Conn, error), log *slog.Logger) (*passage, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for discovery: %w", err)
	}
	return &passage{dial: dial, log: log, listen: l, ways: map[string]*way{}, conns: map[net.Conn]struct{}{}}, nil
}

// open makes a way for a job's client and returns the proxy to ask.
func (p *passage) open(job string, through commonconfig.ProxyConfig) (secret string, proxy commonconfig.ProxyConfig) {
	w := &way{job: job}
	w.transport = &http.Transport{
		DialContext: p.dial, Proxy: through.Proxy(), ProxyConnectHeader: through.GetProxyConnectHeader(),
		DisableCompression: true, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
	}
	secret = rand.Text()
	p.mu.Lock()
	p.ways[secret] = w
	p.mu.Unlock()
	u := &url.URL{Scheme: "http", User: url.UserPassword("panoptes", secret), Host: p.listen.Addr().String()}
	return secret, commonconfig.ProxyConfig{ProxyURL: commonconfig.URL{URL: u}}
}

// keep closes all ways but those with these secrets.
func (p *passage) keep(secrets map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, w := range p.ways {
		if !secrets[s] {
			delete(p.ways, s)
			w.transport.CloseIdleConnections()
		}
	}
}

// run serves until ctx ends.
func (p *passage) run(ctx context.Context) {
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = srv.Close() // what is under way ends with it
		p.mu.Lock()
		p.ended = true
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.keep(nil)
	}()
	if err := srv.Serve(p.listen); !errors.Is(err, http.ErrServerClosed) {
		p.log.Error("discovery is cut off", "err", err)
	}
	<-done
}

// ServeHTTP passes on one request, or a tunnel.
func (p *passage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	way := p.wayOf(r)
	switch {
	case way == nil:
		http.Error(w, "this proxy is not for you", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		p.tunnel(w, r, way)
	case !r.URL.IsAbs():
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	default:
		(&httputil.ReverseProxy{
			Rewrite: func(*httputil.ProxyRequest) {}, Transport: way.transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { p.fail(w, way, r.URL.Host, err) },
		}).ServeHTTP(w, r)
	}
}

func (p *passage) wayOf(r *http.Request) *way {
	auth := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	_, secret, ok := auth.BasicAuth()
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ways[secret]
}

func (p *passage) fail(w http.ResponseWriter, way *way, host string, err error) {
	if !errors.Is(err, context.Canceled) {
		p.log.Warn("discovery did not reach what it asks", "job", way.job, "host", host, "err", err)
	}
	http.Error(w, err.Error(), http.StatusBadGateway)
}

// tunnel joins the client with the host that it names.
func (p *passage) tunnel(w http.ResponseWriter, r *http.Request, way *way) {
	there, err := p.reach(r.Context(), way, r.Host)
	if err != nil {
		p.fail(w, way, r.Host, err)
		return
	}
	defer func() { _ = there.Close() }() // both ends are told by the copies below
	here, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.fail(w, way, r.Host, err)
		return
	}
	defer func() { _ = here.Close() }()
	if !p.hold(here, there) {
		return
	}
	defer p.release(here, there)
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(there, rest) // ends with either side
		_ = there.Close()
	})
	_, _ = io.Copy(here, there)
	_ = here.Close()
	wg.Wait()
}

// reach connects with a host, through the proxy that the job names if it does.
func (p *passage) reach(ctx context.Context, way *way, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var via *url.URL
	if named := way.transport.Proxy; named != nil {
		var err error
		if via, err = named(&http.Request{URL: &url.URL{Scheme: "https", Host: host}}); err != nil {
			return nil, err
		}
	}
	if via == nil {
		return p.dial(ctx, "tcp", host)
	}
	addr := via.Host
	if via.Port() == "" {
		addr = net.JoinHostPort(via.Hostname(), map[string]string{"http": "80", "https": "443"}[via.Scheme])
	}
	if via.Scheme != "http" && via.Scheme != "https" {
		return nil, fmt.Errorf("the proxy %s is neither http nor https", via.Redacted())
	}
	c, err := p.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if via.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: via.Hostname()})
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: host}, Host: host, Header: way.transport.ProxyConnectHeader.Clone()}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if u := via.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	// One byte at a time: what follows the answer is not ours.
	resp, err := http.ReadResponse(bufio.NewReaderSize(&oneByte{c}, 16), req)
	switch {
	case err != nil:
		return nil, errors.Join(err, c.Close())
	case resp.StatusCode != http.StatusOK:
		return nil, errors.Join(fmt.Errorf("the proxy %s answers %s", via.Redacted(), resp.Status), c.Close())
	case !stop():
		return nil, errors.Join(ctx.Err(), c.Close())
	}
	return c, nil
}

// oneByte keeps a buffered reader from taking more than it needs.
type oneByte struct{ io.Reader }

func (o *oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }

func (p *passage) hold(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.ended
}

func (p *passage) release(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

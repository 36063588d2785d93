// Package sample serves targets and receivers on loopback, so that a fresh
// server has something real to watch and somewhere real to send its warnings.
package sample

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// BasePort is the first of the five ports, before the offset.
const BasePort = 9790

// The ports, counted from BasePort.
const (
	portHTTP = iota
	portHTTPS
	portTCP
	portDNS
	portSMTP
)

// Targets serves a site (steady, moody, slow), the same over HTTPS, a TCP
// service, a DNS zone, and an inbox that takes mail and webhooks.
type Targets struct {
	log   *slog.Logger
	inbox *inbox
	down  atomic.Bool // the moody page is held down by hand
	held  atomic.Bool // the moody page obeys Hold instead of the clock

	http, https, tcp, smtp net.Listener
	dnsUDP                 net.PacketConn
	cert                   tls.Certificate
	ca                     []byte
}

// New binds the ports from base on (0: any free ones); nothing is served before
// Run. The certificate is kept in dir, so that records that name it stay right.
func New(base int, dir string, log *slog.Logger) (*Targets, error) {
	t := &Targets{log: log, inbox: &inbox{}}
	var err error
	if t.cert, t.ca, err = certificate(filepath.Join(dir, "sample-certificate.pem")); err != nil {
		return nil, fmt.Errorf("make the sample certificate: %w", err)
	}
	addr := func(i int) string {
		if base == 0 {
			return "127.0.0.1:0"
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i))
	}
	for _, l := range []struct {
		to   *net.Listener
		port int
	}{{&t.http, portHTTP}, {&t.https, portHTTPS}, {&t.tcp, portTCP}, {&t.smtp, portSMTP}} {
		if *l.to, err = net.Listen("tcp", addr(l.port)); err != nil {
			return nil, errors.Join(fmt.Errorf("bind a sample target: %w (another port: --port-offset)", err), t.close())
		}
	}
	if t.dnsUDP, err = net.ListenPacket("udp", addr(portDNS)); err != nil {
		return nil, errors.Join(fmt.Errorf("bind the sample name server: %w", err), t.close())
	}
	return t, nil
}

func (t *Targets) close() error {
	var errs []error
	for _, l := range []net.Listener{t.http, t.https, t.tcp, t.smtp} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if t.dnsUDP != nil {
		errs = append(errs, t.dnsUDP.Close())
	}
	return errors.Join(errs...)
}

// InboxURL is the page that shows what was delivered.
func (t *Targets) InboxURL() string { return "http://" + t.http.Addr().String() + "/inbox" }

// Hold keeps the moody page down or up from now on, whatever the clock says.
func (t *Targets) Hold(down bool) {
	t.down.Store(down)
	t.held.Store(true)
}

// The moody page fails for moodyDown out of every moodyCycle.
const (
	moodyCycle = 10 * time.Minute
	moodyDown  = 90 * time.Second
)

func (t *Targets) moody(now time.Time) bool {
	if t.held.Load() {
		return t.down.Load()
	}
	return time.Duration(now.UnixNano())%moodyCycle < moodyDown
}

// Run serves until ctx ends.
func (t *Targets) Run(ctx context.Context) error {
	web := &http.Server{Handler: t.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10}
	secure := &http.Server{Handler: t.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{t.cert}},
		ErrorLog: slog.NewLogLogger(t.log.Handler(), slog.LevelDebug)}
	names := &dns.Server{PacketConn: t.dnsUDP, Handler: dns.HandlerFunc(answer)}
	var wg sync.WaitGroup
	failed := make(chan error, 5)
	serve := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serve the sample %s: %w", what, err)
			}
		})
	}
	serve("site", func() error { return web.Serve(t.http) })
	serve("secure site", func() error { return secure.ServeTLS(t.https, "", "") })
	serve("name server", names.ActivateAndServe)
	serve("TCP service", func() error { return accept(ctx, t.tcp, banner) })
	serve("mail server", func() error { return accept(ctx, t.smtp, t.inbox.smtp) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	// Closed, not drained: nobody needs an answer of a sample that goes away.
	_ = web.Close()
	_ = secure.Close()
	_ = names.Shutdown()
	_ = t.close()
	wg.Wait()
	return err
}

// accept serves connections until l is closed, each with a time limit.
func accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			serve(conn)
		})
	}
}

func banner(conn net.Conn) {
	if _, err := conn.Write([]byte("220 sample service ready\r\n")); err != nil {
		return
	}
	buf := make([]byte, 512)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answer serves the zone sample.test.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	if len(q.Question) == 1 {
		for _, line := range []string{
			"www.sample.test. 60 IN A 127.0.0.1",
			"sample.test. 60 IN MX 10 mail.sample.test.",
			"sample.test. 60 IN TXT \"panoptes sample zone\"",
			"sample.test. 60 IN SOA ns.sample.test. admin.sample.test. 1 3600 600 86400 60",
		} {
			rr, err := dns.NewRR(line)
			if err == nil && dns.CanonicalName(q.Question[0].Name) == rr.Header().Name && q.Question[0].Qtype == rr.Header().Rrtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
	}
	// A client that went away is its own problem.
	_ = w.WriteMsg(m)
}

func (t *Targets) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "Welcome to the sample shop. All systems operational.")
	})
	mux.HandleFunc("/api/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"ok","queue":{"length":3},"version":"1.4.2"}`)
	})
	mux.HandleFunc("/moody", func(w http.ResponseWriter, _ *http.Request) {
		if t.moody(time.Now()) {
			http.Error(w, "database connection pool exhausted", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "in a good mood")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		// Between 50 and 650 ms, a slow wave, so that the chart has a shape.
		phase := time.Duration(time.Now().UnixNano()) % (20 * time.Minute)
		wave := phase
		if wave > 10*time.Minute {
			wave = 20*time.Minute - wave
		}
		select {
		case <-time.After(50*time.Millisecond + wave/1000):
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, "finally")
	})
	mux.HandleFunc("POST /hold", func(w http.ResponseWriter, r *http.Request) {
		t.Hold(r.FormValue("down") == "true")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hook", t.inbox.hook)
	mux.HandleFunc("GET /inbox", t.inbox.page)
	return http.MaxBytesHandler(mux, 1<<20)
}

// certificate reads certificate and key from a file, or makes them when there
// are none or they have run out.
func certificate(path string) (tls.Certificate, []byte, error) {
	if data, err := os.ReadFile(path); err == nil {
		if cert, err := tls.X509KeyPair(data, data); err == nil && time.Until(cert.Leaf.NotAfter) > 30*24*time.Hour {
			return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), nil
		}
	}
	data, err := selfSigned()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err := tls.X509KeyPair(data, data)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), nil
}

// selfSigned makes a certificate for localhost that is its own root, and its
// key, as PEM.
func selfSigned() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sample.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: []string{"localhost", "sample.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

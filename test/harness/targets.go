package harness

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// Toggle is a listener on a port of its own that can be closed and opened again.
type Toggle struct {
	t     testing.TB
	Addr  string
	serve func(net.Listener) (stop func())
	stop  func()
}

func newToggle(t testing.TB, serve func(net.Listener) (stop func())) *Toggle {
	tg := &Toggle{t: t, Addr: FreeAddr(t, "127.0.0.1"), serve: serve}
	tg.Up()
	t.Cleanup(tg.Down)
	return tg
}

// Down closes the port and all its connections.
func (g *Toggle) Down() {
	if g.stop != nil {
		g.stop()
		g.stop = nil
	}
}

// Up opens the port again.
func (g *Toggle) Up() {
	g.t.Helper()
	require.Nil(g.t, g.stop)
	l, err := net.Listen("tcp", g.Addr)
	require.NoError(g.t, err)
	g.stop = g.serve(l)
}

// HTTPS serves 200 over TLS with a certificate of its own; the second value is its CA as PEM.
func HTTPS(t testing.TB) (*Toggle, string) {
	cert, ca := Certificate(t)
	return newToggle(t, func(l net.Listener) func() {
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "welcome") })}
		srv.ErrorLog = quiet
		go srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}))
		return func() { srv.Close() }
	}), ca
}

// TCP accepts connections and greets.
func TCP(t testing.TB) *Toggle {
	return newToggle(t, func(l net.Listener) func() {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					io.WriteString(conn, "hello\r\n")
					io.Copy(io.Discard, conn)
					conn.Close()
				}()
			}
		}()
		return func() { l.Close() }
	})
}

// DNS answers A questions for any name over TCP and UDP on one port.
func DNS(t testing.TB) *Toggle {
	return newToggle(t, func(l net.Listener) func() {
		pc, err := net.ListenPacket("udp", l.Addr().String())
		require.NoError(t, err)
		h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			if rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.7"); err == nil {
				m.Answer = append(m.Answer, rr)
			}
			w.WriteMsg(m)
		})
		ready := make(chan struct{}, 2)
		started := func() { ready <- struct{}{} }
		overUDP := &dns.Server{PacketConn: pc, Handler: h, NotifyStartedFunc: started}
		overTCP := &dns.Server{Listener: l, Handler: h, NotifyStartedFunc: started}
		go overUDP.ActivateAndServe()
		go overTCP.ActivateAndServe()
		<-ready
		<-ready
		return func() { overUDP.Shutdown(); overTCP.Shutdown() }
	})
}

// Notification is what arrived at a Webhook, decoded.
type Notification struct {
	Status string `json:"status"`
	Alerts []struct {
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
	} `json:"alerts"`
	Key string `json:"-"` // header Idempotency-Key
}

// Webhook keeps what was posted to it.
type Webhook struct {
	*httptest.Server
	mu  sync.Mutex
	got []Notification
}

// NewWebhook starts a receiver.
func NewWebhook(t testing.TB) *Webhook {
	w := &Webhook{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var n Notification
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		n.Key = r.Header.Get("Idempotency-Key")
		w.mu.Lock()
		w.got = append(w.got, n)
		w.mu.Unlock()
	}))
	t.Cleanup(w.Close)
	return w
}

// Count returns how many posts told of check being firing or resolved.
func (w *Webhook) Count(check, status string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, g := range w.got {
		for _, a := range g.Alerts {
			if a.Labels["check"] == check && a.Status == status {
				n++
			}
		}
	}
	return n
}

// All returns what arrived so far.
func (w *Webhook) All() []Notification {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Notification(nil), w.got...)
}

// Mailbox is an SMTP server that keeps what it is given.
type Mailbox struct {
	Addr  string
	mu    sync.Mutex
	mails []string
}

// NewMailbox starts an SMTP server.
func NewMailbox(t testing.TB) *Mailbox {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &Mailbox{Addr: l.Addr().String()}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(conn)
		}
	}()
	return m
}

func (m *Mailbox) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(s string) { io.WriteString(conn, s+"\r\n") }
	say("220 mail.test ESMTP")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO", "HELO", "MAIL", "RCPT", "RSET", "NOOP":
			say("250 OK")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(line)
			}
			m.mu.Lock()
			m.mails = append(m.mails, text.String())
			m.mu.Unlock()
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 no")
		}
	}
}

// Count returns how many mails contain all the words.
func (m *Mailbox) Count(words ...string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
next:
	for _, mail := range m.mails {
		for _, w := range words {
			if !strings.Contains(mail, w) {
				continue next
			}
		}
		n++
	}
	return n
}

// All returns the mails that arrived.
func (m *Mailbox) All() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.mails...)
}

package notify_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/notify"
)

// mailServer speaks SMTP over TCP, with STARTTLS and a login.
type mailServer struct {
	addr string
	ca   string
	tls  *tls.Config

	auth   string                   // mechanisms it offers
	refuse string                   // answer to RCPT
	picky  func(rcpt string) string // the same for one recipient; empty: take it
	silent bool                     // takes connections and says nothing

	mu   sync.Mutex
	got  []letter
	wg   sync.WaitGroup
	ln   net.Listener
	open map[net.Conn]bool
}

type letter struct {
	from, user, password string
	to                   []string
	data                 string
	encrypted            bool
}

func newMailServer(t *testing.T, implicit bool, change func(*mailServer)) *mailServer {
	s := &mailServer{auth: "PLAIN LOGIN", open: map[net.Conn]bool{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	require.NoError(t, err)
	s.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if change != nil {
		change(s)
	}
	s.ln, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = s.ln.Addr().String()
	ln := s.ln
	if implicit {
		ln = tls.NewListener(ln, s.tls)
	}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[c] = true
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c, implicit) })
		}
	})
	t.Cleanup(func() {
		s.ln.Close()
		s.mu.Lock()
		for c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *mailServer) letters() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]letter(nil), s.got...)
}

func (s *mailServer) serve(c net.Conn, encrypted bool) {
	defer c.Close()
	r := bufio.NewReader(c)
	if s.silent {
		_, _ = r.ReadString('\n')
		return
	}
	l := letter{encrypted: encrypted}
	say := func(f string, a ...any) { fmt.Fprintf(c, f+"\r\n", a...) }
	line := func() (string, bool) {
		x, err := r.ReadString('\n')
		return strings.TrimRight(x, "\r\n"), err == nil
	}
	dec := func(x string) string { b, _ := base64.StdEncoding.DecodeString(x); return string(b) }
	say("220 mail.test ESMTP")
	for {
		x, ok := line()
		if !ok {
			return
		}
		verb, arg, _ := strings.Cut(x, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			say("250-mail.test")
			if !l.encrypted {
				say("250-STARTTLS")
			}
			if s.auth != "" && l.encrypted {
				say("250-AUTH %s", s.auth)
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go on")
			tc := tls.Server(c, s.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r = tc, bufio.NewReader(tc)
			l.encrypted = true
		case "AUTH":
			mech, initial, _ := strings.Cut(arg, " ")
			if mech == "LOGIN" {
				say("334 %s", base64.StdEncoding.EncodeToString([]byte("Username:")))
				u, _ := line()
				say("334 %s", base64.StdEncoding.EncodeToString([]byte("Password:")))
				p, _ := line()
				l.user, l.password = dec(u), dec(p)
			} else if parts := strings.Split(dec(initial), "\x00"); len(parts) == 3 {
				l.user, l.password = parts[1], parts[2]
			}
			if l.password != "s3cret-word" {
				say("535 5.7.8 wrong password %s", l.password)
				continue
			}
			say("235 welcome")
		case "MAIL":
			l.from = arg
			say("250 ok")
		case "RCPT":
			if s.refuse != "" {
				say("%s", s.refuse)
				continue
			}
			if s.picky != nil {
				if answer := s.picky(arg); answer != "" {
					say("%s", answer)
					continue
				}
			}
			l.to = append(l.to, arg)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				x, ok := line()
				if !ok {
					return
				}
				if x == "." {
					break
				}
				b.WriteString(strings.TrimPrefix(x, ".") + "\r\n")
			}
			l.data = b.String()
			s.mu.Lock()
			s.got = append(s.got, l)
			s.mu.Unlock()
			l = letter{encrypted: l.encrypted, user: l.user, password: l.password}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 unknown")
		}
	}
}

func mailReceiver(t *testing.T, s *mailServer, change func(map[string]any)) model.Receiver {
	block := map[string]any{
		"to": "Bereitschaft Süd <oncall@example.com>, second@example.com", "from": "Panoptes <panoptes@example.com>", "smarthost": s.addr,
		"auth_username": "panoptes", "auth_password": "s3cret-word", "tls_config": map[string]any{"ca": s.ca},
	}
	if change != nil {
		change(block)
	}
	b, err := json.Marshal(block)
	require.NoError(t, err)
	return receiver(t, "email", string(b))
}

func TestMail(t *testing.T) {
	for _, c := range []struct {
		name     string
		implicit bool
		auth     string
	}{{"STARTTLS and PLAIN", false, "PLAIN LOGIN"}, {"STARTTLS and LOGIN", false, "LOGIN"}, {"TLS and PLAIN", true, "PLAIN"}} {
		t.Run(c.name, func(t *testing.T) {
			s := newMailServer(t, c.implicit, func(s *mailServer) { s.auth = c.auth })
			var dialled []string
			n := newNotify(t, notify.Deps{Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialled = append(dialled, addr)
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}})
			r := mailReceiver(t, s, func(b map[string]any) { b["force_implicit_tls"] = c.implicit })
			require.NoError(t, n.Test(t.Context(), r))
			require.Equal(t, []string{s.addr}, dialled)
			got := s.letters()
			require.Len(t, got, 1)
			l := got[0]
			require.True(t, l.encrypted)
			require.Equal(t, "panoptes", l.user)
			require.Len(t, l.to, 2)
			require.Contains(t, l.to[0], "<oncall@example.com>")

			m, err := mail.ReadMessage(strings.NewReader(l.data))
			require.NoError(t, err)
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			require.NoError(t, err)
			require.Equal(t, "[FIRING] Test message from Panoptes / 来自 Panoptes 的测试消息", subject)
			require.Regexp(t, `^<[0-9a-f]{32}@`, m.Header.Get("Message-Id"))
			require.Regexp(t, `^<group-`, m.Header.Get("References"))
			to, err := m.Header.AddressList("To")
			require.NoError(t, err)
			require.Equal(t, "Bereitschaft Süd", to[0].Name)
			_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
			require.NoError(t, err)
			mr := multipart.NewReader(m.Body, params["boundary"])
			var types []string
			for {
				p, err := mr.NextRawPart()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				types = append(types, p.Header.Get("Content-Type"))
				body, err := io.ReadAll(quotedprintable.NewReader(p))
				require.NoError(t, err)
				require.Contains(t, string(body), "测试消息")
			}
			require.Equal(t, []string{"text/plain; charset=UTF-8", "text/html; charset=UTF-8"}, types)
		})
	}
}

func TestMailSaysWhatIsWrong(t *testing.T) {
	limit := time.Minute
	f := func(change func(*mailServer), block func(map[string]any), want string) {
		t.Helper()
		n, err := notify.New(notify.Config{MailTimeout: limit}, notify.Deps{})
		require.NoError(t, err)
		s := newMailServer(t, false, change)
		err = n.Test(t.Context(), mailReceiver(t, s, block))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "wr0ng-word")
		require.Empty(t, s.letters())
	}
	f(nil, func(b map[string]any) { b["auth_password"] = "wr0ng-word" }, "wrong password <redacted>")
	f(nil, func(b map[string]any) { delete(b, "tls_config") }, "certificate")
	f(func(s *mailServer) { s.refuse = "550 no such person" }, nil, "recipient oncall@example.com: 550")
	f(func(s *mailServer) { s.auth = "" }, nil, "does not offer a login")
	f(nil, func(b map[string]any) { b["smarthost"] = "127.0.0.1:1" }, "connect to 127.0.0.1:1")
	limit = 300 * time.Millisecond
	f(func(s *mailServer) { s.silent = true }, nil, "no answer within 300ms")
}

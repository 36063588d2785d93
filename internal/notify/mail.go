package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
)

// mailer sends one mail per notification. Alertmanager's own dials past the
// address policy and may wait for a silent server for ever.
type mailer struct {
	conf *config.EmailConfig
	tmpl *template.Template
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	tls  *tls.Config

	served served
}

func newMail(c *config.EmailConfig, tmpl *template.Template, dial func(context.Context, string, string) (net.Conn, error)) (*mailer, error) {
	tc, err := commoncfg.NewTLSConfig(c.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	if tc.ServerName == "" {
		tc.ServerName = c.Smarthost.Host
	}
	return &mailer{conf: c, tmpl: tmpl, dial: dial, tls: tc}, nil
}

// Notify implements Alertmanager's Notifier.
func (m *mailer) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	data := amnotify.GetTemplateData(ctx, m.tmpl, alerts, slog.New(slog.DiscardHandler))
	from, err := m.addresses(m.conf.From, data)
	if err != nil {
		return false, fmt.Errorf("from: %w", err)
	}
	if len(from) != 1 {
		return false, fmt.Errorf("from: there are %d addresses; give one", len(from))
	}
	to, err := m.addresses(m.conf.To, data)
	if err != nil {
		return false, fmt.Errorf("to: %w", err)
	}
	msg, err := m.message(ctx, data, from[0].Address)
	if err != nil {
		return false, err
	}
	id := idempotency(ctx)
	left := m.served.left(id, to)
	if len(left) == 0 {
		return false, nil
	}
	c, err := m.connect(ctx)
	if err != nil {
		return true, err
	}
	defer c.Close()
	if err := m.login(c); err != nil {
		return retryable(err), err
	}
	if err := c.Mail(from[0].Address); err != nil {
		return retryable(err), fmt.Errorf("sender %s: %w", from[0].Address, err)
	}
	taken, refused, later := recipients(c, left)
	if len(taken) == 0 && len(left) == len(to) {
		return later, oneLine(refused)
	}
	if len(taken) > 0 {
		if retry, err := give(c, msg); err != nil {
			return retry, err
		}
	}
	// The mail is delivered; how the server says good-bye does not matter.
	_ = c.Quit()
	if m.served.note(id, taken, later) {
		return true, oneLine(refused)
	}
	if len(refused) > 0 {
		_, part := partly(ctx)
		*part = oneLine(refused)
	}
	return false, nil
}

// give hands over the message to the recipients that were taken.
func give(c *smtp.Client, msg []byte) (retry bool, err error) {
	w, err := c.Data()
	if err != nil {
		return retryable(err), fmt.Errorf("start the message: %w", err)
	}
	if _, err := w.Write(msg); err != nil {
		return true, fmt.Errorf("send the message: %w", err)
	}
	if err := w.Close(); err != nil {
		return retryable(err), fmt.Errorf("the server did not take the message: %w", err)
	}
	return false, nil
}

// connect dials, encrypts and greets. Everything ends with ctx.
func (m *mailer) connect(ctx context.Context) (*smtp.Client, error) {
	addr := m.conf.Smarthost.String()
	raw, err := m.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	// net/smtp knows no context: its end breaks the connection off.
	var conn net.Conn = &endable{raw, context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })}

	implicit := m.conf.Smarthost.Port == "465"
	if m.conf.ForceImplicitTLS != nil {
		implicit = *m.conf.ForceImplicitTLS
	}
	if implicit {
		conn = tls.Client(conn, m.tls)
	}
	c, err := smtp.NewClient(conn, m.conf.Smarthost.Host)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting of %s: %w", addr, err)
	}
	if err := m.greet(c, implicit); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (m *mailer) greet(c *smtp.Client, implicit bool) error {
	if m.conf.Hello != "" {
		if err := c.Hello(m.conf.Hello); err != nil {
			return fmt.Errorf("greet %s: %w", m.conf.Smarthost, err)
		}
	}
	if implicit {
		return nil
	}
	offered, _ := c.Extension("STARTTLS")
	required := m.conf.RequireTLS == nil || *m.conf.RequireTLS
	switch {
	case offered && required:
		if err := c.StartTLS(m.tls); err != nil {
			return fmt.Errorf("encrypt the connection to %s: %w", m.conf.Smarthost, err)
		}
	case required:
		return fmt.Errorf("%s does not offer STARTTLS; use a port with encryption, or set require_tls to false", m.conf.Smarthost)
	}
	return nil
}

// endable stops watching its context when it is closed.
type endable struct {
	net.Conn
	stop func() bool
}

func (c *endable) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (m *mailer) login(c *smtp.Client) error {
	if m.conf.AuthUsername == "" {
		return nil
	}
	ok, mechs := c.Extension("AUTH")
	if !ok {
		return fmt.Errorf("%s does not offer a login; leave auth_username empty or use an encrypted port", m.conf.Smarthost)
	}
	list := strings.Fields(strings.ToUpper(mechs))
	var auth smtp.Auth
	switch {
	case slices.Contains(list, "CRAM-MD5") && m.conf.AuthSecret != "":
		auth = smtp.CRAMMD5Auth(m.conf.AuthUsername, string(m.conf.AuthSecret))
	case slices.Contains(list, "PLAIN"):
		auth = smtp.PlainAuth(m.conf.AuthIdentity, m.conf.AuthUsername, string(m.conf.AuthPassword), m.conf.Smarthost.Host)
	case slices.Contains(list, "LOGIN"):
		auth = &loginAuth{m.conf.AuthUsername, string(m.conf.AuthPassword), m.conf.Smarthost.Host}
	default:
		return fmt.Errorf("%s offers the logins %s; PLAIN, LOGIN and CRAM-MD5 (with auth_secret) are known", m.conf.Smarthost, mechs)
	}
	if err := c.Auth(auth); err != nil {
		return fmt.Errorf("log in to %s as %s: %w", m.conf.Smarthost, m.conf.AuthUsername, err)
	}
	return nil
}

// loginAuth is the mechanism LOGIN, which net/smtp does not have.
type loginAuth struct{ user, password, host string }

func (a *loginAuth) Start(s *smtp.ServerInfo) (string, []byte, error) {
	if !s.TLS && s.Name != "localhost" && s.Name != "127.0.0.1" && s.Name != "::1" {
		return "", nil, errors.New("the connection is not encrypted; the password is not sent")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(prompt []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch strings.ToLower(strings.TrimSpace(string(prompt))) {
	case "username:", "user name", "user name\x00":
		return []byte(a.user), nil
	case "password:", "password", "password\x00":
		return []byte(a.password), nil
	}
	return nil, fmt.Errorf("unexpected question %q", prompt)
}

// retryable tells a refusal for good (5xx) from what may pass.
func retryable(err error) bool {
	var pe *textproto.Error
	return !errors.As(err, &pe) || pe.Code < 500
}

func (m *mailer) addresses(text string, data *template.Data) ([]*mail.Address, error) {
	s, err := m.tmpl.ExecuteTextString(text, data)
	if err != nil {
		return nil, err
	}
	return mail.ParseAddressList(s)
}

// message renders headers and a body of plain text and HTML.
func (m *mailer) message(ctx context.Context, data *template.Data, from string) ([]byte, error) {
	// Ids are made with the sender's domain, not with a host's name, so that
	// all servers put their mails into one thread.
	host := from[strings.LastIndex(from, "@")+1:]
	h := map[string]string{
		"From": m.conf.From, "To": m.conf.To, "Subject": config.DefaultEmailSubject,
		"Date":           time.Now().Format(time.RFC1123Z),
		"Auto-Submitted": "auto-generated",
	}
	if id := idempotency(ctx); id != "" {
		h["Message-Id"] = "<" + id + "@" + host + ">"
	}
	if key, ok := amnotify.GroupKey(ctx); ok {
		// All mails of a group hang below one message that was never sent, which
		// mail programs show as one thread.
		sum := sha256.Sum256([]byte(key))
		root := "<group-" + hex.EncodeToString(sum[:12]) + "@" + host + ">"
		h["References"], h["In-Reply-To"] = root, root
	}
	maps.Copy(h, m.conf.Headers)
	var out bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(h)) {
		v, err := m.tmpl.ExecuteTextString(h[k], data)
		if err != nil {
			return nil, fmt.Errorf("headers.%s: %w", k, err)
		}
		v = strings.Join(strings.Fields(v), " ")
		switch k {
		case "From", "To", "Cc", "Reply-To":
			v = encodeAddresses(v)
		default:
			v = mime.QEncoding.Encode("utf-8", v)
		}
		fmt.Fprintf(&out, "%s: %s\r\n", k, v)
	}
	text := m.conf.Text
	if text == "" {
		text = `{{ template "__text" . }}`
	}
	plain, err := m.tmpl.ExecuteTextString(text, data)
	if err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	mw := multipart.NewWriter(&out)
	fmt.Fprintf(&out, "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=%s\r\n\r\n", mw.Boundary())
	if err := part(mw, "text/plain", plain); err != nil {
		return nil, err
	}
	if m.conf.HTML != "" {
		html, err := m.tmpl.ExecuteHTMLString(m.conf.HTML, data)
		if err != nil {
			return nil, fmt.Errorf("html: %w", err)
		}
		if err := part(mw, "text/html", html); err != nil {
			return nil, err
		}
	}
	if err := mw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// encodeAddresses encodes names and leaves addresses as they are.
func encodeAddresses(s string) string {
	list, err := mail.ParseAddressList(s)
	if err != nil {
		return mime.QEncoding.Encode("utf-8", s)
	}
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}

func part(mw *multipart.Writer, typ, body string) error {
	w, err := mw.CreatePart(textproto.MIMEHeader{
		"Content-Type": {typ + "; charset=UTF-8"}, "Content-Transfer-Encoding": {"quoted-printable"},
	})
	if err != nil {
		return err
	}
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, body); err != nil {
		return err
	}
	return q.Close()
}

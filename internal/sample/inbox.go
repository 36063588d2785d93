package sample

import (
	"bufio"
	"html/template"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// message is one mail or webhook that arrived.
type message struct {
	At   time.Time
	Via  string
	Text string
}

// inbox keeps the newest messages.
type inbox struct {
	mu       sync.Mutex
	messages []message // oldest first
}

const maxMessages = 100

func (b *inbox) add(via, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, message{time.Now(), via, text})
	if n := len(b.messages) - maxMessages; n > 0 {
		b.messages = append([]message(nil), b.messages[n:]...)
	}
}

func (b *inbox) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	}
	b.add("webhook", string(body))
	w.WriteHeader(http.StatusNoContent)
}

// smtp speaks as much of the protocol as a sender of one mail needs.
func (b *inbox) smtp(conn net.Conn) {
	r := bufio.NewReader(io.LimitReader(conn, 1<<20))
	say := func(s string) bool {
		_, err := conn.Write([]byte(s + "\r\n"))
		return err == nil
	}
	if !say("220 sample.test ESMTP") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		ok := true
		switch verb {
		case "EHLO", "HELO":
			ok = say("250 sample.test")
		case "MAIL", "RCPT", "RSET", "NOOP":
			ok = say("250 OK")
		case "DATA":
			if !say("354 go on") {
				return
			}
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimRight(line, "\r\n") == "." {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			b.add("mail", text.String())
			ok = say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			ok = say("502 not here")
		}
		if !ok {
			return
		}
	}
}

var inboxPage = template.Must(template.New("inbox").Parse(`<!doctype html>
<meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Sample inbox</title>
<style>body{font:14px system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem;color-scheme:light dark}pre{white-space:pre-wrap;border:1px solid #8886;padding:.7rem;border-radius:6px;max-height:16rem;overflow:auto}</style>
<h1>Sample inbox</h1><p>What Panoptes delivered to the sample receivers, newest first.</p>
{{range .}}<h3>{{.At.Format "2006-01-02 15:04:05"}} · {{.Via}}</h3><pre>{{.Text}}</pre>{{else}}<p>Nothing yet. The moody page fails for 90 seconds every ten minutes.</p>{{end}}
`))

func (b *inbox) page(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	list := make([]message, 0, len(b.messages))
	for i := len(b.messages) - 1; i >= 0; i-- {
		list = append(list, b.messages[i])
	}
	b.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	// A browser that went away needs no page.
	_ = inboxPage.Execute(w, list)
}

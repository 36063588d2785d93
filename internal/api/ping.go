package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"panoptes/internal/model"
)

var pingParams = []param{{"status", "up or down; up when left out"}, {"msg", "what there is to say"}}

const (
	pingBody     = 10 << 10
	pingRate     = 10 // a second
	pingTokens   = 100_000
	pingTokenLen = 128
	pingMessage  = 1000
)

// pingLimiter bounds heartbeats per token. Only tokens that exist are in it:
// strangers who guess cannot fill it.
type pingLimiter struct {
	mu      sync.Mutex
	byToken map[string]*rate.Limiter // guarded by mu
}

func (p *pingLimiter) allow(token string) bool {
	p.mu.Lock()
	l := p.byToken[token]
	p.mu.Unlock()
	return l == nil || l.Allow()
}

// know begins to count a token that exists.
func (p *pingLimiter) know(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byToken == nil || len(p.byToken) >= pingTokens {
		p.byToken = map[string]*rate.Limiter{}
	}
	if p.byToken[token] == nil {
		l := rate.NewLimiter(pingRate, pingRate)
		l.Allow()
		p.byToken[token] = l
	}
}

// ping takes a heartbeat; its answers are plain text, for scripts.
func (a *API) ping(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	if a.deps.Push == nil || token == "" || len(token) > pingTokenLen {
		text(w, http.StatusNotFound, "unknown token")
		return
	}
	if !a.pings.allow(token) {
		w.Header().Set("Retry-After", "1")
		text(w, http.StatusTooManyRequests, fmt.Sprintf("more than %d heartbeats a second", pingRate))
		return
	}
	status, msg, err := heartbeat(r)
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, model.ErrTooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		text(w, code, err.Error())
		return
	}
	err = a.deps.Push.Ping(token, status, msg)
	switch {
	case errors.Is(err, model.ErrNotFound):
		text(w, http.StatusNotFound, "unknown token")
		return
	case err != nil:
		code, info := describe(err)
		text(w, code, info.Message)
		return
	}
	a.pings.know(token)
	text(w, http.StatusOK, "OK")
}

// heartbeat reads what a request says: by path (start, fail, an exit code), by
// query, or by the body as the message.
func heartbeat(r *http.Request) (status, msg string, err error) {
	q := r.URL.Query()
	status, msg = q.Get("status"), q.Get("msg")
	switch state := r.PathValue("state"); {
	case state == "":
	case state == "start":
		status = "start"
	case state == "fail":
		status = "down"
	case len(state) <= 3 && strings.Trim(state, "0123456789") == "":
		status = "up"
		if strings.Trim(state, "0") != "" {
			status = "down"
			if msg == "" {
				msg = "exit code " + state
			}
		}
	default:
		return "", "", errors.New("after the token comes start, fail or an exit code")
	}
	if status == "" {
		status = "up"
	}
	if status != "up" && status != "down" && status != "start" {
		return "", "", errors.New("status must be up or down")
	}
	if r.Method == http.MethodPost {
		b, err := io.ReadAll(io.LimitReader(r.Body, pingBody+1))
		if err != nil {
			return "", "", errors.New("the body could not be read to its end")
		}
		if len(b) > pingBody {
			return "", "", fmt.Errorf("%w: the body has more than %d bytes", model.ErrTooLarge, pingBody)
		}
		if msg == "" {
			msg = strings.TrimSpace(string(b))
		}
	}
	if len(msg) > pingMessage {
		msg = msg[:pingMessage]
	}
	if !utf8.ValidString(msg) {
		msg = strings.ToValidUTF8(msg, "")
	}
	return status, msg, nil
}

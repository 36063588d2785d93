package http

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"panoptes/internal/probe"
)

// token is an access token and its end.
type token struct {
	mu    sync.Mutex // guards both
	value string
	until time.Time
}

// accessToken returns a token by the client credentials grant, kept until
// shortly before it expires. kept tells that it is one from before.
func (p *httpProbe) accessToken(ctx context.Context) (v string, kept bool, err error) {
	p.token.mu.Lock()
	v, until := p.token.value, p.token.until
	p.token.mu.Unlock()
	if v != "" && p.now().Before(until) {
		return v, true, nil
	}
	o := p.cfg.OAuth2
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	if o.Audience != "" {
		form.Set("audience", o.Audience)
	}
	auth := nethttp.Request{Header: nethttp.Header{}}
	auth.SetBasicAuth(url.QueryEscape(o.ClientID), url.QueryEscape(o.ClientSecret.Reveal()))
	req := &request{url: p.tokenURL, method: "POST", host: p.tokenURL.Host, body: form.Encode(), hasBody: true, header: nethttp.Header{
		"Authorization": auth.Header["Authorization"], "User-Agent": userAgent,
		"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"},
	}}
	var st state
	if err := p.exchange(ctx, req, p.render(req), &st); err != nil {
		return "", false, &stageError{"oauth2 token", errors.New(message(err))}
	}
	if st.resp.StatusCode != 200 {
		return "", false, &stageError{"oauth2 token", fmt.Errorf("answered %s", statusText(st.resp))}
	}
	got := gjson.GetManyBytes(st.body, "access_token", "expires_in")
	v = got[0].String()
	if v == "" || strings.ContainsAny(v, "\r\n") {
		return "", false, &stageError{"oauth2 token", errors.New("the answer holds no access_token")}
	}
	left := time.Duration(min(max(got[1].Float(), 0), 86400)) * time.Second
	p.token.mu.Lock()
	p.token.value, p.token.until = v, p.now().Add(left-min(30*time.Second, left/2))
	p.token.mu.Unlock()
	return v, false, nil
}

// refuse forgets a token that the target does not accept: it may have been
// revoked long before its end.
func (p *httpProbe) refuse(v string) {
	p.token.mu.Lock()
	defer p.token.mu.Unlock()
	if p.token.value == v {
		p.token.value = ""
	}
}

var _ probe.Kind = Kind{}

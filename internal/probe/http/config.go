// Package http probes web addresses.
package http

import (
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/condition"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "http".
type Config struct {
	Method        string                  `json:"method,omitempty"`         // default GET
	Headers       map[string]string       `json:"headers,omitempty"`        // sent with every request
	SecretHeaders map[string]model.Secret `json:"secret_headers,omitempty"` // as Headers, not sent to other hosts on redirects
	Body          string                  `json:"body,omitempty"`
	ExpectStatus  []string                `json:"expect_status,omitempty"` // "200-299" (default), "404"
	ExpectBody    string                  `json:"expect_body,omitempty"`   // keyword, or "re:" and an expression
	RejectBody    string                  `json:"reject_body,omitempty"`
	ExpectHeaders map[string]string       `json:"expect_headers,omitempty"` // name → keyword or "re:…"; "" asks for presence
	ExpectJSON    []JSONExpect            `json:"expect_json,omitempty"`
	Conditions    []condition.Line        `json:"conditions,omitempty"`
	MaxRedirects  *int                    `json:"max_redirects,omitempty"` // default 10; 0 follows none
	BasicAuth     *BasicAuth              `json:"basic_auth,omitempty"`
	BearerToken   model.Secret            `json:"bearer_token,omitempty"`
	OAuth2        *OAuth2                 `json:"oauth2,omitempty"`
	TLS           tlsinfo.Config          `json:"tls,omitzero"`
	Proxy         *Proxy                  `json:"proxy,omitempty"`
	IPFamily      string                  `json:"ip_family,omitempty"`      // auto (default), 4, 6
	MaxBodyBytes  int64                   `json:"max_body_bytes,omitempty"` // default and most 1 MiB; what is beyond is not read
	DegradedAfter model.Duration          `json:"degraded_after,omitempty"` // slower answers are degraded
}

// JSONExpect is one statement about a JSON body.
type JSONExpect struct {
	Path  string          `json:"path"` // a.b[0].c
	Op    string          `json:"op"`   // == != < <= > >= contains exists
	Value json.RawMessage `json:"value,omitempty"`
}

// BasicAuth is a name and password.
type BasicAuth struct {
	Username string       `json:"username"`
	Password model.Secret `json:"password,omitempty"`
}

// OAuth2 is the client credentials grant.
type OAuth2 struct {
	TokenURL     string       `json:"token_url"`
	ClientID     string       `json:"client_id"`
	ClientSecret model.Secret `json:"client_secret"`
	Scopes       []string     `json:"scopes,omitempty"`
	Audience     string       `json:"audience,omitempty"`
}

// Proxy is a way to the target.
type Proxy struct {
	URL      string       `json:"url"` // http, https or socks5
	Username string       `json:"username,omitempty"`
	Password model.Secret `json:"password,omitempty"`
}

const maxBody = 1 << 20

// Kind is the type "http".
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "http" }

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	var cfg Config
	if err := probe.Decode(c, &cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	p := &httpProbe{env: env, cfg: cfg, redirects: 10, limit: maxBody}
	u, err := parseURL(c.Target, "http", "https")
	inv.AddErr("target", err)
	p.compileRequest(&inv)
	p.compileExpect(&inv)
	p.compileAuth(&inv)
	host := ""
	if u != nil {
		host = u.Hostname()
	}
	p.tls = cfg.TLS.Compile("http.tls", host, &inv)
	p.tls.NextProtos = []string{"h2", "http/1.1"}
	if cfg.IPFamily != "" && !slices.Contains(probe.Families, cfg.IPFamily) {
		inv.Add("http.ip_family", "must be auto, 4 or 6")
	}
	if cfg.Proxy != nil {
		p.proxy, err = parseURL(cfg.Proxy.URL, "http", "https", "socks5")
		inv.AddErr("http.proxy.url", err)
	}
	if cfg.MaxBodyBytes < 0 || cfg.MaxBodyBytes > maxBody {
		inv.Add("http.max_body_bytes", "must lie between 1 and %d; 0 is the default of %d", maxBody, maxBody)
	} else if cfg.MaxBodyBytes > 0 {
		p.limit = cfg.MaxBodyBytes
	}
	if cfg.DegradedAfter < 0 {
		inv.Add("http.degraded_after", "must not be negative")
	}
	if cfg.MaxRedirects != nil {
		p.redirects = *cfg.MaxRedirects
		if p.redirects < 0 || p.redirects > 10 {
			inv.Add("http.max_redirects", "must lie between 0 (follow none) and 10")
		}
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	p.url = u
	p.first = p.render(p.request(u, p.method, true))
	return p, nil
}

// parseURL reads an absolute URL of one of the schemes.
func parseURL(s string, schemes ...string) (*url.URL, error) {
	if s == "" {
		return nil, fmt.Errorf("must be given, for example %s://www.example.com/", schemes[len(schemes)-1])
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("is no URL; write for example https://www.example.com/")
	}
	switch {
	case !slices.Contains(schemes, u.Scheme):
		return nil, fmt.Errorf("must begin with %s://", strings.Join(schemes, ":// or "))
	case u.Hostname() == "":
		return nil, fmt.Errorf("names no host; write for example https://www.example.com/")
	case u.User != nil:
		return nil, fmt.Errorf("must not contain a user name or password; use the fields for authentication")
	}
	if err := probe.Host(u.Hostname()); err != nil {
		return nil, fmt.Errorf("names no valid host")
	}
	if ps := u.Port(); ps != "" {
		if n, err := strconv.ParseUint(ps, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("port %q must be a number from 1 to 65535", ps)
		}
	}
	u.Fragment = ""
	return u, nil
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func (p *httpProbe) compileRequest(inv *model.Invalid) {
	p.method = p.cfg.Method
	if p.method == "" {
		p.method = "GET"
	}
	if p.method != strings.ToUpper(p.method) || !httpguts.ValidHeaderFieldName(p.method) || len(p.method) > 20 || p.method == "CONNECT" || p.method == "TRACE" {
		inv.Add("http.method", "must be a method in capitals, for example %s", strings.Join(methods, ", "))
	}
	if len(p.cfg.Body) > 64<<10 {
		inv.Add("http.body", "is longer than 64 KiB")
	}
	p.header = nethttp.Header{}
	p.secret = nethttp.Header{}
	add := func(field string, dst nethttp.Header, k, v string) {
		if !httpguts.ValidHeaderFieldName(k) || len(k) > 200 {
			inv.Add(field, "%q is no header name", k)
			return
		}
		if !httpguts.ValidHeaderFieldValue(v) || len(v) > 8192 {
			inv.Add(field+"."+k, "is no header value: up to 8192 bytes without line breaks")
			return
		}
		switch nethttp.CanonicalHeaderKey(k) {
		case "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer":
			inv.Add(field+"."+k, "is set by the check itself; leave it out")
			return
		}
		dst.Set(k, v)
	}
	if len(p.cfg.Headers)+len(p.cfg.SecretHeaders) > 64 {
		inv.Add("http.headers", "has more than 64 entries")
		return
	}
	for k, v := range p.cfg.Headers {
		add("http.headers", p.header, k, v)
	}
	for k, v := range p.cfg.SecretHeaders {
		add("http.secret_headers", p.secret, k, v.Reveal())
	}
	// What signs a person in goes to the target's own host only, wherever it was written.
	for _, k := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if v := p.header.Get(k); v != "" {
			p.secret.Set(k, v)
			p.header.Del(k)
		}
	}
}

func (p *httpProbe) compileAuth(inv *model.Invalid) {
	n := 0
	if b := p.cfg.BasicAuth; b != nil {
		n++
		if b.Username == "" || strings.Contains(b.Username, ":") {
			inv.Add("http.basic_auth.username", "must be given and must not contain a colon")
		}
		r := nethttp.Request{Header: p.secret}
		r.SetBasicAuth(b.Username, b.Password.Reveal())
	}
	if t := p.cfg.BearerToken.Reveal(); t != "" {
		n++
		if !httpguts.ValidHeaderFieldValue(t) {
			inv.Add("http.bearer_token", "must not contain line breaks")
		}
		p.secret.Set("Authorization", "Bearer "+t)
	}
	if o := p.cfg.OAuth2; o != nil {
		n++
		u, err := parseURL(o.TokenURL, "http", "https")
		inv.AddErr("http.oauth2.token_url", err)
		if o.ClientID == "" {
			inv.Add("http.oauth2.client_id", "must be given")
		}
		p.tokenURL = u
	}
	if n > 1 {
		inv.Add("http.basic_auth", "only one of basic_auth, bearer_token and oauth2 can be used")
	}
}

// Package remote joins this server to a time series engine outside: it sends
// what the relay's log holds by remote write, and passes queries on to the
// engine's Prometheus API.
package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config names the engine. The zero value of a field means its default.
type Config struct {
	WriteURL string                  // takes remote write, such as http://engine:9090/api/v1/write
	QueryURL string                  // has /api/v1/query below it
	Version  int                     // of remote write: 1, or 2 for engines that understand it; default 1
	Headers  map[string]model.Secret // sent with every request, such as X-Scope-OrgID or Authorization

	Parallel      int           // requests on their way at once, of different series; default 8
	WriteTimeout  time.Duration // of one request; default 30 s
	QueryTimeout  time.Duration // default 2 min
	MaxConcurrent int           // queries at once; default 20
}

func (c Config) withDefaults() Config {
	set(&c.Version, version1)
	set(&c.Parallel, 8)
	set(&c.WriteTimeout, 30*time.Second)
	set(&c.QueryTimeout, 2*time.Minute)
	set(&c.MaxConcurrent, 20)
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate names what is wrong; it returns nil or a model.Invalid.
func (c Config) Validate() error {
	var inv model.Invalid
	checkURL(&inv, "write_url", c.WriteURL)
	checkURL(&inv, "query_url", c.QueryURL)
	for name, value := range c.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "":
			inv.Add("headers", "a name is empty")
		case "Host", "Content-Type", "Content-Encoding", "Content-Length", "Connection", "Transfer-Encoding", "X-Prometheus-Remote-Write-Version":
			inv.Add("headers."+name, "is set by this program")
		}
		if strings.ContainsAny(name, " \r\n:") || strings.ContainsAny(value.Reveal(), "\r\n") {
			inv.Add("headers."+name, "must be one line, its name without spaces and colons")
		}
	}
	if c.Version != version1 && c.Version != version2 {
		inv.Add("version", "must be 1 or 2")
	}
	if c.Parallel < 0 || c.Parallel > 50 {
		inv.Add("parallel", "must lie between 1 and 50")
	}
	if c.WriteTimeout < 0 || c.QueryTimeout < 0 || c.MaxConcurrent < 0 {
		inv.Add("write_timeout", "and query_timeout and max_concurrent must not be negative")
	}
	return inv.Err()
}

func checkURL(inv *model.Invalid, field, raw string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		inv.Add(field, "is missing; it names the engine that keeps the samples")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		inv.Add(field, "must be an http or https URL")
	}
}

// Deps are the engine's collaborators; all may be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Transport  http.RoundTripper     // nil: one of its own, without proxies
}

// Engine is the engine outside. It is what the relay calls an outside
// destination (Appender, Err), and it answers queries (Handler).
type Engine struct {
	cfg    Config
	log    *slog.Logger
	m      *metrics
	client *http.Client
	own    *http.Transport // nil when it was given
	query  *url.URL
	turns  chan struct{} // one for each query at once

	metadata described // for version 2

	nextRef atomic.Uint64
	err     atomic.Pointer[error] // why nothing is taken at the moment

	mu      sync.Mutex // guards the fields below
	refused int64
	example string
	told    time.Time // when a refusal was logged
}

// New checks cfg. It connects to nothing and starts nothing.
func New(cfg Config, deps Deps) (*Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, log: deps.Logger, m: newMetrics(deps.Registerer), turns: make(chan struct{}, cfg.MaxConcurrent)}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.query, err = url.Parse(cfg.QueryURL); err != nil {
		return nil, fmt.Errorf("parse query_url: %w", err)
	}
	transport := deps.Transport
	if transport == nil {
		e.own = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConnsPerHost: cfg.Parallel + cfg.MaxConcurrent, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		}
		transport = e.own
	}
	e.client = &http.Client{
		Transport: transport, Timeout: cfg.WriteTimeout,
		// A redirected write would lose its body or go to where nobody meant it to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

// Close ends idle connections.
func (e *Engine) Close() {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
}

// Err says why the engine takes nothing at the moment; nil when it does.
func (e *Engine) Err() error {
	if p := e.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Status is how sending does, for health pages.
type Status struct {
	Err     string `json:"error,omitempty"`   // why nothing is taken at the moment
	Refused int64  `json:"refused"`           // samples in requests that the engine refused for good
	Example string `json:"example,omitempty"` // the newest reason
}

// Status answers from what is known; it asks nobody.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := Status{Refused: e.refused, Example: e.example}
	if err := e.Err(); err != nil {
		st.Err = err.Error()
	}
	return st
}

func (e *Engine) headers(h http.Header) {
	for name, value := range e.cfg.Headers {
		h.Set(name, value.Reveal())
	}
}

var errCommitted = errors.New("the appender has ended")

// Package api is the whole HTTP surface of a server: the JSON API, the live
// stream, the pages, and the places where other parts' handlers are mounted.
// Every route stands in one table (see routes), from which authorisation and
// the OpenAPI document are made.
package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config is what an operator may set.
type Config struct {
	ServerName     string         // shown in the pages' head
	Version        string         // of the program
	Node           string         // id of this server
	BasePath       string         // "/panoptes" behind a proxy that does not strip it; empty at the root
	ExternalURL    string         // how browsers reach the pages; its origin is trusted
	TrustedProxies []netip.Prefix // whose X-Forwarded-* headers are believed; nil means loopback
	OpenMetrics    bool           // loopback may read /metrics without credentials
	Ring           int            // events that the stream can resume over; 10,000 when 0
	KeepAlive      time.Duration  // between two comments of the stream; 15 s when 0
}

// Deps are the collaborators of New. Auth and Catalog are needed; what another
// nil part would answer is answered with 503, without Cluster with 404.
type Deps struct {
	Auth         Auth
	Catalog      Catalog
	Checks       Checks
	Receivers    Receivers
	Events       Events
	Push         Push
	Cluster      Cluster // nil: there are no nodes and tokens
	Hosts        Hosts   // nil: there are no hosts
	Rules        Rules
	Scrapes      Scrapes
	Health       func(context.Context) Health
	SelfRules    func() []SelfRule // may be nil
	Ready        func() error
	Reload       func(context.Context) error
	Audit        func(context.Context, model.Event)
	Query        http.Handler // Prometheus' /api/v1/* and /federate
	Backups      Backups
	Pushgateway  http.Handler // Pushgateway's /metrics/job/* and its lists
	Ingest       http.Handler // POST /api/v1/write and /api/v1/otlp/v1/metrics
	Alertmanager http.Handler // /api/v2/*; alerts and silences go through it too
	Releases     Releases     // the programs of agents
	Metrics      http.Handler // /metrics
	Profile      http.Handler // /debug/pprof/*, for administrators
	UI           fs.FS        // the built pages, with index.html at the root; nil or empty: a page that says so
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// API answers HTTP requests.
type API struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	mux      *http.ServeMux
	table    []route
	openap   []byte
	csrf     *http.CrossOriginProtection
	hub      *hub
	checks   checkCache
	pages    *pages
	pings    pingLimiter
	nodes    nodeCache
	checking sync.Mutex // held while copies are compared
	count    *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// New builds the table of routes. It starts nothing.
func New(cfg Config, deps Deps) (*API, error) {
	if deps.Auth == nil || deps.Catalog == nil {
		return nil, errors.New("api: Deps.Auth and Deps.Catalog are needed")
	}
	cfg.BasePath = strings.TrimRight(cfg.BasePath, "/")
	if cfg.BasePath != "" && !validPrefix(cfg.BasePath) {
		return nil, model.Invalid{{Field: "base_path", Msg: "must be a path like /panoptes"}}
	}
	if cfg.TrustedProxies == nil {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 15 * time.Second
	}
	if cfg.Ring == 0 {
		cfg.Ring = 10_000
	}
	a := &API{cfg: cfg, deps: deps, log: deps.Logger, csrf: http.NewCrossOriginProtection(), hub: newHub(cfg.Ring), nodes: nodeCache{turn: make(chan struct{}, 1)}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.deps.Audit == nil {
		a.deps.Audit = func(context.Context, model.Event) {}
	}
	if cfg.ExternalURL != "" {
		u, err := url.Parse(cfg.ExternalURL)
		if err != nil || u.Host == "" {
			return nil, model.Invalid{{Field: "external_url", Msg: "must be a URL like https://panoptes.example/"}}
		}
		if err := a.csrf.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("trust the origin of external_url: %w", err)
		}
	}
	var err error
	if a.pages, err = newPages(deps.UI); err != nil {
		return nil, err
	}
	if err := a.metrics(deps.Registerer); err != nil {
		return nil, err
	}
	a.table = a.routes()
	if a.openap, err = openAPI(a.table, cfg.Version); err != nil {
		return nil, fmt.Errorf("make the OpenAPI document: %w", err)
	}
	a.mux = http.NewServeMux()
	for i := range a.table {
		a.mux.Handle(a.table[i].pattern, a.serve(&a.table[i]))
	}
	return a, nil
}

func (a *API) metrics(reg prometheus.Registerer) error {
	a.count = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "panoptes_api_requests_total", Help: "Requests by route and status.",
	}, []string{"route", "status"})
	a.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "panoptes_api_request_duration_seconds", Help: "Time that requests took, streams excepted.",
		Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
	}, []string{"route"})
	if reg == nil {
		return nil
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "panoptes_api_streams", Help: "Open live streams.",
	}, func() float64 { return float64(a.hub.open()) })
	for _, c := range []prometheus.Collector{a.count, a.took, streams} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics of api: %w", err)
		}
	}
	return nil
}

// Handler answers all requests. It may be served before Run.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.root) }

// Run feeds the stream until ctx ends, then ends all streams cleanly.
func (a *API) Run(ctx context.Context) error {
	defer a.hub.close()
	if a.deps.Events != nil {
		cancel := a.deps.Events.Subscribe(a.publishEvent)
		defer cancel()
	}
	if a.deps.Cluster != nil {
		var wg sync.WaitGroup
		wg.Go(func() { a.watchCluster(ctx) })
		defer wg.Wait()
	}
	if a.deps.Health == nil {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(a.cfg.KeepAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			a.publishHealth(a.deps.Health(ctx))
		}
	}
}

// NewServer returns a server for the handler with the limits of strangers:
// header size and time, idle time. There is no limit on writing, which a
// stream would break.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

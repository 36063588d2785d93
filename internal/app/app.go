// Package app composes a server: it opens every part, hands each the others
// behind the small interfaces they ask for, and runs them in tiers. It decides
// nothing that a part could decide.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"panoptes/internal/alert"
	"panoptes/internal/api"
	"panoptes/internal/auth"
	"panoptes/internal/catalog"
	"panoptes/internal/config"
	"panoptes/internal/control"
	"panoptes/internal/history"
	"panoptes/internal/ingest"
	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/probe/push"
	"panoptes/internal/query"
	"panoptes/internal/run"
	"panoptes/internal/sample"
	"panoptes/internal/store"
	"panoptes/internal/verdict"
	"panoptes/ui"
)

// Options are what a server needs beside its configuration file.
type Options struct {
	Version string
	Logger  *slog.Logger // nil: silent
	Sample  bool         // serve sample targets and watch them
	Notice  io.Writer    // told where the pages are, and a generated password; nil: nobody

	// CheckControl looks at the configuration store's files before they are
	// opened; nil: VerifyCommand of this program in a child process, unless the
	// directory is new.
	CheckControl func(ctx context.Context, dir string) error
}

// App is one server.
type App struct {
	cfg    config.Config
	opts   Options
	log    *slog.Logger
	notice io.Writer
	lock   *flock.Flock
	listen net.Listener

	registry *prometheus.Registry
	control  *control.Control // nil when its files are damaged
	catalog  *catalog.Catalog
	store    *store.Store
	history  *history.History
	query    *query.Query
	ingest   *ingest.Ingest
	worker   *probe.Worker
	push     *push.Receiver
	verdict  *verdict.Engine
	notify   *notify.Notify
	alerting *alert.Alerting
	auth     *auth.Auth
	api      *api.API
	sample   *sample.Targets // nil without Options.Sample

	results *results
	bridge  *bridge
	events  *recorder
	checks  *checks
	health  *health
	beats   *heartbeats
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	settled atomic.Bool   // the first records are there
	started chan struct{} // closed once the parts watch what the catalog says
}

// New locks the data directory, opens what must be open and binds the
// listener. Nothing runs before Run; an App that is not run must be closed.
func New(cfg config.Config, opts Options) (a *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Notice == nil {
		opts.Notice = io.Discard
	}
	a = &App{cfg: cfg, opts: opts, log: opts.Logger, notice: opts.Notice, registry: prometheus.NewRegistry(), started: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.lock, err = lockDir(cfg.DataDir); err != nil {
		return a, err
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_build_info", Help: "1, with the version of the program.", ConstLabels: prometheus.Labels{"version": opts.Version}})
	info.Set(1)
	a.registry.MustRegister(info)
	for _, open := range []func() error{a.openListener, a.openCatalog, a.openStorage, a.openWatch, a.openAlerting, a.openAPI} {
		if err := open(); err != nil {
			return a, err
		}
	}
	return a, nil
}

// Close gives up what New opened. Run does so itself.
func (a *App) Close() error {
	var errs []error
	if a.listen != nil {
		if err := a.listen.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.alerting != nil {
		a.alerting.Close()
	}
	if a.history != nil {
		a.history.Close()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}

// URL is where the pages are.
func (a *App) URL() string {
	scheme := "http"
	if a.cfg.TLS.CertFile != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(a.listen.Addr().String())
	if err != nil {
		return scheme + "://" + a.listen.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// Started is closed once the server watches.
func (a *App) Started() <-chan struct{} { return a.started }

// Run serves until ctx ends.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	a.log.Info("server starting", "version", a.opts.Version, "node", a.cfg.Node, "data_dir", a.cfg.DataDir, "url", a.URL())
	fmt.Fprintf(a.notice, "Panoptes %s: open %s in a browser.\n", a.opts.Version, a.URL())
	tiers := [][]run.Runner{
		{runner(a.control), a.catalog},
		{a.store, a.history, a.query, a.events},
		{a.alerting},
		{a.verdict, a.results, a.bridge},
		{a.worker, a.auth, a.api, run.Func(a.configure), run.Func(a.bootstrap),
			&selfMonitor{node: a.cfg.Node, gatherer: a.registry, append: a.store.Append, extra: a.verdict.Collect, log: a.log}},
		{run.Func(a.serve)},
	}
	if a.sample != nil {
		tiers = append([][]run.Runner{{a.sample}}, tiers...)
	}
	err := run.Tiers(ctx, tiers)
	a.log.Info("server stopped", "err", err)
	return err
}

// runner keeps a nil *control.Control from becoming a non-nil interface.
func runner(c *control.Control) run.Runner {
	if c == nil {
		return nil
	}
	return c
}

func (a *App) openListener() (err error) {
	addr := a.cfg.Addr(a.cfg.Listen)
	if a.listen, err = net.Listen("tcp", addr); err != nil {
		return fmt.Errorf("listen on %s: %w (choose another port with --listen or --port-offset)", addr, err)
	}
	if a.opts.Sample {
		if a.sample, err = sample.New(sample.BasePort+a.cfg.PortOffset, a.cfg.DataDir, a.logger("sample")); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) logger(component string) *slog.Logger { return a.log.With("component", component) }

func (a *App) openCatalog() error {
	dir := a.cfg.Path("control")
	var kv catalog.Store
	check := a.opts.CheckControl
	if check == nil {
		check = verifyInChild
	}
	if err := check(context.Background(), dir); err != nil {
		// Watching and warning go on from the last seen copy; only a person may
		// decide to give up the store.
		a.log.Error("configuration store damaged, it stays closed", "dir", dir, "err", err)
		kv = brokenStore{err: fmt.Errorf("%w: the configuration store in %s is damaged (%w); restore it from a backup; without one, save the records seen last with `panoptes export`, move the directory away, start again and apply them", model.ErrUnavailable, dir, err)}
	} else {
		a.control, err = control.New(control.Config{
			Dir: dir, NodeID: a.cfg.Node, ClusterID: "panoptes", PeerAddr: a.cfg.Addr(a.cfg.PeerListen),
			MinFreeBytes: int64(a.cfg.Storage.MinFree) / 2, ReserveBytes: int64(a.cfg.Storage.ControlReserve),
		}, control.Deps{Logger: a.logger("control"), Registerer: a.registry})
		if err != nil {
			return fmt.Errorf("open the configuration store: %w", err)
		}
		kv = a.control
	}
	var err error
	a.catalog, err = catalog.New(catalog.Config{LastSeenPath: a.cfg.Path("catalog.json"), KeyPath: a.cfg.Path("seal.key")},
		catalog.Deps{Store: kv, Kinds: kinds(all.Kinds()), Audit: a.auditAll, Logger: a.logger("catalog"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the catalog: %w", err)
	}
	return nil
}

func (a *App) openStorage() (err error) {
	a.store, err = store.New(store.Config{
		Dir: a.cfg.Path("tsdb"), RetentionTime: a.cfg.Storage.RetentionTime.D(), RetentionSize: int64(a.cfg.Storage.RetentionSize),
		OutOfOrderWindow: a.cfg.Storage.OutOfOrderWindow.D(), MinFreeBytes: int64(a.cfg.Storage.MinFree),
		ReserveBytes: min(64<<20, int64(a.cfg.Storage.ControlReserve)),
	}, store.Deps{Logger: a.logger("store"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	a.history, err = history.New(history.Config{Path: a.cfg.Path("history.db"), Retention: a.cfg.History.Retention.D()},
		history.Deps{Logger: a.logger("history"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	a.events = newRecorder(a.history, a.logger("events"), a.registry)
	a.query, err = query.New(query.Config{
		MaxSamples: a.cfg.Query.MaxSamples, MaxConcurrent: a.cfg.Query.MaxConcurrent, MaxSeries: a.cfg.Query.MaxSeries,
		Timeout: a.cfg.Query.Timeout.D(), Dir: a.cfg.DataDir,
	}, query.Deps{
		Storage: a.store, Stats: a.store, Gatherer: a.registry, Logger: a.logger("query"), User: userOf,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "query"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the query engine: %w", err)
	}
	a.ingest, err = ingest.New(ingest.Config{MaxSeriesPerSource: a.cfg.Ingest.SeriesPerSource}, ingest.Deps{Appendable: a.store, Source: userOf, Logger: a.logger("ingest"), Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "ingest"}, a.registry)})
	if err != nil {
		return fmt.Errorf("open the write endpoints: %w", err)
	}
	return nil
}

// ports that checks and webhooks never reach on this machine.
func (a *App) ownPorts() []int {
	var ports []int
	for _, p := range []int{9701, 9702, 9703, 9704} {
		ports = append(ports, p+a.cfg.PortOffset)
	}
	return ports
}

func (a *App) openWatch() (err error) {
	dialer := probe.NewDialer(probe.Policy{AllowLoopback: a.cfg.Probe.AllowLoopback, AllowPrivate: !a.cfg.Probe.DenyPrivate, DenyPorts: a.ownPorts()})
	a.beats = newHeartbeats(a.cfg.Path("heartbeats.json"))
	a.push = a.beats.receiver
	a.results = newResults(a.store.Append, a.logger("results"), a.registry)
	a.worker, err = probe.NewWorker(probe.WorkerConfig{Node: a.cfg.Node, Region: a.cfg.Region}, probe.WorkerDeps{
		Kinds: all.Kinds(), Env: &probe.Env{Dialer: dialer, Now: time.Now, Heartbeats: a.push}, Sink: a.results, References: func() []string { return a.cfg.Probe.References },
		Logger: a.logger("probe"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the worker: %w", err)
	}
	a.bridge = newBridge(a.events, a.logger("bridge"))
	a.verdict, err = verdict.New(verdict.Config{Node: a.cfg.Node}, verdict.Deps{
		Prober: localProber{a.worker, a.cfg.Region}, Regions: a.regions, Record: a.bridge.transition,
		Logger: a.logger("verdict"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the verdict engine: %w", err)
	}
	a.results.observe = a.verdict.Observe
	a.checks = newChecks(a)
	a.bridge.seen = a.checks.seen
	a.dial = dialer.DialContext
	return nil
}

func (a *App) openAlerting() (err error) {
	a.notify, err = notify.New(notify.Config{ExternalURL: a.externalURL()}, notify.Deps{Dialer: a.dial, Record: a.events.record, Logger: a.logger("notify"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("make the notifier: %w", err)
	}
	a.alerting, err = alert.New(alert.Config{Dir: a.cfg.Path("alert")}, alert.Deps{
		Receivers: a.notify, Record: a.events.record, Logger: a.logger("alert"),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "alert"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the alerting part: %w", err)
	}
	a.bridge.put = a.alerting.Put
	a.bridge.externalURL = a.externalURL()
	return nil
}

func (a *App) externalURL() string {
	if a.cfg.ExternalURL != "" {
		return a.cfg.ExternalURL
	}
	return a.URL()
}

func (a *App) openAPI() (err error) {
	a.auth, err = auth.New(auth.Config{DataDir: a.cfg.DataDir, AdminPassword: a.cfg.Access.AdminPassword.Reveal(), APIKey: a.cfg.Access.APIKey.Reveal()},
		auth.Deps{Catalog: a.catalog, Audit: a.audit, Out: a.notice, Logger: a.logger("auth"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open sessions: %w", err)
	}
	a.health = newHealth(a)
	a.api, err = api.New(api.Config{
		ServerName: a.cfg.Node, Version: a.opts.Version, Node: a.cfg.Node, BasePath: a.cfg.BasePath, ExternalURL: a.cfg.ExternalURL, OpenMetrics: a.cfg.Access.PublicMetrics,
	}, api.Deps{
		Auth: a.auth, Catalog: catalogForAPI{a.catalog}, Checks: a.checks, Receivers: receiversForAPI{a.alerting}, Events: a.history, Push: a.beats,
		Health: a.health.report, Ready: a.ready, Reload: a.reload, Audit: a.audit,
		Query: a.query.Handler(), Ingest: a.ingest.Handler(), Alertmanager: a.alerting.Handler(),
		Metrics: promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}),
		Profile: profiles(), UI: ui.Files(), Logger: a.logger("api"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the API: %w", err)
	}
	return nil
}

// auditPatience is how long a change waits for its audit events when the
// history does not take them.
const auditPatience = 3 * time.Second

// auditAll stores audit events before their changes are answered. The changes
// have been made already: what the history does not take in time waits.
func (a *App) auditAll(ctx context.Context, events ...model.Event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditPatience)
	defer cancel()
	for group := range slices.Chunk(events, 500) {
		if err := a.events.tryStore(ctx, group); err != nil {
			a.log.Error("audit events wait", "events", len(group), "subject", group[0].Subject, "actor", group[0].Actor, "err", err)
			for _, e := range group {
				a.events.record(e)
			}
		}
	}
}

func (a *App) audit(ctx context.Context, e model.Event) { a.auditAll(ctx, e) }

// ready says why the server does not serve yet.
func (a *App) ready() error {
	select {
	case <-a.started:
		// Without a configuration store nobody waits for its first records.
		if !a.settled.Load() && a.catalog.Writable() == nil {
			return fmt.Errorf("%w: the first records are being made", model.ErrUnavailable)
		}
		return nil
	default:
	}
	select {
	case <-a.catalog.Ready():
	default:
		return fmt.Errorf("%w: the configuration is being read", model.ErrUnavailable)
	}
	select {
	case <-a.store.Ready():
	default:
		return fmt.Errorf("%w: the sample log is being replayed", model.ErrUnavailable)
	}
	return fmt.Errorf("%w: checks are being taken up", model.ErrUnavailable)
}

// dataExists reports whether dir holds anything.
func dataExists(dir string) bool {
	entries, err := os.ReadDir(filepath.Clean(dir))
	return err == nil && len(entries) > 0
}

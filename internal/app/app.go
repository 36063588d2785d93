// Package app composes a server: it opens every part, hands each the others
// behind the small interfaces they ask for, and runs them in tiers. It decides
// nothing that a part could decide.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"panoptes/internal/alert"
	"panoptes/internal/api"
	"panoptes/internal/auth"
	"panoptes/internal/backup"
	"panoptes/internal/catalog"
	"panoptes/internal/cluster"
	"panoptes/internal/config"
	"panoptes/internal/control"
	"panoptes/internal/history"
	"panoptes/internal/hosts"
	"panoptes/internal/ingest"
	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/pki"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/probe/push"
	"panoptes/internal/pushgateway"
	"panoptes/internal/query"
	"panoptes/internal/relay"
	"panoptes/internal/release"
	"panoptes/internal/remote"
	"panoptes/internal/replica"
	"panoptes/internal/rules"
	"panoptes/internal/run"
	"panoptes/internal/sample"
	"panoptes/internal/scrape"
	"panoptes/internal/selfwatch"
	"panoptes/internal/store"
	"panoptes/internal/verdict"
	"panoptes/internal/wire"
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
	began  time.Time

	listen     net.Listener // pages and API
	wireListen net.Listener // other servers and agents
	wireServer *wire.Server
	wireClient *wire.Client
	wireAddrs  atomic.Pointer[map[string]string] // where other servers answer, by node id

	pki         *pki.PKI
	authority   *pki.Authority
	rollover    *pki.Rollover // nil when the configuration store is damaged
	welcome     welcome       // what this server was told when it joined
	cluster     *cluster.Cluster
	membersWake chan struct{}
	placement   *placement

	registry *prometheus.Registry
	control  *control.Control // nil when its files are damaged
	catalog  *catalog.Catalog
	store    *store.Store
	history  *history.History
	engine   *remote.Engine // nil unless samples go to an engine outside
	bucket   backup.Bucket  // nil without one
	uploader *backup.Uploader
	backups  *backups
	quiet    quiet
	relay    *relay.Relay
	replica  *replica.Replica
	query    *query.Query
	forward  *forwarder
	ingest   *ingest.Ingest
	worker   *probe.Worker
	push     *push.Receiver
	verdict  *verdict.Engine
	notify   *notify.Notify
	alerting *alert.Alerting
	auth     *auth.Auth
	api      *api.API
	release  *release.Release
	rollout  rollout
	sample   *sample.Targets // nil without Options.Sample

	results *results
	fanout  *fanout
	prober  *prober
	bridge  *bridge
	regions *regionAlerts
	scrape  *scrape.Scraper
	rules   *rules.Rules
	pushes  *pushgateway.Pushgateway
	self    *selfwatch.Watch

	fleet      *hosts.Hosts
	usage      *hosts.Usage
	hostAlerts *hostAlerts
	hostsView  hostsView
	nodeCache  nodeCache
	groups     atomic.Pointer[[]model.HostGroup]
	plan       atomic.Pointer[map[string][]string] // ids of checks by worker
	agentsWake chan struct{}

	events   *recorder
	checks   *checks
	health   *health
	beats    *heartbeats
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	watching atomic.Bool  // checks were taken up
	placed   atomic.Int64 // checks that the worker here runs
	members  atomic.Pointer[[]control.ControlMember]
	quorum   quorum
	anew     chan struct{}            // closed when the process must begin anew
	revoked  atomic.Pointer[[]string] // ids of nodes that were removed
	known    chan struct{}            // closed once it is known to whom samples and events are sent
	knowOnce sync.Once
	rejoin   chan struct{} // the configuration store must connect anew
	stopping atomic.Bool   // the end has begun
	placeMu  sync.Mutex    // one placement at a time
	settled  atomic.Bool   // the first records are there
	started  chan struct{} // closed once the parts watch what the catalog says
}

// New locks the data directory, opens what must be open and binds the
// listener. A server that joins a cluster does so here, until ctx ends. Nothing
// runs before Run; an App that is not run must be closed.
func New(ctx context.Context, cfg config.Config, opts Options) (a *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Notice == nil {
		opts.Notice = io.Discard
	}
	a = &App{began: time.Now(), cfg: cfg, opts: opts, log: opts.Logger, notice: opts.Notice, registry: prometheus.NewRegistry(), started: make(chan struct{}), known: make(chan struct{}), membersWake: make(chan struct{}, 1), anew: make(chan struct{}), rejoin: make(chan struct{}, 1)}
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
	identity := func() error { return a.openIdentity(ctx) }
	steps := []func() error{a.openListener, identity, a.openCatalog, a.openCluster, a.openStorage, a.openWatch, a.openAlerting, a.openPlatform, a.openHosts, a.openSelf, a.openBackups, a.openRelease, a.openAPI, a.openAuthority, a.openRollover, a.handle}
	if cfg.Witness {
		steps = []func() error{a.openListener, identity, a.openWitness}
	}
	for _, open := range steps {
		if err := open(); err != nil {
			return a, err
		}
	}
	return a, nil
}

// Close gives up what New opened. Run does so itself.
func (a *App) Close() error {
	var errs []error
	for _, l := range []net.Listener{a.listen, a.wireListen} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.cluster != nil {
		a.cluster.Close()
	}
	if a.alerting != nil {
		a.alerting.Close()
	}
	if a.history != nil {
		a.history.Close()
	}
	if a.engine != nil {
		a.engine.Close()
	}
	if a.bucket != nil {
		errs = append(errs, a.bucket.Close())
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

// Anew is closed when the process must begin anew. Run ends then, unless what is
// left of the configuration store keeps it: everything on disk may be left as it is.
func (a *App) Anew() <-chan struct{} { return a.anew }

// Run serves until ctx ends.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	if a.cfg.Witness {
		return a.runWitness(ctx)
	}
	a.log.Info("server starting", "version", a.opts.Version, "node", a.cfg.Node, "data_dir", a.cfg.DataDir, "url", a.URL())
	fmt.Fprintf(a.notice, "Panoptes %s: open %s in a browser.\n", a.opts.Version, a.URL())
	tiers := [][]run.Runner{
		{a.pki, a.wireClient, a.wireServer},
		{runner(a.control), a.catalog},
		{a.cluster},
		{a.store, a.history},
		{a.relay},
		{a.replica, a.query, a.events, uploader(a.uploader)},
		{a.alerting},
		{a.scrape, a.rules, a.pushes},
		{a.verdict, a.results, a.fanout, a.bridge, a.regions, a.beats, a.fleet, a.hostAlerts},
		{rollover(a.rollover), a.worker, a.auth, a.api, a.self, run.Func(a.configure), run.Func(a.bootstrap), run.Func(a.rollouts), run.Func(a.followMembers), run.Func(a.followAgents), run.Func(a.lookAtControl),
			&selfMonitor{node: a.cfg.Node, gatherer: a.registry, append: a.relay.Append, extra: a.verdict.Collect, log: a.log}},
		{run.Func(a.serve), run.Func(a.drainAtEnd)},
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

// uploader keeps a nil *backup.Uploader from becoming a non-nil interface.
func uploader(u *backup.Uploader) run.Runner {
	if u == nil {
		return nil
	}
	return u
}

// rollover keeps a nil *pki.Rollover from becoming a non-nil interface.
func rollover(r *pki.Rollover) run.Runner {
	if r == nil {
		return nil
	}
	return r
}

func (a *App) openListener() (err error) {
	addr := a.cfg.Addr(a.cfg.Listen)
	if a.listen, err = net.Listen("tcp", addr); err != nil {
		return fmt.Errorf("listen on %s: %w%s", addr, err, listenHelp(err, "--listen"))
	}
	if a.opts.Sample {
		if a.sample, err = sample.New(sample.BasePort+a.cfg.PortOffset, a.cfg.DataDir, a.logger("sample")); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) logger(component string) *slog.Logger { return a.log.With("component", component) }

// sealKeyLost is an error when the key of sealed secrets was there once. A new
// one would make secrets that the other servers cannot open.
func (a *App) sealKeyLost() error {
	path := a.cfg.Path("seal.key")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or the catalog says what is wrong
	}
	if !a.welcomed() && !dataExists(a.cfg.Path("control", "member")) {
		return nil
	}
	return fmt.Errorf("%w: %s, the key of the sealed secrets of records, is gone; copy it from the data directory of another server or from a backup; when it is lost for good, write 32 random bytes there and enter all secrets again", model.ErrConflict, path)
}

func (a *App) openCatalog() error {
	if err := a.sealKeyLost(); err != nil {
		return err
	}
	dir := a.cfg.Path("control")
	var kv catalog.Store
	if err := errors.Join(a.lostControl(), a.verifyControl()); err != nil {
		// Watching and warning go on from the last seen copy; only a person may
		// decide to give up the store.
		a.log.Error("configuration store damaged, it stays closed", "dir", dir, "err", err)
		kv = brokenStore{err: fmt.Errorf("%w: the configuration store in %s is damaged (%w); %s", model.ErrUnavailable, dir, err, a.controlRemedy())}
	} else {
		a.control, err = control.New(a.controlConfig(), control.Deps{Logger: a.logger("control"), Registerer: a.registry, NodeName: a.nodeName, Verify: a.verifyPeer})
		if err != nil {
			return fmt.Errorf("open the configuration store: %w", err)
		}
		kv = a.control
	}
	fileDirs, err := a.filesDirs()
	if err != nil {
		return err
	}
	a.catalog, err = catalog.New(catalog.Config{LastSeenPath: a.cfg.Path("catalog.json"), KeyPath: a.cfg.Path("seal.key")},
		catalog.Deps{Store: kv, Kinds: kinds(all.Kinds(), fileDirs), Audit: a.auditAll, Logger: a.logger("catalog"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the catalog: %w", err)
	}
	return nil
}

func (a *App) openStorage() (err error) {
	hold, err := a.openBucket()
	if err != nil {
		return err
	}
	outside, err := a.openEngine()
	if err != nil {
		return err
	}
	a.store, err = store.New(store.Config{
		Dir: a.cfg.Path("tsdb"), RetentionTime: a.cfg.Storage.RetentionTime.D(), RetentionSize: int64(a.cfg.Storage.RetentionSize),
		OutOfOrderWindow: a.cfg.Storage.OutOfOrderWindow.D(), MinFreeBytes: int64(a.cfg.Storage.MinFree),
		ReserveBytes: min(64<<20, int64(a.cfg.Storage.ControlReserve)),
	}, store.Deps{HoldBlock: hold, Logger: a.logger("store"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	a.history, err = history.New(history.Config{Path: a.cfg.Path("history.db"), Retention: a.cfg.History.Retention.D()},
		history.Deps{Logger: a.logger("history"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	a.relay, err = relay.New(relay.Config{
		Dir: a.cfg.Path("relay"), NodeID: a.pki.NodeID(), MaxBytes: int64(a.cfg.Relay.MaxBytes), MaxAge: a.cfg.Relay.MaxAge.D(), MinFreeBytes: int64(a.cfg.Storage.MinFree),
	}, relay.Deps{
		Outside: outside, Store: a.store, Events: &sink{store: a.history.Append, follow: a.followEvent}, Dial: a.dialNode, Missed: a.missed,
		Logger: a.logger("relay"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open the relay: %w", err)
	}
	a.replica, err = replica.New(replica.Config{Dir: a.cfg.Path("replica"), NodeID: a.pki.NodeID()}, replica.Deps{
		Store: a.store, History: a.history, Dial: a.dialNode, Alive: a.placement.others, Alone: a.alone, Recorded: a.recorded, Fed: a.fed, Lag: a.relay.Lag, Emit: a.relay.AppendEvents,
		Logger: a.logger("replica"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open what keeps the copies whole: %w", err)
	}
	if len(a.welcome.Seeds) > 0 {
		a.replica.Need(time.Time{}, time.Time{}, "this server joined") // is met once
	}
	if len(a.relay.Destinations()) > 0 {
		a.nowKnown() // from before
	}
	a.events = newRecorder(a.appendEvents, a.logger("events"), a.registry)
	if a.cfg.Query.Experimental {
		query.EnableExperimental()
	}
	a.query, err = query.New(query.Config{
		MaxSamples: a.cfg.Query.MaxSamples, MaxConcurrent: a.cfg.Query.MaxConcurrent, MaxSeries: a.cfg.Query.MaxSeries,
		Timeout: a.cfg.Query.Timeout.D(), Dir: a.cfg.DataDir, Server: a.cfg.Node, SlowQuery: a.cfg.Query.LogSlow.D(), CacheBytes: int64(a.cfg.Query.CacheBytes),
	}, query.Deps{
		Storage: a.store, Stats: a.store, Gatherer: a.registry, Logger: a.logger("query"), User: userOf, Bound: boundOf, Incomplete: a.behind, Rules: a.allRules, Metadata: a.metadata,
		Versions: a.store, SeesAll: seesAll, OtherSlow: a.otherSlow,
		Targets:     func(ctx context.Context) v1.TargetRetriever { return a.allTargets(ctx) },
		ScrapePools: func(ctx context.Context) v1.ScrapePoolsRetriever { return a.allTargets(ctx) },

		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "query"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the query engine: %w", err)
	}
	a.ingest, err = ingest.New(ingest.Config{MaxSeriesPerSource: a.cfg.Ingest.SeriesPerSource, OTLP: ingest.OTLP(a.cfg.Ingest.OTLP)}, ingest.Deps{Appendable: a.relay, Broadcast: func(b []byte) { a.cluster.Broadcast("ingest", b) }, Source: userOf, Bound: boundOf, Logger: a.logger("ingest"), Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "ingest"}, a.registry)})
	if err != nil {
		return fmt.Errorf("open the write endpoints: %w", err)
	}
	return nil
}

// ports that checks and webhooks never reach on this machine.
func (a *App) ownPorts() []int {
	var ports []int
	for _, addr := range []string{a.cfg.ClusterListen, a.cfg.GossipListen, a.cfg.PeerListen, a.cfg.ClientListen} {
		if p := portOf(a.cfg.Addr(addr)); p != 0 {
			ports = append(ports, p)
		}
	}
	return ports
}

func (a *App) openWatch() (err error) {
	dialer := probe.NewDialer(probe.Policy{AllowLoopback: a.cfg.Probe.AllowLoopback, AllowPrivate: !a.cfg.Probe.DenyPrivate, DenyPorts: a.ownPorts()})
	a.beats = newHeartbeats(a.cfg.Path("heartbeats.json"))
	a.push = a.beats.receiver
	a.results = newResults(a.relay.Append, a.logger("results"), a.registry)
	a.fanout = newFanout(a.dialNode, a.logger("fanout"), a.registry)
	a.results.tell = a.fanout.send
	a.worker, err = probe.NewWorker(probe.WorkerConfig{Node: a.cfg.Node, Region: a.cfg.Region}, probe.WorkerDeps{
		Kinds: all.Kinds(), Env: &probe.Env{Dialer: dialer, Now: time.Now, Heartbeats: a.push}, Sink: a.results, References: a.references, LastRun: a.lastRun,
		Logger: a.logger("probe"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the worker: %w", err)
	}
	a.bridge = newBridge(a.events, a.logger("bridge"))
	a.regions = newRegionAlerts(a.events, a.logger("regions"))
	a.checks = newChecks(a)
	a.prober = &prober{placement: a.placement, local: a.checks.runHere, lookup: a.checks.lookup, agent: a.probeAgent, dial: a.dialNode}
	a.verdict, err = verdict.New(verdict.Config{Node: a.cfg.Node, Region: a.cfg.Region}, verdict.Deps{
		Prober: a.prober, Regions: a.regionNames, Record: a.bridge.transition, Owns: a.placement.owns, Share: a.fanout.send,
		Workers: a.placement.regionWorkers, Isolated: a.cluster.Isolated, RegionChanged: a.regions.changed,
		Logger: a.logger("verdict"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the verdict engine: %w", err)
	}
	a.results.observe = a.verdict.Observe
	a.regions.adopt = a.verdict.AdoptRegion
	a.bridge.seen, a.bridge.lookup, a.bridge.past = a.checks.seen, a.checks.lookup, a.checks.transitions
	a.dial = dialer.DialContext
	return nil
}

func (a *App) openAlerting() (err error) {
	a.notify, err = notify.New(notify.Config{ExternalURL: a.externalURL()}, notify.Deps{Dialer: a.dial, Record: a.delivery, Logger: a.logger("notify"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("make the notifier: %w", err)
	}
	a.alerting, err = alert.New(alert.Config{Dir: a.cfg.Path("alert")}, alert.Deps{
		Receivers: a.notify, Quiet: a.quiet.on, Record: a.alertEvent, Logger: a.logger("alert"),
		Position: a.placement.position, Broadcast: a.cluster.Broadcast,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "alert"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the alerting part: %w", err)
	}
	a.bridge.put, a.regions.put = a.alerting.Put, a.alerting.Put
	for _, part := range []string{"nflog", "silences"} {
		a.cluster.Part(part, cluster.Part{
			State: func() ([]byte, error) { return a.alerting.State(part) },
			Merge: func(b []byte) error { return a.alerting.Merge(part, b) },
		})
	}
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
		auth.Deps{Catalog: a.catalog, Broadcast: func(b []byte) { a.cluster.Broadcast("sessions", b) }, Audit: a.audit, Out: a.notice, Logger: a.logger("auth"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open sessions: %w", err)
	}
	a.cluster.Part("sessions", cluster.Part{State: a.auth.State, Merge: a.auth.Merge})
	a.cluster.Part("heartbeats", cluster.Part{State: a.beats.state, Merge: a.beats.merge})
	a.beats.share(func(b []byte) { a.cluster.Broadcast("heartbeats", b) })
	a.forward = &forwarder{local: a.query.Handler(), behind: a.behind, whole: a.whole, dial: a.dialNode}
	a.health = newHealth(a)
	a.api, err = api.New(api.Config{
		ServerName: a.cfg.Node, Version: a.opts.Version, Node: a.cfg.Node, BasePath: a.cfg.BasePath, ExternalURL: a.cfg.ExternalURL, OpenMetrics: a.cfg.Access.PublicMetrics,
	}, api.Deps{
		Auth: a.auth, Catalog: catalogForAPI{a.catalog}, Checks: a.checks, Receivers: receiversForAPI{a.alerting}, Events: a.history, Push: a.beats,
		Health: a.health.report, SelfRules: selfRules, Ready: a.ready, Reload: a.reload, Audit: a.audit,
		Cluster: clusterForAPI{a}, Releases: releasesForAPI{a}, Hosts: hostsForAPI{a}, Rules: rulesForAPI{a}, Scrapes: scrapesForAPI{a}, Pushgateway: a.pushes.Handler(), Backups: a.backups, Query: a.queries(), Ingest: a.whenKnown(a.ingest.Handler()), Alertmanager: a.alerting.Handler(),
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

// controlPatience is how long a server that starts waits for its configuration
// store before it serves with what it saw last.
const controlPatience = 5 * time.Second

// ready says why the server does not serve yet.
func (a *App) ready() error {
	select {
	case <-a.started:
		writable := a.catalog.Writable() == nil
		// Without a configuration store nobody waits for its first records.
		if !a.settled.Load() && writable {
			return fmt.Errorf("%w: the first records are being made", model.ErrUnavailable)
		}
		// What is shown until it is open may be older than the last change.
		if a.control != nil && !writable && time.Since(a.began) < controlPatience {
			return fmt.Errorf("%w: the configuration store is being opened", model.ErrUnavailable)
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

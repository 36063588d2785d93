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
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

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
	jobGaps *jobGaps
	self    *selfwatch.Watch

	fleet      *hosts.Hosts
	usage      *hosts.Usage
	hostAlerts *hostAlerts
	ownAddr    func(netip.Addr) bool // of this machine
	hostsView  hostsView
	nodeCache  nodeCache
	groups     atomic.Pointer[[]model.HostGroup]
	plan       atomic.Pointer[map[string][]string] // ids of checks by worker
	agentsWake chan struct{}

	sessions *sessionNews
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
		{a.scrape, a.jobGaps, a.rules, a.pushes},
		{a.verdict, a.results, a.fanout, a.bridge, a.regions, a.beats, a.fleet, a.hostAlerts},
		{rollover(a.rollover), a.worker, a.auth, a.sessions, a.api, a.self, run.Func(a.configure), run.Func(a.bootstrap), run.Func(a.rollouts), run.Func(a.followMembers), run.Func(a.untilTold), run.Func(a.followAgents), run.Func(a.lookAtControl), run.Func(a.lookAtHistory),
			&selfMonitor{node: a.cfg.Node, gatherer: a.registry, append: a.appendSamples, extra: a.verdict.Collect, log: a.log}},
		{run.Func(a.serve), run.Func(a.drainAtEnd), a.backups},
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

// dataExists reports whether dir holds anything.
func dataExists(dir string) bool {
	entries, err := os.ReadDir(filepath.Clean(dir))
	return err == nil && len(entries) > 0
}

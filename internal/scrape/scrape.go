// Package scrape fetches metrics from targets that speak Prometheus: jobs are
// records that hold a scrape_config word for word, every server discovers all
// targets of a job, and after relabelling each server scrapes those that are
// its own.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Config says who scrapes and how quickly changes are taken over. Node is
// required.
type Config struct {
	Node     string        // name of this server: it is shown with its targets, and moves its scrapes to instants of their own
	Region   string        // where it stands
	FileDirs []string      // directories below which jobs may name files; nil = none
	Reload   time.Duration // how long changes of targets and owners are gathered; default 500 ms
	Interval time.Duration // the shortest interval; default MinInterval
}

// Deps are the collaborators of a Scraper. Appendable is required.
type Deps struct {
	// Appendable stores what was scraped. It must honour DiscardOutOfOrder: the
	// engine writes stale markers with it that must not follow newer samples.
	Appendable storage.Appendable
	// Takes says whether this server may be given targets of a job at all. Where
	// it may not, nothing is discovered. nil = always.
	Takes func(Job) bool
	// Owns says whether a target is this server's now. The key is the same on all
	// servers that see the same target. It is called for each target of each job
	// and must be quick. nil = always.
	Owns func(key string, j Job) bool
	// Lacking is told for which jobs this server cannot do its share, at first and
	// at each change: discovery has not answered, or the job does not run though it
	// should. Run waits for it. nil = nobody asks.
	Lacking func(jobs []string)
	// Dial opens the connections to targets and to HTTP discovery; nil = net.Dialer.
	Dial       func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer // the engine registers here too: each Scraper needs its own, wrapped or not; nil = none
}

// Scraper scrapes the targets that are this server's.
type Scraper struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	met     *metrics
	reg     prometheus.Registerer
	manager *engine.Manager
	limit   *readLimit
	fence   *fence
	passage *passage // while Run runs

	changed chan struct{} // of size one: Update was called
	moved   chan struct{} // of size one: owners changed

	mu       sync.RWMutex // guards the fields below
	records  []model.Record
	jobs     map[string]*job // by the record's name; nil before the first are taken over
	problems []Problem       // of records that are not run
	found    map[string]finding
	lacking  []string // jobs, as they were told; nil before
}

// job is a record that is run.
type job struct {
	Job
	conf    *config.ScrapeConfig
	jobName string
	secrets []string // of its ways through the passage
	view    view     // of the last division

	asked      discovery.Configs // its mechanisms of discovery
	mechanisms int               // that answer each for itself
}

// New checks the configuration. It starts nothing.
func New(cfg Config, deps Deps) (*Scraper, error) {
	if cfg.Node == "" || deps.Appendable == nil {
		return nil, errors.New("scrape: a node name and an appendable must be given")
	}
	if cfg.Reload == 0 {
		cfg.Reload = 500 * time.Millisecond
	}
	if cfg.Interval == 0 {
		cfg.Interval = MinInterval
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Takes == nil {
		deps.Takes = func(Job) bool { return true }
	}
	if deps.Owns == nil {
		deps.Owns = func(string, Job) bool { return true }
	}
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{}).DialContext
	}
	s := &Scraper{
		cfg: cfg, deps: deps, log: deps.Logger, reg: deps.Registerer, limit: &readLimit{},
		changed: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		fence: &fence{Appendable: deps.Appendable},
	}
	if s.reg == nil {
		s.reg = prometheus.NewRegistry() // the engine does not do without
	}
	s.limit.set(DefaultBodySize)
	s.met = newMetrics(deps.Registerer, s)
	s.fence.refused = func(err error) {
		s.met.refused.Inc()
		s.log.Debug("scraped sample left out", "err", err)
	}
	var err error
	s.manager, err = engine.NewManager(&engine.Options{
		DiscoveryReloadInterval: pm.Duration(cfg.Reload),
		HTTPClientOptions:       s.clientOptions(),
		AppendMetadata:          true,
	}, slog.New(quiet{s.log.Handler()}), nil, s.fence, s.reg)
	if err != nil {
		return nil, fmt.Errorf("make the scraper: %w", err)
	}
	return s, nil
}

// clientOptions hold for scrapes and for HTTP discovery. HTTP/2 is off: an
// answer could not be cut off by closing its connection.
func (s *Scraper) clientOptions() []commonconfig.HTTPClientOption {
	return []commonconfig.HTTPClientOption{
		commonconfig.WithDialContextFunc(s.limit.dial(s.deps.Dial)),
		commonconfig.WithHTTP2Disabled(),
	}
}

// Update hands over all records of the kind. What is wrong with one is told by
// Snapshot and keeps only that one from running. It does not wait.
func (s *Scraper) Update(records []model.Record) {
	s.mu.Lock()
	s.records = records
	s.mu.Unlock()
	poke(s.changed)
}

// OwnersChanged says that Owns or Takes may answer differently now. It does not
// wait.
func (s *Scraper) OwnersChanged() { poke(s.moved) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// retryProblems is how often jobs that could not run are tried again: a missing
// file may have come.
const retryProblems = 30 * time.Second

// Run discovers and scrapes until ctx ends. The targets are not marked stale
// then: another server goes on with them.
func (s *Scraper) Run(ctx context.Context) error {
	dctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sdMetrics, err := discovery.CreateAndRegisterSDMetrics(s.reg)
	if err != nil {
		return fmt.Errorf("register the metrics of discovery: %w", err)
	}
	finder := discovery.NewManager(dctx, s.log, s.reg, sdMetrics,
		discovery.Name("scrape"), discovery.Updatert(s.cfg.Reload), discovery.HTTPClientOptions(s.clientOptions()...))
	if finder == nil {
		return errors.New("make the discovery manager: its metrics cannot be registered")
	}
	if s.passage, err = newPassage(s.deps.Dial, s.log); err != nil {
		return err
	}
	sets := make(chan map[string][]*targetgroup.Group)
	var wg sync.WaitGroup
	wg.Go(func() { s.passage.run(dctx) })
	wg.Go(func() { _ = finder.Run() }) // only ever says that the context ended
	wg.Go(func() { _ = s.manager.Run(sets) })
	defer func() {
		cancel()
		s.manager.Stop()
		wg.Wait()
		finder.UnregisterMetrics()
		s.manager.UnregisterMetrics()
	}()
	again := time.NewTicker(retryProblems)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if s.hasProblems() {
				s.takeOver(ctx, finder, sets)
			} else if s.tellLacking() {
				s.divide(ctx, sets)
			}
		case <-s.changed:
			s.takeOver(ctx, finder, sets)
		case <-s.moved:
			if s.eligibilityChanged() {
				s.takeOver(ctx, finder, sets)
			} else {
				s.divide(ctx, sets)
			}
		case groups, ok := <-finder.SyncCh():
			if !ok {
				<-ctx.Done()
				return nil
			}
			s.take(groups)
			s.tellLacking()
			s.divide(ctx, sets)
		}
	}
}

// eligibilityChanged says whether Takes answers other than when the jobs were
// taken over.
func (s *Scraper) eligibilityChanged() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, rec := range s.records {
		j, err := decodeJob(rec)
		if err != nil || j.Paused {
			continue
		}
		_, runs := s.jobs[j.Name]
		if runs != s.deps.Takes(j) && !s.isProblem(j.Name) {
			return true
		}
	}
	return false
}

func (s *Scraper) hasProblems() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.problems) > 0
}

func (s *Scraper) isProblem(name string) bool {
	for _, p := range s.problems {
		if p.Job == name {
			return true
		}
	}
	return false
}

// takeOver makes the engines run what the records say.
func (s *Scraper) takeOver(ctx context.Context, finder *discovery.Manager, sets chan<- map[string][]*targetgroup.Group) {
	s.mu.RLock()
	records, old, told := s.records, s.jobs, s.problems
	s.mu.RUnlock()
	jobs, problems := s.compileAll(records, old)
	for _, p := range problems {
		if !slices.Contains(told, p) {
			s.log.Warn("scrape job does not run", "job", p.Job, "err", p.Message)
		}
	}

	conf, err := config.Load("", s.log) // the engine takes only what came out of Load
	if err != nil {
		s.log.Error("load the empty configuration", "err", err)
		return
	}
	conf.GlobalConfig = globals()
	// The engine spreads scrapes over the interval by a hash of this: two servers
	// that scrape a target at once must not do so in the same millisecond.
	conf.GlobalConfig.ExternalLabels = labels.FromStrings("replica", s.cfg.Node)
	find := map[string]discovery.Configs{}
	body, longest := int64(DefaultBodySize), time.Duration(0)
	secrets := map[string]bool{}
	for name, j := range jobs {
		conf.ScrapeConfigs = append(conf.ScrapeConfigs, j.conf)
		find[name] = j.asked
		body = max(body, int64(j.conf.BodySizeLimit))
		for _, secret := range j.secrets {
			secrets[secret] = true
		}
		longest = max(longest, time.Duration(j.conf.ScrapeInterval)) // relabelling may set a timeout up to it
	}
	s.limit.set(body)
	s.fence.longest.Store(int64(longest))

	s.mu.Lock()
	kept := map[string]finding{}
	for name, j := range jobs {
		if f, ok := s.found[name]; ok && old[name] == j {
			kept[name] = f
		} else if ok && old[name] != nil {
			kept[name] = f.held()
		}
	}
	s.found, s.jobs, s.problems = kept, jobs, problems
	s.mu.Unlock()
	s.tellLacking()

	// Jobs that are gone leave the engine's targets before its configuration, or
	// it would ask for them in vain.
	s.divide(ctx, sets)
	// Ready since compileAll has tried each job; what is left is shown in its log.
	if err := s.manager.ApplyConfig(conf); err != nil {
		s.log.Error("scrape configuration is taken over in part only", "err", err)
	}
	if err := finder.ApplyConfig(find); err != nil {
		s.log.Error("discovery is taken over in part only", "err", err)
	}
	s.passage.keep(secrets)
	s.divide(ctx, sets)
}

// compileAll makes jobs of records. Jobs that did not change stay as they are.
func (s *Scraper) compileAll(records []model.Record, old map[string]*job) (map[string]*job, []Problem) {
	jobs := map[string]*job{}
	var problems []Problem
	for _, rec := range records {
		j, err := decodeJob(rec)
		if err != nil {
			problems = append(problems, Problem{Job: rec.Name, Message: err.Error()})
			continue
		}
		if j.Paused || !s.deps.Takes(j) {
			continue
		}
		if o := old[j.Name]; o != nil && reflect.DeepEqual(o.Job, j) {
			jobs[j.Name] = o
			continue
		}
		conf, err := j.compile(s.cfg.Region, s.cfg.Interval)
		if err == nil {
			err = j.checkFiles(s.cfg.FileDirs, nil)
		}
		if err == nil {
			err = tryClient(conf)
		}
		if err != nil {
			problems = append(problems, Problem{Job: j.Name, Message: err.Error()})
			continue
		}
		conf.JobName = j.Name // names the engine's pool; the label job is set by divide
		made := &job{Job: j, conf: conf, jobName: j.jobName(), secrets: s.passage.guide(j.Name, conf)}
		made.asked, made.mechanisms = askedOf(conf.ServiceDiscoveryConfigs)
		jobs[j.Name] = made
	}
	return jobs, problems
}

// tryClient finds what would only fail inside the engine: certificates that
// cannot be read, for example.
func tryClient(conf *config.ScrapeConfig) error {
	c, err := commonconfig.NewClientFromConfig(conf.HTTPClientConfig, conf.JobName)
	if err != nil {
		return err
	}
	c.CloseIdleConnections()
	return nil
}

// Package scraper fetches metrics from targets near a host that speak
// Prometheus' text format or OpenMetrics. It is much smaller than Prometheus'
// own: there is no discovery, no relabelling and no protobuf.
//
// What it may reach is said by the agent's own file: the jobs that stand there,
// and, for jobs that servers send, a list of addresses. Without such a list no
// job of a server is scraped.
package scraper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	defaultInterval = 15 * time.Second
	defaultTimeout  = 10 * time.Second
	defaultSamples  = 5_000  // of one answer
	defaultSeries   = 10_000 // of all targets
	maxBody         = 10 << 20
	atOnce          = 16 // answers that are read, so that memory stays bounded
)

// Config is the block "scrape" of the agent's own file.
type Config struct {
	// Jobs are scraped whatever servers say.
	Jobs []uplink.ScrapeJob `json:"jobs,omitempty"`
	// Allow lists addresses and networks that jobs of the servers may reach;
	// empty: such jobs are not scraped.
	Allow []string `json:"allow,omitempty"`
	// MaxSeries bounds all targets together; default 10,000.
	MaxSeries int `json:"max_series,omitempty"`
}

// Validate names what is wrong.
func (c *Config) Validate() error {
	var inv model.Invalid
	n := 0
	for i := range c.Jobs {
		inv.AddErr(model.Index("jobs", i), c.Jobs[i].Validate())
		n += max(1, len(c.Jobs[i].Targets))
	}
	if n > uplink.MaxScrapeTargets {
		inv.Add("jobs", "have %d targets; %d are allowed", n, uplink.MaxScrapeTargets)
	}
	if c.MaxSeries < 0 || c.MaxSeries > 20_000 {
		inv.Add("max_series", "must lie between 1 and 20000; leave it out for 10000")
	}
	return inv.Err()
}

// Dial connects to an address, or refuses it.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Deps are the collaborators of a Scraper.
type Deps struct {
	Dial Dial // for jobs of the host's own file; nil: no limits
	// DialServers is for jobs that servers send; nil: they are not scraped.
	DialServers Dial
	Logger      *slog.Logger
}

// Scraper scrapes until its Run ends.
type Scraper struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	change chan struct{}
	slots  chan struct{}
	series atomic.Int64

	mu   sync.Mutex // guards sent and raw
	raw  string
	sent []uplink.ScrapeJob // by the servers
}

// New checks the jobs of the host's own file.
func New(cfg Config, deps Deps) (*Scraper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxSeries == 0 {
		cfg.MaxSeries = defaultSeries
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{}).DialContext
	}
	return &Scraper{cfg: cfg, deps: deps, log: deps.Logger, change: make(chan struct{}, 1), slots: make(chan struct{}, atOnce)}, nil
}

// Configure takes the jobs of the servers.
func (s *Scraper) Configure(u uplink.Settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(u.Scrapes) == s.raw {
		return nil
	}
	s.raw = string(u.Scrapes)
	s.sent = nil
	defer func() {
		select {
		case s.change <- struct{}{}:
		default:
		}
	}()
	if len(u.Scrapes) == 0 || string(u.Scrapes) == "null" {
		return nil
	}
	if s.deps.DialServers == nil {
		return fmt.Errorf("%w: the servers have targets for this host to scrape; its own file does not allow any (scrape.allow)", model.ErrForbidden)
	}
	var jobs []uplink.ScrapeJob
	if err := json.Unmarshal(u.Scrapes, &jobs); err != nil {
		return fmt.Errorf("targets of the servers: %w", model.DecodeError(err))
	}
	if err := uplink.ValidateScrapes(jobs); err != nil {
		return fmt.Errorf("targets of the servers: %w", err)
	}
	s.sent = jobs
	return nil
}

// running is a target's goroutine.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
	t      *target
}

// Run scrapes until ctx ends. What a target had does not end with that: the
// agent comes back.
func (s *Scraper) Run(ctx context.Context, emit func(model.Batch)) error {
	now := map[string]*running{}
	defer func() {
		for _, r := range now {
			r.cancel()
			<-r.done
		}
	}()
	for {
		wanted := s.targets()
		for key, r := range now {
			if _, ok := wanted[key]; !ok {
				r.cancel()
				<-r.done
				r.t.client.CloseIdleConnections()
				emit(r.t.end(time.Now().UnixMilli()))
				delete(now, key)
			}
		}
		for key, t := range wanted {
			if now[key] != nil {
				continue
			}
			tctx, cancel := context.WithCancel(ctx)
			r := &running{cancel: cancel, done: make(chan struct{}), t: t}
			now[key] = r
			go func() {
				defer close(r.done)
				s.loop(tctx, r.t, emit)
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.change:
		}
	}
}

// targets are those of the file and of the servers. The file's come first.
func (s *Scraper) targets() map[string]*target {
	out := map[string]*target{}
	add := func(from string, job uplink.ScrapeJob, dial Dial) {
		addrs := job.Targets
		if job.URL != "" {
			addrs = []string{""}
		}
		b, err := json.Marshal(job)
		if err != nil {
			return
		}
		for _, a := range addrs {
			key := from + a + "\x00" + string(b)
			if out[key] != nil {
				continue
			}
			if len(out) >= uplink.MaxScrapeTargets {
				s.log.Warn("target not scraped: there are too many", "job", job.Job, "target", a)
				continue
			}
			t := newTarget(job, a, client(job, dial), s.room)
			t.key, t.slots = key, s.slots
			out[key] = t
		}
	}
	for _, j := range s.cfg.Jobs {
		add("own ", j, s.deps.Dial)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.sent {
		add("sent ", j, s.deps.DialServers)
	}
	return out
}

// room asks for place for n more series.
func (s *Scraper) room(n int) bool {
	if s.series.Add(int64(n)) <= int64(s.cfg.MaxSeries) || n <= 0 {
		return true
	}
	s.series.Add(int64(-n))
	return false
}

// client makes the client of a target. Redirects are not followed: a target
// does not choose what is asked next.
func client(job uplink.ScrapeJob, dial Dial) *http.Client {
	tc := &tls.Config{InsecureSkipVerify: job.Insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // only when the job says so
	if job.CAFile != "" {
		tc.RootCAs = x509.NewCertPool()
		if b, err := os.ReadFile(job.CAFile); err == nil {
			tc.RootCAs.AppendCertsFromPEM(b) // none: nothing is trusted, and the error says so
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: tc, TLSHandshakeTimeout: defaultTimeout, MaxIdleConns: 1, IdleConnTimeout: 2 * time.Minute,
			MaxResponseHeaderBytes: 64 << 10, ReadBufferSize: 4 << 10, WriteBufferSize: 1 << 10, ForceAttemptHTTP2: false,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// loop scrapes one target on its beat.
func (s *Scraper) loop(ctx context.Context, t *target, emit func(model.Batch)) {
	defer t.client.CloseIdleConnections()
	interval := t.job.Interval.D()
	if interval == 0 {
		interval = defaultInterval
	}
	timeout := t.job.Timeout.D()
	if timeout == 0 {
		timeout = defaultTimeout
	}
	timeout = min(timeout, interval)
	wait := firstTurn(interval, t.key)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		sctx, cancel := context.WithTimeout(ctx, timeout)
		b, err := t.scrape(sctx, time.Now().UnixMilli())
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.note(t, err)
		emit(b)
		wait = max(interval-time.Since(began), interval/20)
	}
}

// note logs when a target begins to fail, or to have series that are left out,
// and when it answers again.
func (s *Scraper) note(t *target, err error) {
	switch {
	case err != nil && !t.fails:
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no whole answer in time")
		}
		s.log.Warn("target not scraped", "job", t.job.Job, "url", t.url, "err", err)
	case err == nil && t.fails:
		s.log.Info("target is scraped again", "job", t.job.Job, "url", t.url)
	}
	t.fails = err != nil
	if err == nil {
		if t.left > 0 && !t.leaves {
			s.log.Warn("series left out: a label has a name of more than 200 bytes or a value of more than 2048, or all of them have more than 8 KiB", "job", t.job.Job, "url", t.url, "samples", t.left)
		}
		t.leaves = t.left > 0
	}
}

// firstTurn spreads the targets of many hosts over the interval; the first
// look comes soon.
func firstTurn(interval time.Duration, key string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return time.Duration(h.Sum64() % uint64(min(interval, 5*time.Second)))
}

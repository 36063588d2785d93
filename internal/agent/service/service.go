// Package service watches what should run on a host: units, processes, ports
// and containers. On request it restarts those that the host's own file lets be
// restarted, and nothing else; who may request it is said there as well.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	defaultInterval = 15 * time.Second
	lookTimeout     = 10 * time.Second
)

// Service is one entry of the block "services" of the agent's own file.
type Service struct {
	model.HostService
	// Restart lets it be restarted on a signed request; of units and containers
	// only. Default false.
	Restart bool `json:"restart,omitempty"`
	// AutoRestart has it restarted by the agent itself when it has failed.
	AutoRestart *AutoRestart `json:"auto_restart,omitempty"`
}

// AutoRestart says when the agent restarts a service by itself.
type AutoRestart struct {
	After int `json:"after"` // looks in a row that found it failed
}

// Config says what is watched and what may be restarted. It is all of the
// host's own file.
type Config struct {
	Dir      string // where it is remembered what was done
	NodeID   string
	Services []Service
	// Sockets of Docker or Podman that are asked for containers.
	Sockets []string
	// Keys are the public keys (ed25519, base64) whose requests are done; none:
	// no request is.
	Keys []string
	// MaxRestarts bounds the restarts of a service in ten minutes; default 3.
	MaxRestarts int
	Interval    time.Duration // between two looks; default 15 s
}

// Validate names what is wrong.
func (c *Config) Validate() error {
	var inv model.Invalid
	if len(c.Services) > model.MaxServices {
		inv.Add("services", "has %d entries; %d are allowed", len(c.Services), model.MaxServices)
	}
	for i := range c.Services {
		s := &c.Services[i]
		field := model.Index("services", i)
		inv.AddErr(field, s.Validate())
		if (s.Restart || s.AutoRestart != nil) && s.Kind != model.ServiceUnit && s.Kind != model.ServiceContainer {
			inv.Add(field+".restart", "a %s has no manager that could restart it; name the unit or the container that it belongs to", s.Kind)
		}
		if s.AutoRestart != nil && (s.AutoRestart.After < 1 || s.AutoRestart.After > 1000) {
			inv.Add(field+".auto_restart.after", "must lie between 1 and 1000")
		}
		if s.Kind == model.ServiceContainer && len(c.Sockets) == 0 {
			inv.Add(field, "needs collect.container_sockets, such as /var/run/docker.sock")
		}
	}
	for i, k := range c.Keys {
		if _, err := uplink.ParseKey(k); err != nil {
			inv.AddErr(model.Index("actions.keys", i), err)
		}
	}
	if len(c.Keys) > 16 {
		inv.Add("actions.keys", "has %d entries; 16 are allowed", len(c.Keys))
	}
	if c.MaxRestarts < 0 || c.MaxRestarts > 100 {
		inv.Add("actions.max_restarts", "must lie between 1 and 100; leave it out for 3")
	}
	return inv.Err()
}

// Status is what a look at a service found.
type Status struct {
	Up     bool
	Failed bool      // not up, and not because somebody stopped it
	Start  time.Time // of what runs; zero when that is not known
	Count  float64   // restarts by its own manager, as far as that counts them
	Text   string    // for people: "failed (exit-code)"
}

// Manager looks at services of one kind and, where it can, restarts them.
type Manager interface {
	Status(ctx context.Context, s model.HostService) (Status, error)
	Restart(ctx context.Context, name string) error
}

// Deps are the collaborators.
type Deps struct {
	// Managers by kind; nil: those of this system.
	Managers map[string]Manager
	Event    func(model.Event) // takes what happened; nil: nobody
	Now      func() time.Time
	Logger   *slog.Logger
}

// Services watches services until its Run ends.
type Services struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	keys   [][]byte
	change chan struct{}

	acting  sync.Mutex // one restart at a time; guards journal
	journal *journal
	ctx     context.Context //nolint:containedctx // of what was begun on request
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu   sync.Mutex // guards sent
	sent []model.HostService
}

// New checks the configuration and reads what was done before.
func New(cfg Config, deps Deps) (*Services, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.MaxRestarts == 0 {
		cfg.MaxRestarts = 3
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Event == nil {
		deps.Event = func(model.Event) {}
	}
	if deps.Managers == nil {
		deps.Managers = managers(cfg.Sockets)
	}
	s := &Services{cfg: cfg, deps: deps, log: deps.Logger, change: make(chan struct{}, 1)}
	for _, k := range cfg.Keys {
		key, err := uplink.ParseKey(k)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	var err error
	if s.journal, err = openJournal(cfg.Dir, deps.Now()); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Configure takes what the servers want to have watched. What may be restarted
// is not theirs to say.
func (s *Services) Configure(u uplink.Settings) error {
	var list []model.HostService
	var bad error
	for _, v := range u.Services[:min(len(u.Services), model.MaxServices)] {
		if err := v.Validate(); err != nil {
			bad = fmt.Errorf("service %.60q of the servers: %w", v.Name, err)
			continue
		}
		list = append(list, v)
	}
	s.mu.Lock()
	s.sent = list
	s.mu.Unlock()
	select {
	case s.change <- struct{}{}:
	default:
	}
	return bad
}

// watched is one service and what is remembered of it.
type watched struct {
	Service
	labels   [3]labels.Labels
	told     [3]bool
	seen     bool
	up       bool
	start    time.Time
	count    float64
	restarts float64
	failed   int
	unknown  bool // could not be looked at
}

// The series of a service.
var names = [3]string{"panoptes_service_up", "panoptes_service_restarts_total", "panoptes_service_start_time_seconds"}

func newWatched(v Service) *watched {
	w := &watched{Service: v}
	for i, n := range names {
		w.labels[i] = labels.FromStrings(model.MetricName, n, "kind", v.Kind, "name", v.Name)
	}
	return w
}

// list is what is watched now: the file's, then the servers'.
func (s *Services) list(old []*watched) (out []*watched, gone model.Batch) {
	add := func(v Service) {
		same := func(w *watched) bool { return w.Kind == v.Kind && w.Name == v.Name }
		if len(out) >= model.MaxServices || slices.ContainsFunc(out, same) {
			return
		}
		if i := slices.IndexFunc(old, same); i >= 0 {
			old[i].Match = v.Match
			out = append(out, old[i])
			return
		}
		out = append(out, newWatched(v))
	}
	for _, v := range s.cfg.Services {
		add(v)
	}
	s.mu.Lock()
	for _, v := range s.sent {
		add(Service{HostService: v})
	}
	s.mu.Unlock()
	at := s.deps.Now().UnixMilli()
	for _, w := range old {
		if !slices.Contains(out, w) {
			gone = w.end(gone, at)
		}
	}
	return out, gone
}

// end tells the end of what was told of a service.
func (w *watched) end(out model.Batch, at int64) model.Batch {
	for i, told := range w.told {
		if told {
			out = append(out, model.Sample{Labels: w.labels[i], T: at, V: math.Float64frombits(value.StaleNaN)})
		}
	}
	w.told = [3]bool{}
	return out
}

// Run watches until ctx ends.
func (s *Services) Run(ctx context.Context, emit func(model.Batch)) error {
	defer func() {
		s.stop()
		s.wg.Wait()
		for _, m := range s.deps.Managers {
			if c, ok := m.(interface{ Close() }); ok {
				c.Close()
			}
		}
	}()
	list, _ := s.list(nil)
	wait := time.Duration(0)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.change:
			timer.Stop()
			var gone model.Batch
			if list, gone = s.list(list); len(gone) > 0 {
				emit(gone)
			}
			wait = 0
			continue
		case <-timer.C:
		}
		began := time.Now()
		if len(list) > 0 {
			b, ill := s.round(ctx, list)
			if ctx.Err() != nil {
				return nil
			}
			emit(b)
			for _, x := range ill { // slow: after all were looked at
				if ctx.Err() == nil {
					s.heal(ctx, x.watched, x.found)
				}
			}
		}
		wait = max(s.cfg.Interval-time.Since(began), time.Second)
	}
}

// patient is a service that is to be restarted.
type patient struct {
	*watched
	found Status
}

// round looks at each service once, and says which are to be restarted.
func (s *Services) round(ctx context.Context, list []*watched) (out model.Batch, ill []patient) {
	at := s.deps.Now().UnixMilli()
	out = make(model.Batch, 0, 3*len(list))
	rctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, m := range s.deps.Managers {
		if b, ok := m.(interface{ begin(context.Context) }); ok {
			b.begin(rctx)
		}
	}
	for _, w := range list {
		st, err := s.look(rctx, w)
		if ctx.Err() != nil {
			return nil, nil
		}
		out = s.note(w, st, err, out, at)
		if err == nil && w.AutoRestart != nil && w.failed >= w.AutoRestart.After {
			ill = append(ill, patient{w, st})
		}
	}
	return out, ill
}

func (s *Services) look(ctx context.Context, w *watched) (Status, error) {
	m := s.deps.Managers[w.Kind]
	if m == nil {
		return Status{}, fmt.Errorf("%w: services of kind %s cannot be watched here", errors.ErrUnsupported, w.Kind)
	}
	return m.Status(ctx, w.HostService)
}

// note turns what was found into samples.
func (s *Services) note(w *watched, st Status, err error, out model.Batch, at int64) model.Batch {
	if err != nil { // unknown is not down
		if !w.unknown {
			s.log.Warn("service cannot be looked at", "kind", w.Kind, "name", w.Name, "err", err)
		}
		w.unknown = true
		return w.end(out, at)
	}
	w.unknown = false
	if w.seen {
		switch {
		case st.Count > w.count:
			w.restarts += st.Count - w.count
		case st.Up && !w.up, st.Up && !st.Start.IsZero() && !w.start.IsZero() && st.Start.Sub(w.start) > time.Second:
			w.restarts++
		}
	}
	if st.Up {
		w.start = st.Start
	}
	w.seen, w.up, w.count = true, st.Up, st.Count
	up := 0.0
	if st.Up {
		up = 1
	}
	out = append(out, model.Sample{Labels: w.labels[0], T: at, V: up}, model.Sample{Labels: w.labels[1], T: at, V: w.restarts})
	w.told[0], w.told[1] = true, true
	switch {
	case st.Up && !st.Start.IsZero():
		out = append(out, model.Sample{Labels: w.labels[2], T: at, V: float64(st.Start.UnixMilli()) / 1000})
		w.told[2] = true
	case w.told[2]:
		out = append(out, model.Sample{Labels: w.labels[2], T: at, V: math.Float64frombits(value.StaleNaN)})
		w.told[2] = false
	}
	if w.failed++; !st.Failed {
		w.failed = 0
	}
	return out
}

package probe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// WorkerConfig says who the worker is and how much it may do at once.
type WorkerConfig struct {
	Node        string // id of this server or agent: the label prober
	Region      string // the label region
	Concurrency int    // runs at once; default 4096
}

// Sink takes results. Result must not block.
type Sink interface {
	Result(model.Result)
}

// WorkerDeps holds what a worker works with.
type WorkerDeps struct {
	Kinds []Kind
	Env   *Env // nil means a zero Policy and the system's resolver
	Sink  Sink
	// References gives host:port addresses that answer TCP as long as this
	// machine has a network: other servers, the gateway, a few outside hosts.
	// When all fail, failing results abstain. Two or more are wanted.
	References func() []string
	// LastRun says when a check last ran in this worker's region, whoever ran
	// it; zero when nobody knows. A check that comes from another worker goes on
	// from there. It must be quick and must not call the worker.
	LastRun    func(checkID string) time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Worker runs checks on time. One loop starts the runs, each in a goroutine of
// its own, so that a slow target delays no other.
type Worker struct {
	cfg   WorkerConfig
	deps  WorkerDeps
	env   *Env
	log   *slog.Logger
	m     *metrics
	guard *guard

	slots  chan struct{} // one token per scheduled run
	manual chan struct{} // one token per run on demand
	jobs   chan job      // hands runs to idle goroutines
	idle   chan struct{} // one token per idle goroutine
	wake   chan struct{} // the queue changed

	mu      sync.Mutex        // guards all below
	entries map[string]*entry // by check id
	queue   queue
	updated bool // Update was called before
}

// entry is one check on the worker's list. The fields above running do not
// change; a changed check gets a new entry.
type entry struct {
	check model.Check
	probe Probe
	err   error // why it cannot run here; then no run is tried

	running bool      // guarded by Worker.mu
	changed bool      // guarded by Worker.mu: the record is another one now
	overdue bool      // guarded by Worker.mu: taken over late; its last worker may still answer
	next    time.Time // guarded by Worker.mu
	index   int       // guarded by Worker.mu: place in the queue

	series interner
}

type job struct {
	ctx  context.Context
	e    *entry
	late time.Duration
}

// promptLimit is the number of added checks up to which an Update is taken for
// a person's doing, who waits for the first result.
const promptLimit = 100

const (
	promptWithin = 900 * time.Millisecond // of a change, or of taking over a check that is overdue
	catchUpRate  = 1000                   // overdue checks begun in a second
)

// NewWorker makes a worker without checks.
func NewWorker(cfg WorkerConfig, deps WorkerDeps) (*Worker, error) {
	switch {
	case cfg.Node == "":
		return nil, errors.New("probe worker: Node is empty; give this process an id")
	case len(deps.Kinds) == 0:
		return nil, errors.New("probe worker: no kinds of check are registered")
	case deps.Sink == nil:
		return nil, errors.New("probe worker: Sink is missing")
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 4096
	}
	env := Env{}
	if deps.Env != nil {
		env = *deps.Env
	}
	if env.Dialer == nil {
		env.Dialer = NewDialer(Policy{})
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	log := deps.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Worker{
		cfg: cfg, deps: deps, env: &env, log: log,
		m:       newMetrics(deps.Registerer),
		guard:   newGuard(&env, deps.References),
		slots:   make(chan struct{}, cfg.Concurrency),
		manual:  make(chan struct{}, 256),
		jobs:    make(chan job),
		idle:    make(chan struct{}, 64),
		wake:    make(chan struct{}, 1),
		entries: map[string]*entry{},
	}, nil
}

// Update replaces the list of checks. Checks that did not change keep their
// place in time and a running probe. One that another worker ran before goes on
// at its next turn, within a second when that has passed. A few new or changed
// ones run within a second, many are spread. Paused checks are left out. A run
// that is under way when its check moves to another worker ends and counts.
func (w *Worker) Update(checks []model.Check) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	seen := make(map[string]bool, len(checks))
	var fresh, moved []*entry
	for i := range checks {
		c := checks[i]
		if c.Paused || c.ID == "" || seen[c.ID] {
			continue
		}
		seen[c.ID] = true
		c.Default()
		old := w.entries[c.ID]
		if old != nil && same(&old.check, &c) {
			continue
		}
		e := &entry{check: c}
		e.probe, e.err = Compile(w.deps.Kinds, &c, w.env)
		if e.err != nil {
			w.log.Warn("check cannot run here", "check", c.Name, "err", e.err)
		}
		w.entries[c.ID] = e
		if old != nil {
			old.changed = true
			w.queue.remove(old)
		} else if next, known := w.resume(&c); known {
			e.next, e.overdue = next, !next.After(now)
			moved = append(moved, e)
			continue
		}
		fresh = append(fresh, e)
	}
	for id, e := range w.entries {
		if !seen[id] {
			w.queue.remove(e)
			delete(w.entries, id)
		}
	}
	w.place(fresh, now)
	w.catchUp(moved, now)
	w.updated = true
	w.m.checks.Set(float64(len(w.entries)))
	w.guard.forget(seen)
	w.kick()
}

// place gives new and changed checks their first turn.
func (w *Worker) place(fresh []*entry, now time.Time) {
	prompt := w.updated && len(fresh) <= promptLimit
	for _, e := range fresh {
		e.next = nextRun(&e.check, now)
		if soon := now.Add(jitter(e, promptWithin)); prompt && e.next.After(soon) {
			e.next = soon
		}
		w.queue.add(e)
	}
}

// catchUp spreads the checks that are overdue over a second, or over more when
// there are thousands.
func (w *Worker) catchUp(moved []*entry, now time.Time) {
	late := 0
	for _, e := range moved {
		if e.overdue {
			late++
		}
	}
	within := max(promptWithin, time.Duration(late)*time.Second/catchUpRate)
	for _, e := range moved {
		if e.overdue {
			soon := now.Add(jitter(e, min(within, max(e.check.Interval.D()/2, promptWithin))))
			// Its last worker may have begun when the turn came.
			e.next = e.next.Add(promptWithin)
			if e.next.Before(soon) {
				e.next = soon
			}
		}
		w.queue.add(e)
	}
}

func (w *Worker) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run starts the checks when they are due, until ctx ends and the last run has
// returned.
func (w *Worker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := w.startDue(ctx, &wg)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// startDue starts what is due and returns the time until the next run.
func (w *Worker) startDue(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		e := w.queue.first()
		if e == nil {
			return time.Hour
		}
		now := time.Now()
		late := now.Sub(e.next)
		if late < 0 {
			return -late
		}
		if e.overdue {
			e.overdue = false
			if next, ok := w.resume(&e.check); ok && next.After(now) {
				e.next = next // its last worker had begun, and has answered meanwhile
				w.queue.fix(e)
				continue
			}
		}
		iv := e.check.Interval.D()
		if n := e.next.Add(iv); late < iv/2 && n.Sub(nextRun(&e.check, now)).Abs() < time.Millisecond {
			e.next = n
		} else {
			// The first run was early, the machine slept, or the clock was set.
			e.next = turnAfter(&e.check, now)
		}
		w.queue.fix(e)
		if e.running {
			w.m.skipped.WithLabelValues("overlap").Inc()
			continue
		}
		select {
		case w.slots <- struct{}{}:
		default:
			w.m.skipped.WithLabelValues("limit").Inc()
			continue
		}
		e.running = true
		j := job{ctx, e, late}
		select {
		case w.jobs <- j:
		default:
			wg.Go(func() { w.serve(ctx, j) })
		}
	}
}

// serve runs j, then waits for more: a warm stack is cheaper than a new one.
func (w *Worker) serve(ctx context.Context, j job) {
	for {
		w.scheduled(j)
		select {
		case w.idle <- struct{}{}:
		default:
			return
		}
		select {
		case j = <-w.jobs:
			<-w.idle
		case <-ctx.Done():
			<-w.idle
			return
		}
	}
}

func (w *Worker) scheduled(j job) {
	w.m.lateness.Observe(j.late.Seconds())
	r := w.run(j.ctx, j.e)
	w.mu.Lock()
	j.e.running = false
	changed := j.e.changed
	w.mu.Unlock()
	<-w.slots
	// A run that was broken off by our own end says nothing about the target,
	// one of a record that has changed nothing about the new one.
	if !changed && j.ctx.Err() == nil {
		w.deps.Sink.Result(r)
	}
}

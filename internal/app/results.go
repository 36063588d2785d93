package app

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// results takes what the worker found: the verdict hears of it at once, the
// samples are stored in groups, so that one fsync serves many checks.
type results struct {
	observe func(model.Result) // the verdict here
	tell    func(model.Result) // and on the other servers
	append  func(context.Context, model.Batch) error
	queue   chan model.Result
	checks  atomic.Pointer[map[string]model.Check] // by id
	list    atomic.Pointer[[]model.Check]          // the same
	log     *slog.Logger
	dropped *prometheus.CounterVec
}

const (
	maxWaitingResults = 20_000
	groupSamples      = 20_000
	groupDelay        = 100 * time.Millisecond
)

func newResults(store func(context.Context, model.Batch) error, log *slog.Logger, reg prometheus.Registerer) *results {
	r := &results{append: store, queue: make(chan model.Result, maxWaitingResults), log: log,
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_app_results_dropped_total", Help: "Results of checks whose samples were not stored, by reason."}, []string{"reason"})}
	reg.MustRegister(r.dropped)
	r.checks.Store(&map[string]model.Check{})
	r.list.Store(&[]model.Check{})
	return r
}

// Result implements probe.Sink; it never blocks.
func (r *results) Result(res model.Result) {
	r.observe(res)
	r.tell(res)
	select {
	case r.queue <- res:
	default:
		r.dropped.WithLabelValues("queue full").Inc()
	}
}

// Run stores samples until ctx ends, then what is left.
func (r *results) Run(ctx context.Context) error {
	for {
		select {
		case first := <-r.queue:
			r.store(ctx, first, groupDelay)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			for {
				select {
				case first := <-r.queue:
					r.store(last, first, 0)
				default:
					return nil
				}
			}
		}
	}
}

// store collects results for a moment and stores their samples at once.
func (r *results) store(ctx context.Context, first model.Result, delay time.Duration) {
	checks := *r.checks.Load()
	var batch model.Batch
	n := 0
	add := func(res model.Result) {
		n++
		// The result of a check that was just removed belongs to nobody.
		if c, ok := checks[res.CheckID]; ok {
			batch = append(batch, probe.Stamp(res, c)...)
		}
	}
	add(first)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for full := false; !full && len(batch) < groupSamples; {
		select {
		case res := <-r.queue:
			add(res)
		case <-timer.C:
			full = true
		case <-ctx.Done():
			full = true
		}
	}
	if len(batch) == 0 {
		return
	}
	// The samples outlive a context that ends now: they were measured.
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := r.append(sctx, batch)
	switch {
	case err == nil:
	case errors.Is(err, model.ErrNoSpace):
		r.dropped.WithLabelValues("disk full").Add(float64(n))
	case errors.Is(err, model.ErrUnavailable):
		r.dropped.WithLabelValues("store not ready").Add(float64(n))
	default:
		r.dropped.WithLabelValues("refused").Add(float64(n))
		r.log.Warn("samples of checks not stored", "results", n, "err", err)
	}
}

// Package query answers PromQL: it owns the engine, Prometheus' HTTP API for
// reading, remote read and federation, and the limits that keep one question
// from starving all others.
package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"panoptes/internal/model"
)

// Config bounds what a query may cost. Zero values mean the default.
type Config struct {
	MaxSamples     int           // samples that one query may hold in memory; default 50 million
	Timeout        time.Duration // of one query; default 2 min
	MaxConcurrent  int           // queries evaluated at once, others wait; default 20
	MaxPerUser     int           // requests of one user answered at once, others wait; default 4
	MaxWaiting     int           // requests of one user that may wait; beyond it 429; default 100
	MaxSeries      int           // series that one query may select; default 100,000
	MaxRegexp      int           // length in bytes of a regular expression in a matcher; default 1,000
	MaxQueryLength int           // bytes of a query's text; default 64 KiB
	Lookback       time.Duration // age at which a sample no longer counts as current; default 5 min
	SlowQuery      time.Duration // requests that took longer are logged and remembered; default 2 s
	CacheBytes     int64         // memory for answers to range queries that are kept; 0 = none are kept
	Server         string        // name of this server, shown with slow queries
	Dir            string        // where the running queries are noted, so that the log tells after a crash; "" = nowhere
	ExternalLabels labels.Labels // added to federated and remotely read series
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.MaxSamples, 50_000_000}, {&c.MaxConcurrent, 20}, {&c.MaxPerUser, 4}, {&c.MaxWaiting, 100},
		{&c.MaxSeries, 100_000}, {&c.MaxRegexp, 1000}, {&c.MaxQueryLength, 64 << 10},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Timeout, 2 * time.Minute}, {&c.Lookback, 5 * time.Minute}, {&c.SlowQuery, 2 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// validate names every limit that is negative.
func (c *Config) validate() error {
	var inv model.Invalid
	for name, v := range map[string]int{
		"max_samples": c.MaxSamples, "max_concurrent": c.MaxConcurrent, "max_per_user": c.MaxPerUser, "max_waiting": c.MaxWaiting,
		"max_series": c.MaxSeries, "max_regexp": c.MaxRegexp, "max_query_length": c.MaxQueryLength,
		"cache_bytes": int(c.CacheBytes), "timeout": int(c.Timeout), "lookback": int(c.Lookback), "slow_query": int(c.SlowQuery),
	} {
		if v < 0 {
			inv.Add(name, "must not be negative; leave it out for the default")
		}
	}
	return inv.Err()
}

// Storage is what queries read from. Its errors may wrap model.ErrUnavailable
// while it is not ready; the client is then answered with 503.
type Storage interface {
	storage.Queryable
	storage.ChunkQueryable
	storage.ExemplarQueryable
}

// Deps are the collaborators of a Query. All but Storage may be nil.
type Deps struct {
	Storage       Storage
	Stats         v1.TSDBAdminStats                              // for /status/tsdb; nil = 503 there
	ScrapePools   func(context.Context) v1.ScrapePoolsRetriever  // nil = none
	Targets       func(context.Context) v1.TargetRetriever       // nil = none
	Alertmanagers func(context.Context) v1.AlertmanagerRetriever // nil = none
	Rules         func(context.Context) v1.RulesRetriever        // those that who asks may see; nil = none
	Ready         func() error                                   // an error answers every request with 503 and its text
	User          func(context.Context) string                   // who asks, for the limit per user; nil = all are one
	Bound         func(context.Context) labels.Labels            // labels that who asks is bound to: only series that have them are seen; nil = none
	Metadata      func(metric string) map[string]Metadata        // what else is known of metrics, of all when none is named; nil = nothing
	Incomplete    func() string                                  // why answers may lack something now, empty when they do not; nil = never
	ConfigText    func() string                                  // what /status/config shows, without secrets; nil = a comment
	Flags         map[string]string                              // what /status/flags shows
	RuntimeInfo   func() (v1.RuntimeInfo, error)                 // nil = what the Go runtime knows
	BuildInfo     *v1.PrometheusVersion                          // nil = the version of the engine
	Gatherer      prometheus.Gatherer                            // nil = an empty one
	Versions      Versions                                       // tells whether samples changed; nil = no answers are kept
	SeesAll       func(context.Context) bool                     // who asks may see what others asked; nil = nobody may
	OtherSlow     func(context.Context) []Slow                   // slow queries of other servers; nil = there are none
	Registerer    prometheus.Registerer                          // must be the query's own, wrapped or not
	Logger        *slog.Logger
}

// Query evaluates PromQL over one storage.
type Query struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	tracker *tracker
	engine  *guarded
	store   *limited
	gate    *gate
	cache   *cache // nil = no answers are kept
	slow    slowList
	library http.Handler // Prometheus' API
	handler http.Handler
}

// EnableExperimental switches PromQL's experimental parts on for the whole
// process: functions and aggregations, durations that are computed, anchored and
// smoothed ranges. The parser keeps the switches in package variables: call it
// once, before anything parses an expression.
func EnableExperimental() {
	parser.EnableExperimentalFunctions = true
	parser.ExperimentalDurationExpr = true
	parser.EnableExtendedRangeSelectors = true
}

// New makes a Query. It starts nothing; its handler answers as soon as the
// storage does.
func New(cfg Config, deps Deps) (*Query, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("query limits: %w", err)
	}
	if deps.Storage == nil {
		return nil, errors.New("query: no storage given")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Gatherer == nil {
		deps.Gatherer = prometheus.NewRegistry()
	}
	if deps.User == nil {
		deps.User = func(context.Context) string { return "" }
	}
	if deps.Bound == nil {
		deps.Bound = func(context.Context) labels.Labels { return labels.EmptyLabels() }
	}
	if deps.Ready == nil {
		deps.Ready = func() error { return nil }
	}
	q := &Query{cfg: cfg, deps: deps, log: deps.Logger}
	q.tracker = newTracker(cfg.Dir, cfg.MaxConcurrent, q.log)
	q.metrics = newMetrics(deps.Registerer, q.tracker)
	q.store = &limited{Storage: deps.Storage, maxSeries: cfg.MaxSeries, maxRegexp: cfg.MaxRegexp, bound: deps.Bound, incomplete: deps.Incomplete}
	q.gate = newGate(cfg.MaxPerUser, cfg.MaxWaiting)
	if cfg.CacheBytes > 0 && deps.Versions != nil {
		q.cache = newCache(cfg.CacheBytes, deps.Registerer)
	}
	registry := features.NewRegistry()
	q.engine = &guarded{maxSteps: int64(min(cfg.MaxSamples, 10_000_000)), Engine: promql.NewEngine(promql.EngineOpts{
		Logger:                   q.log,
		Reg:                      deps.Registerer,
		MaxSamples:               cfg.MaxSamples,
		Timeout:                  cfg.Timeout,
		ActiveQueryTracker:       q.tracker,
		LookbackDelta:            cfg.Lookback,
		NoStepSubqueryIntervalFn: noStep,
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       true,
		FeatureRegistry:          registry,
	})}
	q.handler = q.routes(registry)
	return q, nil
}

// Run waits for ctx and then for the queries that are being evaluated; new ones
// are refused with model.ErrUnavailable.
func (q *Query) Run(ctx context.Context) error {
	<-ctx.Done()
	return q.engine.Close()
}

// Handler serves Prometheus' reading API below /api/v1/ and /federate, and
// GET /v1/explain and /v1/slow-queries. Rights are checked in front of it.
func (q *Query) Handler() http.Handler { return q.handler }

// Engine is the engine with its limits, for who evaluates rules.
func (q *Query) Engine() promql.QueryEngine { return q.engine }

// Queryable is the storage with the limits on series and regular expressions.
func (q *Query) Queryable() storage.SampleAndChunkQueryable { return q.store }

// maxPoints is Prometheus' limit of points per series of a range query.
const maxPoints = 11_000

// Point is one value of a series. T is in milliseconds since 1970.
type Point struct {
	T int64
	V float64
}

// Series is what a range query found for one set of labels.
type Series struct {
	Labels labels.Labels
	Points []Point
}

// Instant evaluates expr at t. A scalar comes back as one sample without
// labels; native histograms are left out.
func (q *Query) Instant(ctx context.Context, expr string, t time.Time) ([]model.Sample, error) {
	if err := q.admit(expr); err != nil {
		return nil, err
	}
	qry, err := q.engine.NewInstantQuery(ctx, q.store, nil, expr, t)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", expr, err)
	}
	defer qry.Close()
	res := qry.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, res.Err)
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		out := make([]model.Sample, 0, len(v))
		for _, s := range v {
			if s.H == nil {
				out = append(out, model.Sample{Labels: s.Metric, T: s.T, V: s.F})
			}
		}
		return out, nil
	case promql.Scalar:
		return []model.Sample{{T: v.T, V: v.V}}, nil
	}
	return nil, fmt.Errorf("query %q: the result is a %s; a vector or a number is needed", expr, res.Value.Type())
}

// Range evaluates expr from start to end, both inclusive, every step.
func (q *Query) Range(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]Series, error) {
	if err := q.admit(expr); err != nil {
		return nil, err
	}
	if step <= 0 || end.Before(start) {
		return nil, model.Invalid{{Field: "step", Msg: "must be positive, and the end not before the start"}}
	}
	if end.Sub(start)/step > maxPoints {
		return nil, fmt.Errorf("%w: more than %d points per series; use a longer step", model.ErrLimit, maxPoints)
	}
	qry, err := q.engine.NewRangeQuery(ctx, q.store, nil, expr, start, end, step)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", expr, err)
	}
	defer qry.Close()
	res := qry.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, res.Err)
	}
	m, err := res.Matrix()
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	out := make([]Series, 0, len(m))
	for _, s := range m {
		pts := make([]Point, len(s.Floats))
		for i, p := range s.Floats {
			pts[i] = Point{p.T, p.F}
		}
		out = append(out, Series{Labels: s.Metric, Points: pts})
	}
	return out, nil
}

// admit is what holds for every expression before it is parsed.
func (q *Query) admit(expr string) error {
	if err := q.deps.Ready(); err != nil {
		return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	if len(expr) > q.cfg.MaxQueryLength {
		return fmt.Errorf("%w: the query has %d bytes, %d are allowed", model.ErrLimit, len(expr), q.cfg.MaxQueryLength)
	}
	return nil
}

package query

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/util/stats"
)

// cost is what one request cost; its parts are filled in where they arise.
type cost struct {
	series  atomic.Int64 // selected
	samples atomic.Int64 // read
	peak    atomic.Int64 // samples in memory at once
	steps   atomic.Int64 // of a range query
	cached  atomic.Int64 // steps whose answer was kept
}

type costKey struct{}

// costOf is the place for the cost of the request in ctx; outside of a request
// it is one that nobody reads.
func costOf(ctx context.Context) *cost {
	if c, ok := ctx.Value(costKey{}).(*cost); ok {
		return c
	}
	return &cost{}
}

func (c *cost) add(s *stats.Statistics) {
	if s == nil || s.Samples == nil {
		return
	}
	c.samples.Add(s.Samples.TotalSamples)
	if n := int64(s.Samples.PeakSamples); n > c.peak.Load() {
		c.peak.Store(n) // the parts of a query run one after the other
	}
}

// Slow is a query that took long.
type Slow struct {
	Path    string    `json:"path"`            // query, query_range, …
	Query   string    `json:"query,omitempty"` // shortened when long
	User    string    `json:"user"`
	At      time.Time `json:"at"`      // when it began
	Seconds float64   `json:"seconds"` // until it was answered, waiting included
	Code    int       `json:"code"`    // status of the answer
	Samples int64     `json:"samples"` // read
	Peak    int64     `json:"peak_samples"`
	Series  int64     `json:"series"`          // selected
	Step    float64   `json:"step,omitempty"`  // seconds; of a range query
	Range   float64   `json:"range,omitempty"` // seconds; of a range query
	Cached  float64   `json:"cached"`          // share of the steps whose answer was kept, 0 to 1
	Server  string    `json:"server,omitempty"`
}

const (
	slowKept  = 200     // slow queries that are remembered
	slowQuery = 2 << 10 // bytes of one's text
)

// slowList remembers the last slow queries.
type slowList struct {
	mu   sync.Mutex // guards what follows
	list []Slow     // a ring once it is full
	next int
}

func (l *slowList) add(s Slow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) < slowKept {
		l.list = append(l.list, s)
		return
	}
	l.list[l.next] = s
	l.next = (l.next + 1) % slowKept
}

// newest returns them, the newest first.
func (l *slowList) newest() []Slow {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Slow, 0, len(l.list))
	for i := range l.list {
		out = append(out, l.list[(l.next+len(l.list)-1-i)%len(l.list)])
	}
	return out
}

func newestFirst(list []Slow) {
	slices.SortStableFunc(list, func(a, b Slow) int { return b.At.Compare(a.At) })
}

// SlowQueries are the last queries that took long on this server, the newest
// first. They are forgotten when the process ends.
func (q *Query) SlowQueries() []Slow { return q.slow.newest() }

// logRequest logs what a request cost, and remembers one that took long.
func (q *Query) logRequest(path string, r *http.Request, began time.Time, took time.Duration, code int, c *cost, slow bool) {
	s := Slow{
		Server: q.cfg.Server, Path: path, User: q.deps.User(r.Context()), At: began.UTC(), Seconds: took.Seconds(), Code: code,
		Samples: c.samples.Load(), Peak: c.peak.Load(), Series: c.series.Load(),
	}
	if s.Query = r.Form.Get("query"); s.Query == "" { // nil before it was parsed
		s.Query = r.Form.Get("match[]")
	}
	if len(s.Query) > slowQuery {
		s.Query = s.Query[:slowQuery] + "…"
	}
	if n := c.steps.Load(); n > 0 {
		s.Cached = float64(c.cached.Load()) / float64(n)
	}
	if path == "query_range" {
		start, err1 := parseTime(r.Form.Get("start"))
		end, err2 := parseTime(r.Form.Get("end"))
		step, err3 := parseStep(r.Form.Get("step"))
		if err1 == nil && err2 == nil && err3 == nil {
			s.Step, s.Range = step.Seconds(), end.Sub(start).Seconds()
		}
	}
	level, what := slog.LevelDebug, "query"
	if slow {
		level, what = slog.LevelInfo, "slow query"
		q.slow.add(s)
		q.metrics.slow.Inc()
	}
	q.log.Log(r.Context(), level, what, "path", path, "query", s.Query, "user", s.User, "seconds", s.Seconds, "code", code, "samples", s.Samples,
		"peak_samples", s.Peak, "series", s.Series, "range_seconds", s.Range, "step_seconds", s.Step, "cached", s.Cached)
}

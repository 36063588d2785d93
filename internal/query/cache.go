package query

import (
	"container/list"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// pieceKey names the answer to one query in one window of time.
type pieceKey struct {
	query  [32]byte // hash of all that makes queries differ, but for start and end
	window int64    // when the window begins, ms
}

// piece is the answer to a query from one step to another, both inclusive, and
// the version of the samples that it was computed from. It is never changed.
type piece struct {
	from, to int64 // steps, ms
	mint     int64 // the oldest sample that counted, ms; the newest is not after to
	version  uint64
	series   promql.Matrix
	infos    annotations.Annotations
	bytes    int64
}

// Rough sizes in memory.
const (
	pieceBytes     = 400
	seriesBytes    = 120
	floatBytes     = 16
	histogramBytes = 300
)

// measure sets the size of a piece.
func (p *piece) measure() {
	n := int64(pieceBytes)
	for i := range p.series {
		s := &p.series[i]
		n += seriesBytes + int64(len(s.Metric.String())) + int64(len(s.Floats))*floatBytes
		for _, h := range s.Histograms {
			n += histogramBytes + 8*int64(len(h.H.PositiveBuckets)+len(h.H.NegativeBuckets)+len(h.H.PositiveSpans)+len(h.H.NegativeSpans)+len(h.H.CustomValues))
		}
	}
	p.bytes = n
}

// cache keeps pieces of answers, those used last, up to a number of bytes.
type cache struct {
	limit int64

	mu    sync.Mutex // guards what follows
	bytes int64
	order *list.List // of *cached, the one used last in front
	byKey map[pieceKey]*list.Element

	hits, misses, evicted, outdated prometheus.Counter
}

type cached struct {
	key   pieceKey
	piece *piece
}

func newCache(limit int64, reg prometheus.Registerer) *cache {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_query_cache_" + name, Help: help})
	}
	c := &cache{
		limit: limit, order: list.New(), byKey: map[pieceKey]*list.Element{},
		hits:     counter("steps_hit_total", "Steps of range queries that were answered from the cache."),
		misses:   counter("steps_missed_total", "Steps of range queries that might have been in the cache and were computed."),
		evicted:  counter("evicted_total", "Pieces of answers that made room for others."),
		outdated: counter("outdated_total", "Pieces of answers that were dropped because their samples changed."),
	}
	if reg != nil {
		reg.MustRegister(c.hits, c.misses, c.evicted, c.outdated, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "panoptes_query_cache_bytes", Help: "Memory that kept answers take, roughly.",
		}, func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(c.bytes)
		}))
	}
	return c
}

// get returns what is kept, nil when there is nothing.
func (c *cache) get(k pieceKey) *piece {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).piece
}

// put keeps p instead of what was there. A piece that would take most of the
// room is not worth the others.
func (c *cache) put(k pieceKey, p *piece) {
	p.measure()
	if p.bytes > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
	c.byKey[k] = c.order.PushFront(&cached{k, p})
	c.bytes += p.bytes
	for c.bytes > c.limit {
		c.remove(c.order.Back())
		c.evicted.Inc()
	}
}

// drop forgets p, if it is still there.
func (c *cache) drop(k pieceKey, p *piece) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil && e.Value.(*cached).piece == p {
		c.remove(e)
		c.outdated.Inc()
	}
}

// remove wants mu held.
func (c *cache) remove(e *list.Element) {
	v := c.order.Remove(e).(*cached)
	delete(c.byKey, v.key)
	c.bytes -= v.piece.bytes
}

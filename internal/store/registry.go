package store

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The counters by which the TSDB admits that a log was not written. It returns
// no error for the second one.
const (
	walFailures = "prometheus_tsdb_wal_writes_failed_total"
	wblFailures = "prometheus_tsdb_out_of_order_wbl_writes_failed_total"
)

// registry is the registerer of one opening of the database: it remembers what
// was registered, so that the next opening may register the same names, and
// finds the counters of failed writes.
type registry struct {
	next       prometheus.Registerer // nil: none
	collectors []prometheus.Collector
	failures   []prometheus.Collector
}

func (r *registry) Register(c prometheus.Collector) error {
	if r.next != nil {
		if err := r.next.Register(c); err != nil {
			return err
		}
	}
	r.collectors = append(r.collectors, c)
	ch := make(chan *prometheus.Desc, 256)
	go func() { c.Describe(ch); close(ch) }()
	for d := range ch {
		if s := d.String(); strings.Contains(s, `"`+walFailures+`"`) || strings.Contains(s, `"`+wblFailures+`"`) {
			r.failures = append(r.failures, c)
		}
	}
	return nil
}

func (r *registry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister answers true without doing anything: close removes all.
func (r *registry) Unregister(prometheus.Collector) bool { return true }

// close takes everything out of the registerer below.
func (r *registry) close() {
	if r.next == nil {
		return
	}
	for _, c := range r.collectors {
		r.next.Unregister(c)
	}
	r.collectors = nil
}

// failedWrites returns how often a write to a log failed since the opening.
func (r *registry) failedWrites() float64 {
	var sum float64
	ch := make(chan prometheus.Metric, 1)
	var m dto.Metric
	for _, c := range r.failures {
		c.Collect(ch)
		if err := (<-ch).Write(&m); err == nil {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

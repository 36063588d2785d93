package verdict

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	results, dropped, stale, rounds, unasked, adopted prometheus.Counter
	transitions                                       *prometheus.CounterVec

	reg prometheus.Registerer
	all []prometheus.Collector

	mu   sync.Mutex
	said time.Time
}

func newMetrics(reg prometheus.Registerer, e *Engine) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_verdict_" + name, Help: help})
	}
	m := &metrics{
		reg:     reg,
		results: counter("results_total", "Results taken from the queue."),
		dropped: counter("dropped_results_total", "Results dropped because the queue was full."),
		stale:   counter("stale_results_total", "Results older than the vote held, or too old to vote."),
		rounds:  counter("confirmations_total", "Times that other regions were asked to probe at once."),
		unasked: counter("unanswered_confirmations_total", "Regions that were asked and gave no result."),
		adopted: counter("adopted_transitions_total", "Transitions that other servers decided."),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_verdict_transitions_total", Help: "Changes of state, by the new one."}, []string{"to"}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_verdict_waiting_transitions", Help: "Transitions that wait to be recorded."},
		func() float64 { return float64(e.out.waiting()) })
	impaired := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_verdict_impaired_regions", Help: "Regions that do not vote, as this server sees it."},
		func() (n float64) {
			for _, r := range e.Regions() {
				if r.Impaired {
					n++
				}
			}
			return n
		})
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.results, m.dropped, m.stale, m.rounds, m.unasked, m.adopted, m.transitions, waiting, impaired} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

// sayDropped logs once a minute, not once per result.
func (m *metrics) sayDropped(log *slog.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.said) >= time.Minute {
		m.said = now
		log.Error("results dropped, the queue of the verdict is full")
	}
}

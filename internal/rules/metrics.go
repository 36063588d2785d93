package rules

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	skipped, restored, told, dropped, putFailed prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Rules) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_rules_" + name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_rules_" + name, Help: help}, f)
	}
	m := &metrics{
		skipped:   counter("evaluations_skipped_total", "Evaluations of groups left out because the store was catching up."),
		restored:  counter("alerts_restored_total", "Alerts whose start was read from the store."),
		told:      counter("alerts_told_total", "Alerts handed to the alerting part, repeats included."),
		dropped:   counter("alerts_dropped_total", "Alerts that could not be handed to the alerting part in time."),
		putFailed: counter("put_failures_total", "Times the alerting part did not take alerts of rules."),
	}
	if reg != nil {
		reg.MustRegister(m.skipped, m.restored, m.told, m.dropped, m.putFailed,
			gauge("groups", "Rule groups there are.", func() float64 { return float64(r.Status().Groups) }),
			gauge("groups_owned", "Rule groups that this server evaluates.", func() float64 { return float64(r.Status().Owned) }),
			gauge("sources_faulty", "Records and files of rules that did not load.", func() float64 { return float64(len(r.Status().Faults)) }))
	}
	return m
}

// Status is what health and pages want to know.
type Status struct {
	Groups int               `json:"groups"`           // there are
	Owned  int               `json:"owned"`            // evaluated here
	Faults map[string]string `json:"faults,omitempty"` // by record or file
}

// Status returns what holds now.
func (r *Rules) Status() Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := Status{Groups: r.plan.total, Owned: r.plan.owned, Faults: map[string]string{}}
	for name, n := range r.plan.left {
		s.Faults[name] = errTooMany(n).Error()
	}
	for name, err := range r.faults {
		s.Faults[name] = err.Error()
	}
	return s
}

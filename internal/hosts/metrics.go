package hosts

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	samples        *prometheus.CounterVec
	refusedSamples prometheus.Counter
	badTimes       prometheus.Counter
	seriesLimit    prometheus.Counter
	storeErrors    prometheus.Counter
	malformed      prometheus.Counter
	refused        *prometheus.CounterVec
	results        *prometheus.CounterVec
	clones         prometheus.Counter
}

func newMetrics(r prometheus.Registerer, h *Hosts) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		samples:        vec("panoptes_hosts_samples_total", "Samples of agents that were stored, by lane.", "lane"),
		refusedSamples: counter("panoptes_hosts_refused_samples_total", "Samples and events of agents that were refused for good."),
		badTimes:       counter("panoptes_hosts_bad_times_total", "Samples of agents that are too old or from the future."),
		seriesLimit:    counter("panoptes_hosts_series_over_limit_total", "Series refused because their host has too many."),
		storeErrors:    counter("panoptes_hosts_store_errors_total", "Attempts to store what agents sent that failed."),
		malformed:      counter("panoptes_hosts_malformed_total", "Streams closed because the agent sent what it should not."),
		refused:        vec("panoptes_hosts_streams_refused_total", "Streams that were not let in, by reason.", "reason"),
		results:        vec("panoptes_hosts_results_total", "Results of checks that agents ran: ok, late, unknown check, over the limit.", "result"),
		clones:         counter("panoptes_hosts_clones_total", "Machines found to run with another one's identity."),
	}
	if r != nil {
		r.MustRegister(m.samples, m.refusedSamples, m.badTimes, m.seriesLimit, m.storeErrors, m.malformed, m.refused, m.results, m.clones,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_hosts_connected", Help: "Agents that talk to this server."}, func() float64 { return float64(len(h.Connected())) }))
	}
	return m
}

package ingest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests   *prometheus.CounterVec
	refused    *prometheus.CounterVec
	samples    *prometheus.CounterVec
	histograms *prometheus.CounterVec
	exemplars  *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	doubles    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, c *cache, b *budget) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		if reg != nil {
			reg.MustRegister(v)
		}
		return v
	}
	m := &metrics{
		requests:   counter("panoptes_ingest_requests_total", "Write requests answered, by protocol and status code.", "protocol", "code"),
		refused:    counter("panoptes_ingest_refused_total", "Requests, series and samples that were refused, by reason.", "reason"),
		samples:    counter("panoptes_ingest_samples_total", "Samples stored, by protocol.", "protocol"),
		histograms: counter("panoptes_ingest_histograms_total", "Native histograms stored, by protocol.", "protocol"),
		exemplars:  counter("panoptes_ingest_exemplars_total", "Exemplars stored, by protocol.", "protocol"),
		doubles:    counter("panoptes_ingest_doubles_total", "Series of requests that were left out because another replica of their cluster is elected, by protocol.", "protocol"),
		duplicates: counter("panoptes_ingest_duplicates_total", "Samples whose time had a value already, by protocol.", "protocol"),
	}
	if reg != nil {
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_ingest_known_series", Help: "Series remembered between requests."},
				func() float64 { return float64(c.size.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_ingest_in_flight_bytes", Help: "Bytes of the requests being read and stored."},
				func() float64 { return float64(b.now()) }),
		)
	}
	return m
}

func (m *metrics) stored(proto string, samples, histograms, exemplars, duplicates int) {
	m.samples.WithLabelValues(proto).Add(float64(samples))
	m.histograms.WithLabelValues(proto).Add(float64(histograms))
	m.exemplars.WithLabelValues(proto).Add(float64(exemplars))
	m.duplicates.WithLabelValues(proto).Add(float64(duplicates))
}

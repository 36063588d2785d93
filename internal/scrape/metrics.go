package scrape

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	movedAway prometheus.Counter
	refused   prometheus.Counter
	divisions prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *Scraper) *metrics {
	m := &metrics{
		movedAway: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "panoptes_scrape_targets_moved_away_total", Help: "Targets that another server scrapes now.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "panoptes_scrape_series_refused_total", Help: "Scraped samples that were left out because the store does not take their series, for example for a label that is too long.",
		}),
		divisions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "panoptes_scrape_division_seconds", Help: "Time to find out which targets are this server's.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, sum func(*job) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.RLock()
			defer s.mu.RUnlock()
			n := 0
			for _, j := range s.jobs {
				n += sum(j)
			}
			return float64(n)
		})
	}
	reg.MustRegister(m.movedAway, m.refused, m.divisions,
		gauge("panoptes_scrape_targets", "Targets of all servers together, after relabelling.", func(j *job) int { return j.view.active }),
		gauge("panoptes_scrape_targets_owned", "Targets that this server scrapes.", func(j *job) int { return j.view.owned }),
		gauge("panoptes_scrape_targets_invalid", "Discovered targets that cannot be scraped.", func(j *job) int { return j.view.faults }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "panoptes_scrape_jobs_failed", Help: "Jobs that this server cannot run."}, func() float64 {
			s.mu.RLock()
			defer s.mu.RUnlock()
			return float64(len(s.problems))
		}))
	return m
}

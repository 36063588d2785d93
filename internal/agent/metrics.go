package agent

import (
	"os"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

type metrics struct {
	attempts     *prometheus.CounterVec
	sentSamples  prometheus.Counter
	sentBytes    prometheus.Counter
	backfilled   prometheus.Counter
	refused      prometheus.Counter
	bufferErrors prometheus.Counter
	skew         prometheus.Gauge
	own          *prometheus.Registry
	info         labels.Labels
	cache        map[string]labels.Labels
}

func newMetrics(r prometheus.Registerer, a *Agent) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		attempts:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_agent_connects_total", Help: "Attempts to connect to a server, by result."}, []string{"result"}),
		sentSamples:  counter("panoptes_agent_sent_samples_total", "Samples sent as soon as they were measured."),
		sentBytes:    counter("panoptes_agent_sent_bytes_total", "Bytes of samples and events sent."),
		backfilled:   counter("panoptes_agent_backfilled_samples_total", "Samples and events that waited on disk and are safe now."),
		refused:      counter("panoptes_agent_refused_samples_total", "Samples and events that a server refused for good."),
		bufferErrors: counter("panoptes_agent_buffer_errors_total", "Failures to write the buffer."),
		skew:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_agent_clock_skew_seconds", Help: "How far this machine's clock is ahead of the server's, as seen when connecting."}),
		own:          prometheus.NewRegistry(),
		cache:        map[string]labels.Labels{},
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	all := []prometheus.Collector{
		m.attempts, m.sentSamples, m.sentBytes, m.backfilled, m.refused, m.bufferErrors, m.skew,
		gauge("panoptes_agent_buffer_bytes", "Size of the buffer on disk.", func() float64 { return float64(a.disk.Stats().Bytes) }),
		gauge("panoptes_agent_buffer_waiting_samples", "Samples and events on disk that no server has yet.", func() float64 { return float64(a.disk.Stats().Waiting) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "panoptes_agent_dropped_samples_total", Help: "Samples and events that were given up because the buffer was full, too old or damaged, or they too large."},
			func() float64 { return float64(a.disk.Stats().Dropped + a.box.lost()) }),
		gauge("panoptes_agent_resident_memory_bytes", "Memory of the agent.", resident),
	}
	m.own.MustRegister(all...)
	if r != nil {
		r.MustRegister(all...)
	}
	m.info = labels.FromStrings(model.MetricName, "panoptes_agent_info", "version", a.cfg.Version, "goos", runtime.GOOS, "goarch", runtime.GOARCH)
	return m
}

// own are the agent's own metrics, as samples.
func (a *Agent) own(at int64) model.Batch {
	out := model.Batch{{Labels: a.m.info, T: at, V: 1}}
	families, err := a.m.own.Gather()
	if err != nil {
		a.log.Debug("own metrics not complete", "err", err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			key := f.GetName()
			pairs := []string{model.MetricName, f.GetName()}
			for _, l := range x.GetLabel() {
				pairs = append(pairs, l.GetName(), l.GetValue())
				key += "\x00" + l.GetValue()
			}
			ls, ok := a.m.cache[key]
			if !ok {
				ls = labels.FromStrings(pairs...)
				a.m.cache[key] = ls
			}
			v := x.GetGauge().GetValue()
			if c := x.GetCounter(); c != nil {
				v = c.GetValue()
			}
			out = append(out, model.Sample{Labels: ls, T: at, V: v})
		}
	}
	return out
}

// resident is what the system says the process has in memory, or what the
// runtime has taken where the system does not say it.
func resident() float64 {
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages int64
		if n := scanTwo(string(b), &size, &pages); n == 2 {
			return float64(pages * int64(os.Getpagesize()))
		}
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return float64(ms.Sys)
}

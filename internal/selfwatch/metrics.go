package selfwatch

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	looks, putFailed, deadManFailed, canaryFailed prometheus.Counter
	took                                          prometheus.Gauge
	fired                                         *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, w *Watch) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_selfwatch_" + name, Help: help})
	}
	m := &metrics{
		looks:         counter("looks_total", "Evaluations of all rules about Panoptes itself."),
		putFailed:     counter("put_failures_total", "Times the alerting part did not take alerts about Panoptes itself."),
		deadManFailed: counter("dead_man_failures_total", "Calls of the dead man's switch that were not answered well."),
		canaryFailed:  counter("canary_failures_total", "Test notifications that did not get through."),
		took:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_selfwatch_look_duration_seconds", Help: "How long the last evaluation took."}),
		fired:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_selfwatch_alerts_fired_total", Help: "Alerts about Panoptes itself that began, by name."}, []string{"alertname"}),
	}
	if reg != nil {
		reg.MustRegister(m.looks, m.putFailed, m.deadManFailed, m.canaryFailed, m.took, m.fired, &view{w})
	}
	return m
}

// view makes metrics of what is known when they are read.
type view struct{ w *Watch }

var (
	descFiring  = prometheus.NewDesc("panoptes_selfwatch_alert_firing", "1 for each alert about Panoptes itself that fires.", []string{"alertname", "subject"}, nil)
	descCPU     = prometheus.NewDesc("panoptes_selfwatch_cpu_share", "Share of the CPUs in use, of the machine or of the container's limit, whichever is larger.", nil, nil)
	descMemory  = prometheus.NewDesc("panoptes_selfwatch_memory_share", "Share of the memory in use, of the machine or of the container's limit, whichever is larger.", nil, nil)
	descDisk    = prometheus.NewDesc("panoptes_selfwatch_disk_free_share", "Share of the data directory's file system that is free.", nil, nil)
	descDeadMan = prometheus.NewDesc("panoptes_selfwatch_dead_man_last_success_timestamp_seconds", "When the dead man's switch last answered.", nil, nil)
	descCanary  = prometheus.NewDesc("panoptes_selfwatch_canary_last_success_timestamp_seconds", "When a test notification last got through.", nil, nil)
	descTook    = prometheus.NewDesc("panoptes_selfwatch_canary_seconds", "How long the last test notification took.", nil, nil)
)

// Describe implements prometheus.Collector.
func (v *view) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descFiring, descCPU, descMemory, descDisk, descDeadMan, descCanary, descTook} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (v *view) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	w := v.w
	seen := map[[2]string]bool{}
	for _, a := range w.Firing() {
		k := [2]string{a.Name, a.Labels["server"]}
		if !seen[k] {
			seen[k] = true
			gauge(descFiring, 1, k[0], k[1])
		}
	}
	m := w.Machine()
	if m.hasCPU {
		gauge(descCPU, m.CPU)
	}
	if m.hasMemory {
		gauge(descMemory, m.Memory)
	}
	if m.hasDisk {
		gauge(descDisk, m.DiskFree)
	}
	w.deadMan.mu.Lock()
	if !w.deadMan.success.IsZero() {
		gauge(descDeadMan, float64(w.deadMan.success.UnixMilli())/1000)
	}
	w.deadMan.mu.Unlock()
	w.canary.mu.Lock()
	if !w.canary.success.IsZero() {
		gauge(descCanary, float64(w.canary.success.UnixMilli())/1000)
		gauge(descTook, w.canary.took.Seconds())
	}
	w.canary.mu.Unlock()
}

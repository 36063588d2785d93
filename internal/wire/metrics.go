package wire

import "github.com/prometheus/client_golang/prometheus"

// metrics of one side of the transport. Methods are registered names, so their
// number is bounded; a client counts what it calls.
type metrics struct {
	calls   *prometheus.CounterVec // method, result
	streams *prometheus.GaugeVec   // method
	bytes   *prometheus.CounterVec // method, direction
	refused *prometheus.CounterVec // reason
	conns   *prometheus.GaugeVec   // role
}

func newMetrics(reg prometheus.Registerer, side string) *metrics {
	name := func(s string) string { return "panoptes_wire_" + side + "_" + s }
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("calls_total"), Help: "Calls and streams that have ended, by method and result."},
			[]string{"method", "result"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("streams"), Help: "Open streams by method."}, []string{"method"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("bytes_total"), Help: "Bytes of messages by method and direction (sent, received), without framing and encryption."},
			[]string{"method", "direction"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("refused_total"), Help: "Connections and calls that were refused or ended before they were served, by reason."},
			[]string{"reason"}),
		conns: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("connections"), Help: "Open connections by role of the peer."}, []string{"role"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.streams, m.bytes, m.refused, m.conns)
	}
	return m
}

// traffic counts one method; its counters are looked up once.
type traffic struct {
	sent, received prometheus.Counter
	streams        prometheus.Gauge
}

func (m *metrics) traffic(method string) *traffic {
	return &traffic{
		sent:     m.bytes.WithLabelValues(method, "sent"),
		received: m.bytes.WithLabelValues(method, "received"),
		streams:  m.streams.WithLabelValues(method),
	}
}

package pushgateway

import (
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"

	"panoptes/internal/model"
)

const (
	pushTime    = "push_time_seconds"
	failureTime = "push_failure_time_seconds"
)

// series is one series of a group with its value, as it goes to the store.
type series struct {
	labels labels.Labels
	v      float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
	ref    atomic.Uint64 // storage.SeriesRef; 0 = not known
}

func timeSeries(group labels.Labels, name string, m moment) *series {
	b := labels.NewBuilder(group)
	b.Set(model.MetricName, name)
	return &series{labels: b.Labels(), v: float64(m.At) / 1000}
}

// makeFamily checks a family and makes its series, which have the labels of the
// group instead of their own of the same names.
func (p *Pushgateway) makeFamily(group labels.Labels, mf *dto.MetricFamily) (*family, error) {
	name := mf.GetName()
	switch {
	case name == "":
		return nil, badBody("has a metric without a name")
	case len(name) > p.cfg.MaxLabelName:
		return nil, badBody("metric %.100q… has a name of %d bytes, %d are allowed", name, len(name), p.cfg.MaxLabelName)
	case !utf8.ValidString(name):
		return nil, badBody("metric %.100q has a name that is not UTF-8", name)
	case len(mf.GetHelp()) > p.cfg.MaxLabelValue:
		return nil, badBody("metric %.100q has a help text of %d bytes, %d are allowed", name, len(mf.GetHelp()), p.cfg.MaxLabelValue)
	case !utf8.ValidString(mf.GetHelp()):
		return nil, badBody("metric %.100q has a help text that is not UTF-8", name)
	}
	f := &family{name: name, kind: mf.GetType(), help: mf.GetHelp()}
	m := maker{p: p, f: f, group: group, seen: map[uint64]struct{}{}}
	for _, x := range mf.Metric {
		if err := m.metric(x); err != nil {
			return nil, err
		}
		if len(f.series) > p.cfg.MaxSeries {
			return nil, p.tooManySeries()
		}
	}
	var err error
	if f.data, err = (proto.MarshalOptions{Deterministic: true}).Marshal(mf); err != nil {
		return nil, badBody("metric %.100q cannot be kept: %s", name, err)
	}
	return f, nil
}

// maker makes the series of a family.
type maker struct {
	p     *Pushgateway
	f     *family
	group labels.Labels
	seen  map[uint64]struct{}
	b     *labels.Builder
}

func (m *maker) metric(x *dto.Metric) error {
	name := m.f.name
	if x.TimestampMs != nil {
		return badBody("metric %q has a timestamp; what is pushed gets the time of the push", name)
	}
	if err := m.labels(x); err != nil {
		return err
	}
	missing := func() error {
		return badBody("metric %q is a %s but has no such value", name, m.f.kind)
	}
	switch m.f.kind {
	case dto.MetricType_COUNTER:
		if x.Counter == nil {
			return missing()
		}
		return m.add(name, "", 0, x.Counter.GetValue())
	case dto.MetricType_GAUGE:
		if x.Gauge == nil {
			return missing()
		}
		return m.add(name, "", 0, x.Gauge.GetValue())
	case dto.MetricType_UNTYPED:
		if x.Untyped == nil {
			return missing()
		}
		return m.add(name, "", 0, x.Untyped.GetValue())
	case dto.MetricType_SUMMARY:
		if x.Summary == nil {
			return missing()
		}
		return m.summary(x.Summary)
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		if x.Histogram == nil {
			return missing()
		}
		return m.histogram(x.Histogram)
	}
	return badBody("metric %q has an unknown type", name)
}

// labels begins the labels of a metric.
func (m *maker) labels(x *dto.Metric) error {
	if len(x.Label)+m.group.Len()+1 > m.p.cfg.MaxLabels {
		return badBody("metric %q has more than %d labels with its name and those of the group", m.f.name, m.p.cfg.MaxLabels)
	}
	m.b = labels.NewBuilder(labels.EmptyLabels())
	for i, l := range x.Label {
		name, value := l.GetName(), l.GetValue()
		switch {
		case name == "" || name == model.MetricName:
			return badBody("metric %q has a label without a name, or with the name %s", m.f.name, model.MetricName)
		case len(name) > m.p.cfg.MaxLabelName:
			return badBody("metric %q: label name %.100q… has %d bytes, %d are allowed", m.f.name, name, len(name), m.p.cfg.MaxLabelName)
		case len(value) > m.p.cfg.MaxLabelValue:
			return badBody("metric %q: the value of label %.100q has %d bytes, %d are allowed", m.f.name, name, len(value), m.p.cfg.MaxLabelValue)
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return badBody("metric %q: label %.100q is not UTF-8", m.f.name, name)
		}
		for _, other := range x.Label[:i] {
			if other.GetName() == name {
				return badBody("metric %q has the label %q twice", m.f.name, name)
			}
		}
		m.b.Set(name, value)
	}
	m.group.Range(func(l labels.Label) { m.b.Set(l.Name, l.Value) })
	return nil
}

// add makes one series; extra is a label that tells it from its siblings.
func (m *maker) add(name, extra string, bound, v float64) error {
	return m.append(name, extra, bound, &series{v: v})
}

func (m *maker) append(name, extra string, bound float64, s *series) error {
	m.b.Set(model.MetricName, name)
	if extra != "" {
		m.b.Set(extra, labels.FormatOpenMetricsFloat(bound))
		defer m.b.Del(extra)
	}
	s.labels = m.b.Labels()
	h := s.labels.Hash()
	if _, twice := m.seen[h]; twice {
		return badBody("has the series %s twice, with the labels of its group", brief(s.labels))
	}
	m.seen[h] = struct{}{}
	m.f.series = append(m.f.series, s)
	if len(m.f.series) > m.p.cfg.MaxSeries {
		return m.p.tooManySeries()
	}
	return nil
}

func (m *maker) summary(x *dto.Summary) error {
	for _, q := range x.Quantile {
		if err := m.add(m.f.name, "quantile", q.GetQuantile(), q.GetValue()); err != nil {
			return err
		}
	}
	if err := m.add(m.f.name+"_sum", "", 0, x.GetSampleSum()); err != nil {
		return err
	}
	return m.add(m.f.name+"_count", "", 0, float64(x.GetSampleCount()))
}

func brief(ls labels.Labels) string {
	if s := ls.String(); len(s) <= 300 {
		return s
	}
	return fmt.Sprintf("%.300s…", ls.String())
}

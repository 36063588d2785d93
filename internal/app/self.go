package app

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// selfInterval is the time between two samples of our own metrics.
const selfInterval = 15 * time.Second

// selfMonitor stores this process's own metrics, as a scrape of /metrics would.
type selfMonitor struct {
	node     string
	gatherer prometheus.Gatherer
	append   func(context.Context, model.Batch) error
	extra    func(now time.Time) model.Batch // further series of the moment: verdicts
	log      *slog.Logger
}

// Run samples until ctx ends. What cannot be stored is left out: the next
// sample is only seconds away.
func (s *selfMonitor) Run(ctx context.Context) error {
	t := time.NewTicker(selfInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			families, err := s.gatherer.Gather()
			if err != nil {
				s.log.Warn("own metrics incomplete", "err", err)
			}
			b := append(s.extra(now), selfBatch(families, s.node, now)...)
			if err := s.append(ctx, b); err != nil && ctx.Err() == nil && !errors.Is(err, model.ErrNoSpace) && !errors.Is(err, errUnknownYet) {
				s.log.Warn("own metrics not stored", "err", err)
			}
		}
	}
}

// selfBatch turns metric families into samples, the way the text format names them.
func selfBatch(families []*dto.MetricFamily, node string, now time.Time) model.Batch {
	var out model.Batch
	at := now.UnixMilli()
	b := labels.NewScratchBuilder(8)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			add := func(name string, v float64, extra ...string) {
				b.Reset()
				b.Add(model.MetricName, name)
				b.Add("job", "panoptes")
				b.Add("instance", node)
				for _, l := range m.GetLabel() {
					b.Add(l.GetName(), l.GetValue())
				}
				for i := 0; i+1 < len(extra); i += 2 {
					b.Add(extra[i], extra[i+1])
				}
				b.Sort()
				out = append(out, model.Sample{Labels: b.Labels(), T: at, V: v})
			}
			name := f.GetName()
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				add(name, m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				add(name, m.GetGauge().GetValue())
			case dto.MetricType_UNTYPED:
				add(name, m.GetUntyped().GetValue())
			case dto.MetricType_SUMMARY:
				for _, q := range m.GetSummary().GetQuantile() {
					add(name, q.GetValue(), "quantile", number(q.GetQuantile()))
				}
				add(name+"_sum", m.GetSummary().GetSampleSum())
				add(name+"_count", float64(m.GetSummary().GetSampleCount()))
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				seenInf := false
				for _, bk := range h.GetBucket() {
					seenInf = seenInf || math.IsInf(bk.GetUpperBound(), 1)
					add(name+"_bucket", float64(bk.GetCumulativeCount()), "le", number(bk.GetUpperBound()))
				}
				if !seenInf && len(h.GetBucket()) > 0 {
					add(name+"_bucket", float64(h.GetSampleCount()), "le", "+Inf")
				}
				add(name+"_sum", h.GetSampleSum())
				add(name+"_count", float64(h.GetSampleCount()))
			}
		}
	}
	return out
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

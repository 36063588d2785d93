package pushgateway

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
)

// histogram makes the series of a histogram: buckets, sum and count of a
// classic one, one series of a native one. A push may have both.
func (m *maker) histogram(x *dto.Histogram) error {
	native := len(x.PositiveSpan)+len(x.NegativeSpan) > 0 || x.GetZeroThreshold() > 0 || x.GetZeroCount() > 0 || x.GetZeroCountFloat() > 0
	if native {
		s, err := m.native(x)
		if err != nil {
			return badBody("histogram %q: %s", m.f.name, err)
		}
		if err := m.append(m.f.name, "", 0, s); err != nil {
			return err
		}
		if len(x.Bucket) == 0 {
			return nil
		}
	}
	count := float64(x.GetSampleCount())
	if x.SampleCountFloat != nil {
		count = x.GetSampleCountFloat()
	}
	infinite := false
	for _, b := range x.Bucket {
		v := float64(b.GetCumulativeCount())
		if b.CumulativeCountFloat != nil {
			v = b.GetCumulativeCountFloat()
		}
		infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
		if err := m.add(m.f.name+"_bucket", "le", b.GetUpperBound(), v); err != nil {
			return err
		}
	}
	if !infinite {
		if err := m.add(m.f.name+"_bucket", "le", math.Inf(1), count); err != nil {
			return err
		}
	}
	if err := m.add(m.f.name+"_sum", "", 0, x.GetSampleSum()); err != nil {
		return err
	}
	return m.add(m.f.name+"_count", "", 0, count)
}

func (m *maker) native(x *dto.Histogram) (*series, error) {
	hint := histogram.UnknownCounterReset
	if m.f.kind == dto.MetricType_GAUGE_HISTOGRAM {
		hint = histogram.GaugeType
	}
	if x.GetSampleCountFloat() > 0 || x.GetZeroCountFloat() > 0 {
		fh := &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: x.GetSchema(), ZeroThreshold: x.GetZeroThreshold(),
			Count: x.GetSampleCountFloat(), Sum: x.GetSampleSum(), ZeroCount: x.GetZeroCountFloat(),
			PositiveSpans: spans(x.PositiveSpan), PositiveBuckets: x.PositiveCount,
			NegativeSpans: spans(x.NegativeSpan), NegativeBuckets: x.NegativeCount,
		}
		return &series{fh: fh}, fh.Validate()
	}
	h := &histogram.Histogram{
		CounterResetHint: hint, Schema: x.GetSchema(), ZeroThreshold: x.GetZeroThreshold(),
		Count: x.GetSampleCount(), Sum: x.GetSampleSum(), ZeroCount: x.GetZeroCount(),
		PositiveSpans: spans(x.PositiveSpan), PositiveBuckets: x.PositiveDelta,
		NegativeSpans: spans(x.NegativeSpan), NegativeBuckets: x.NegativeDelta,
	}
	return &series{h: h}, h.Validate()
}

func spans(in []*dto.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}

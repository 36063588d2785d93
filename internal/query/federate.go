package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/protobuf/proto"

	"panoptes/internal/model"
)

// newest is the last value of a series.
type newest struct {
	labels labels.Labels
	t      int64
	v      float64
	h      *histogram.FloatHistogram // nil for a plain value
}

// federate answers GET and POST /federate?match[]=…: the newest sample of every
// selected series, in the format that the client asks for. All of it is
// gathered before the first byte is sent, so that an error has its status code.
func (q *Query) federate(w http.ResponseWriter, r *http.Request) {
	sets, err := selectors(r.Form["match[]"])
	if err != nil {
		q.refuse(w, "match", http.StatusBadRequest, err)
		return
	}
	found, err := q.newest(r.Context(), sets, time.Now())
	switch {
	case errors.Is(err, model.ErrUnavailable):
		q.refuse(w, "not_ready", http.StatusServiceUnavailable, err)
		return
	case errors.Is(err, model.ErrLimit):
		q.refuse(w, "limit", http.StatusUnprocessableEntity, err)
		return
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		q.refuse(w, "canceled", http.StatusServiceUnavailable, err)
		return
	case err != nil:
		q.log.Error("federation", "err", err)
		q.refuse(w, "internal", http.StatusInternalServerError, errors.New("reading the samples did not work; the server's log has the reason"))
		return
	}
	//lint:ignore SA1019 its replacement needs the list of formats that this one knows
	format := expfmt.NegotiateIncludingOpenMetrics(r.Header)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families(found, q.cfg.ExternalLabels, format) {
		if err := enc.Encode(f); err != nil {
			q.log.Debug("federation ended early", "family", f.GetName(), "err", err)
			return
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			q.log.Debug("federation ended early", "err", err)
		}
	}
}

// selectors parses match[] parameters; at least one is needed.
func selectors(exprs []string) ([][]*labels.Matcher, error) {
	if len(exprs) == 0 {
		return nil, errors.New(`match[]: give at least one selector, for example match[]={job="node"}`)
	}
	sets := make([][]*labels.Matcher, 0, len(exprs))
	for _, e := range exprs {
		ms, err := parser.ParseMetricSelector(e)
		if err != nil {
			return nil, fmt.Errorf("match[]: %w", err)
		}
		sets = append(sets, ms)
	}
	return sets, nil
}

// newest finds the last sample of each series that is not older than the
// lookback and not a stale marker, ordered by name and labels.
func (q *Query) newest(ctx context.Context, sets [][]*labels.Matcher, now time.Time) ([]newest, error) {
	from, to := now.Add(-q.cfg.Lookback).UnixMilli(), now.UnixMilli()
	querier, err := q.store.Querier(from, to)
	if err != nil {
		return nil, err
	}
	defer querier.Close()
	selected := make([]storage.SeriesSet, 0, len(sets))
	for _, ms := range sets {
		selected = append(selected, querier.Select(ctx, true, &storage.SelectHints{Start: from, End: to}, ms...))
	}
	var found []newest
	it := storage.NewMemoizedEmptyIterator(q.cfg.Lookback.Milliseconds())
	set := storage.NewMergeSeriesSet(selected, 0, storage.ChainedSeriesMerge)
	for set.Next() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s := set.At()
		it.Reset(s.Iterator(nil))
		// Seeking past the end leaves the last sample behind the iterator.
		it.Seek(to + 1)
		t, v, h, ok := it.PeekPrev()
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read series %s: %w", s.Labels(), err)
		}
		if !ok || h == nil && value.IsStaleNaN(v) || h != nil && value.IsStaleNaN(h.Sum) {
			continue
		}
		if h != nil {
			h = h.Copy() // the iterator uses its buffer again
		}
		found = append(found, newest{labels: s.Labels(), t: t, v: v, h: h})
	}
	if err := set.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b newest) int {
		if c := cmp.Compare(a.labels.Get(model.MetricName), b.labels.Get(model.MetricName)); c != 0 {
			return c
		}
		if c := cmp.Compare(a.kind(), b.kind()); c != 0 {
			return c
		}
		return labels.Compare(a.labels, b.labels)
	})
	return found, nil
}

func (n *newest) kind() dto.MetricType {
	switch {
	case n.h == nil:
		return dto.MetricType_UNTYPED
	case n.h.CounterResetHint == histogram.GaugeType:
		return dto.MetricType_GAUGE_HISTOGRAM
	}
	return dto.MetricType_HISTOGRAM
}

// fits says whether the format can carry n: native histograms need protobuf,
// and OpenMetrics has no place for counts that are not whole numbers.
func (n *newest) fits(f expfmt.Format) bool {
	switch f.FormatType() {
	case expfmt.TypeProtoDelim, expfmt.TypeProtoText, expfmt.TypeProtoCompact:
		return true
	case expfmt.TypeOpenMetrics:
		return n.h == nil || n.h.UsesCustomBuckets() && whole(n.h)
	}
	return n.h == nil || n.h.UsesCustomBuckets()
}

func whole(h *histogram.FloatHistogram) bool {
	for _, c := range h.PositiveBuckets {
		if c != math.Trunc(c) || c < 0 {
			return false
		}
	}
	return h.Count == math.Trunc(h.Count) && h.Count >= 0 && h.Count < 1<<53
}

// families groups ordered samples by name and kind. Series without a name are
// left out; so is what the format has no place for.
func families(found []newest, external labels.Labels, format expfmt.Format) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	for i := range found {
		n := &found[i]
		name, kind := n.labels.Get(model.MetricName), n.kind()
		if name == "" || !n.fits(format) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].GetName() != name || out[len(out)-1].GetType() != kind {
			out = append(out, &dto.MetricFamily{Name: proto.String(name), Type: kind.Enum()})
		}
		f := out[len(out)-1]
		m := &dto.Metric{Label: pairs(n.labels, external), TimestampMs: proto.Int64(n.t)}
		switch {
		case n.h == nil:
			m.Untyped = &dto.Untyped{Value: proto.Float64(n.v)}
		case n.h.UsesCustomBuckets():
			m.Histogram = classic(n.h)
		default:
			m.Histogram = exponential(n.h)
		}
		f.Metric = append(f.Metric, m)
	}
	return out
}

// pairs are the labels without the name, with the external ones that the
// series does not have itself. An empty instance keeps the scraper from putting
// its own address there.
func pairs(ls, external labels.Labels) []*dto.LabelPair {
	var out []*dto.LabelPair
	add := func(l labels.Label) {
		out = append(out, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
	}
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricName {
			add(l)
		}
	})
	external.Range(func(l labels.Label) {
		if !ls.Has(l.Name) {
			add(l)
		}
	})
	if !ls.Has(pm.InstanceLabel) && !external.Has(pm.InstanceLabel) {
		add(labels.Label{Name: pm.InstanceLabel})
	}
	return out
}

// exponential writes a native histogram with its standard buckets.
func exponential(h *histogram.FloatHistogram) *dto.Histogram {
	spans := func(in []histogram.Span) []*dto.BucketSpan {
		out := make([]*dto.BucketSpan, len(in))
		for i, s := range in {
			out[i] = &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)}
		}
		return out
	}
	return &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Schema:           proto.Int32(h.Schema),
		ZeroThreshold:    proto.Float64(h.ZeroThreshold),
		ZeroCountFloat:   proto.Float64(h.ZeroCount),
		PositiveSpan:     spans(h.PositiveSpans),
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     spans(h.NegativeSpans),
		NegativeCount:    h.NegativeBuckets,
	}
}

// classic writes a native histogram with custom bounds as buckets with "le".
func classic(h *histogram.FloatHistogram) *dto.Histogram {
	counts := map[int32]float64{}
	for it := h.PositiveBucketIterator(); it.Next(); {
		b := it.At()
		counts[b.Index] = b.Count
	}
	out := &dto.Histogram{SampleSum: proto.Float64(h.Sum)}
	integers := whole(h)
	if integers {
		out.SampleCount = proto.Uint64(uint64(h.Count))
	} else {
		out.SampleCountFloat = proto.Float64(h.Count)
	}
	var sum float64
	for i, bound := range h.CustomValues {
		sum += counts[int32(i)]
		b := &dto.Bucket{UpperBound: proto.Float64(bound)}
		if integers {
			b.CumulativeCount = proto.Uint64(uint64(sum))
		} else {
			b.CumulativeCountFloat = proto.Float64(sum)
		}
		out.Bucket = append(out.Bucket, b)
	}
	return out
}

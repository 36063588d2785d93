package remote

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Appender gathers a batch. Its Commit sends it and returns nil when the engine
// has taken, or refused for good, everything in it: while the engine cannot be
// reached it tries again until ctx ends.
func (e *Engine) Appender(ctx context.Context) storage.Appender {
	return &appender{e: e, ctx: ctx, byRef: map[storage.SeriesRef]*prompb.TimeSeries{}, byLabels: map[string]storage.SeriesRef{}}
}

// appender belongs to one goroutine and lives as long as one batch: that is why
// it holds a context.
type appender struct {
	e   *Engine
	ctx context.Context

	byRef    map[storage.SeriesRef]*prompb.TimeSeries
	byLabels map[string]storage.SeriesRef // of those that came without
	buf      []byte
	series   []*prompb.TimeSeries
	metadata []prompb.MetricMetadata
	ended    bool
}

// of returns the series to add to. References are numbers of this engine, which
// mean the same series as long as whoever got them uses them for it.
func (a *appender) of(ref storage.SeriesRef, l labels.Labels) (storage.SeriesRef, *prompb.TimeSeries) {
	if ref == 0 {
		a.buf = l.Bytes(a.buf)
		if ref = a.byLabels[string(a.buf)]; ref == 0 {
			ref = storage.SeriesRef(a.e.nextRef.Add(1))
			a.byLabels[string(a.buf)] = ref
		}
	}
	ts := a.byRef[ref]
	if ts == nil {
		ts = &prompb.TimeSeries{Labels: prompb.FromLabels(l, nil)}
		a.byRef[ref] = ts
		a.series = append(a.series, ts)
	}
	return ref, ts
}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if a.ended {
		return 0, errCommitted
	}
	ref, ts := a.of(ref, l)
	ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: v})
	return ref, nil
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if a.ended {
		return 0, errCommitted
	}
	ref, ts := a.of(ref, l)
	if h != nil {
		ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(t, h))
	} else if fh != nil {
		ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(t, fh))
	}
	return ref, nil
}

func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, x exemplar.Exemplar) (storage.SeriesRef, error) {
	if a.ended {
		return 0, errCommitted
	}
	ref, ts := a.of(ref, l)
	ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: prompb.FromLabels(x.Labels, nil), Timestamp: x.Ts, Value: x.Value})
	return ref, nil
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, l labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	if a.e.cfg.Version == version2 {
		a.e.metadata.put(l.Get(model.MetricName), m)
		return ref, nil
	}
	a.metadata = append(a.metadata, prompb.MetricMetadata{
		Type: prompb.FromMetadataType(m.Type), MetricFamilyName: l.Get(model.MetricName), Help: m.Help, Unit: m.Unit,
	})
	return ref, nil
}

// AppendSTZeroSample is an ordinary sample to the engine.
func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, l labels.Labels, _, st int64) (storage.SeriesRef, error) {
	return a.Append(ref, l, st, 0)
}

// AppendHistogramSTZeroSample does nothing: the first histogram tells as much.
func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) SetOptions(*storage.AppendOptions) {}

func (a *appender) Rollback() error {
	a.ended = true
	return nil
}

// Commit sends different series beside each other and those of one series in
// their order.
func (a *appender) Commit() error {
	if a.ended {
		return errCommitted
	}
	a.ended = true
	lanes := make([][]*prompb.TimeSeries, min(a.e.cfg.Parallel, max(1, len(a.series)/minLane)))
	for i, ts := range a.series {
		lanes[i%len(lanes)] = append(lanes[i%len(lanes)], ts)
	}
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() { errs[i] = a.lane(lane) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if len(a.metadata) > 0 {
		return a.e.deliver(a.ctx, &prompb.WriteRequest{Metadata: a.metadata})
	}
	return nil
}

const (
	requestSamples = 2000
	minLane        = 100 // series that are worth a request of their own
)

// lane sends some series in requests of a sensible size.
func (a *appender) lane(list []*prompb.TimeSeries) error {
	req := &prompb.WriteRequest{}
	room := requestSamples
	flush := func() error {
		if len(req.Timeseries) == 0 {
			return nil
		}
		err := a.e.deliver(a.ctx, req)
		req, room = &prompb.WriteRequest{}, requestSamples
		return err
	}
	for _, ts := range list {
		rest := *ts
		for {
			part := rest
			part.Samples = rest.Samples[:min(room, len(rest.Samples))]
			rest.Samples = rest.Samples[len(part.Samples):]
			rest.Histograms, rest.Exemplars = nil, nil // with the first part
			req.Timeseries = append(req.Timeseries, part)
			if room -= max(1, weigh(part)); room <= 0 {
				if err := flush(); err != nil {
					return err
				}
			}
			if len(rest.Samples) == 0 {
				break
			}
		}
	}
	return flush()
}

// histogramWeight is what a histogram counts in samples: it is about as large.
const histogramWeight = 20

func weigh(ts prompb.TimeSeries) int {
	return len(ts.Samples) + len(ts.Exemplars) + histogramWeight*len(ts.Histograms)
}

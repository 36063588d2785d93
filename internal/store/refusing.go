package store

import (
	"errors"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// refusing is the appender of a store that can store nothing at the moment.
type refusing struct {
	s   *Store
	err error
}

func (r *refusing) refuse() (storage.SeriesRef, error) {
	reason := reasonClosed
	if errors.Is(r.err, model.ErrNoSpace) {
		reason = reasonNoSpace
	}
	r.s.m.refused.WithLabelValues(reason).Inc()
	return 0, r.err
}

func (r *refusing) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return r.refuse()
}

func (r *refusing) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r.refuse()
}

func (r *refusing) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r *refusing) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r *refusing) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r *refusing) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r *refusing) GetRef(labels.Labels, uint64) (storage.SeriesRef, labels.Labels) {
	return 0, labels.EmptyLabels()
}

func (r *refusing) SetOptions(*storage.AppendOptions) {}
func (r *refusing) Commit() error                     { return r.err }
func (r *refusing) Rollback() error                   { return nil }

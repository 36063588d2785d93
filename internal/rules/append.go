package rules

import (
	"context"
	"errors"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	engine "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

func hasTemplate(s string) bool { return strings.Contains(s, "{{") }

// appendable is where the engine writes. Two kinds of batches come: results of
// an evaluation, and the stale markers of a group that has left.
type appendable struct{ r *Rules }

// Appender implements storage.Appendable.
func (a appendable) Appender(ctx context.Context) storage.Appender {
	app := a.r.deps.Appendable.Appender(ctx)
	if _, ok := ctx.Value(evaluationKey{}).(evaluation); !ok && a.r.moved(ctx) {
		// Another server goes on with these series: a marker at the time when
		// this one stopped would end alerts that are still pending.
		return &dropping{Appender: app}
	}
	return &batch{Appender: app}
}

// moved reports whether the group that writes is still there, and only not
// evaluated here any more. What is not known is taken to have moved: a series
// that ends without a marker is forgotten after five minutes.
func (r *Rules) moved(ctx context.Context) bool {
	origin, ok := ctx.Value(promql.QueryOrigin{}).(map[string]any)
	if !ok {
		return true
	}
	group, ok := origin["ruleGroup"].(map[string]string)
	if !ok {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.plan.known[engine.GroupKey(group["file"], group["name"])]
}

// dropping takes everything and keeps nothing.
type dropping struct{ storage.Appender }

func (d *dropping) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, nil
}

func (d *dropping) Commit() error { return d.Rollback() }

// batch turns "nothing can be stored now" into one error at the end: the engine
// logs every refused sample.
type batch struct {
	storage.Appender
	refused error
}

func (b *batch) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if b.refused != nil {
		return 0, nil
	}
	got, err := b.Appender.Append(ref, l, t, v)
	return got, b.keep(err)
}

func (b *batch) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if b.refused != nil {
		return 0, nil
	}
	got, err := b.Appender.AppendHistogram(ref, l, t, h, fh)
	return got, b.keep(err)
}

func (b *batch) keep(err error) error {
	if errors.Is(err, model.ErrNoSpace) || errors.Is(err, model.ErrUnavailable) {
		b.refused = err
		return nil
	}
	return err
}

// Commit implements storage.Appender.
func (b *batch) Commit() error {
	if b.refused != nil {
		return errors.Join(b.refused, b.Rollback())
	}
	return b.Appender.Commit()
}

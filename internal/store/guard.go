package store

import (
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"panoptes/internal/model"
)

// guard looks at the labels of every series that is about to come into being,
// so that samples of known series cost nothing. While the log is replayed it
// takes everything: it was accepted once.
type guard struct {
	cfg Config
	on  atomic.Bool
}

// PreCreation refuses a series (tsdb.SeriesLifecycleCallback).
func (g *guard) PreCreation(ls labels.Labels) error {
	if !g.on.Load() {
		return nil
	}
	return checkLabels(ls, g.cfg)
}

// PostCreation does nothing (tsdb.SeriesLifecycleCallback).
func (g *guard) PostCreation(labels.Labels) {}

// PostDeletion does nothing (tsdb.SeriesLifecycleCallback).
func (g *guard) PostDeletion(map[chunks.HeadSeriesRef]labels.Labels) {}

func checkLabels(ls labels.Labels, c Config) error {
	var inv model.Invalid
	var limit error
	n, named := 0, false
	ls.Range(func(l labels.Label) {
		n++
		switch {
		case l.Name == "":
			inv.Add("labels", "a label has no name")
		case !utf8.ValidString(l.Name):
			inv.Add("labels", "the name %q is not valid UTF-8", clip(l.Name))
		case !utf8.ValidString(l.Value):
			inv.Add("labels."+clip(l.Name), "the value is not valid UTF-8")
		case l.Name == model.MetricName:
			named = l.Value != ""
			if len(l.Value) > c.MaxNameBytes {
				limit = fmt.Errorf("the metric's name %s has %d bytes, at most %d are taken: %w", clip(l.Value), len(l.Value), c.MaxNameBytes, model.ErrLimit)
			}
		case len(l.Name) > c.MaxNameBytes:
			limit = fmt.Errorf("the name of label %s has %d bytes, at most %d are taken: %w", clip(l.Name), len(l.Name), c.MaxNameBytes, model.ErrLimit)
		case len(l.Value) > c.MaxValueBytes:
			limit = fmt.Errorf("the value of label %s has %d bytes, at most %d are taken: %w", clip(l.Name), len(l.Value), c.MaxValueBytes, model.ErrLimit)
		}
	})
	if !named {
		inv.Add("labels."+model.MetricName, "is empty; name the metric")
	}
	if len(inv) > 0 {
		return inv
	}
	if n > c.MaxLabels {
		return fmt.Errorf("the series has %d labels, at most %d are taken: %w", n, c.MaxLabels, model.ErrLimit)
	}
	return limit
}

// clip keeps what strangers sent short in a message.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

package rules

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

type boundKey struct{}

// Bind keeps what is read below ctx to series that have the labels, whatever an
// expression or a template selects. Empty labels bind nothing.
func Bind(ctx context.Context, bound labels.Labels) context.Context {
	if bound.IsEmpty() {
		return ctx
	}
	return context.WithValue(ctx, boundKey{}, bound)
}

func boundOf(ctx context.Context) labels.Labels {
	bound, _ := ctx.Value(boundKey{}).(labels.Labels)
	return bound
}

// boundTexts are the labels as a rule's.
func boundTexts(bound labels.Labels) map[string]Text {
	out := map[string]Text{}
	bound.Range(func(l labels.Label) { out[l.Name] = Text(l.Value) })
	return out
}

// extra are the labels that all groups of a set get.
func (s set) extra() map[string]Text {
	out := boundTexts(s.bound)
	for k, v := range s.labels {
		out[k] = v
	}
	return out
}

// checkBound refuses labels that would lead results out of what a record is
// bound to.
func (r Record) checkBound(inv *model.Invalid) {
	bound, err := model.Bound(r.Matchers)
	inv.AddErr("", err)
	check := func(field string, texts map[string]Text) {
		bound.Range(func(b labels.Label) {
			if v, ok := texts[b.Name]; ok && string(v) != b.Value {
				inv.Add(field+"."+b.Name, "must be %q, which the record is bound to by its matchers; leave it out", b.Value)
			}
		})
	}
	check("labels", r.Labels)
	for i, g := range r.Groups {
		at := model.Index("groups", i)
		check(at+".labels", g.Labels)
		for j, rule := range g.Rules {
			check(at+"."+model.Index("rules", j)+".labels", rule.Labels)
		}
	}
}

// bounded adds to each selector what its context is bound to.
type bounded struct{ storage.Queryable }

// Querier implements storage.Queryable.
func (b bounded) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := b.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return boundedQuerier{q}, nil
}

type boundedQuerier struct{ storage.Querier }

// Select implements storage.Querier.
func (q boundedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	boundOf(ctx).Range(func(l labels.Label) {
		ms = append(slices.Clip(ms), labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	return q.Querier.Select(ctx, sorted, hints, ms...)
}

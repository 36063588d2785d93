package pushgateway

import (
	"errors"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// errTooMuch is answered with 422: the same push will never be taken.
var errTooMuch = errors.New("limit exceeded")

// inconsistent is a push that contradicts itself or another group.
type inconsistent struct{ msg string }

func (e *inconsistent) Error() string {
	return "pushed metrics are invalid or inconsistent with existing metrics: " + e.msg
}

func contradiction(format string, args ...any) error {
	return &inconsistent{fmt.Sprintf(format, args...)}
}

// parts are the endings that series of a type have behind their family's name.
func parts(kind dto.MetricType) []string {
	switch kind {
	case dto.MetricType_SUMMARY:
		return []string{"_sum", "_count"}
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		return []string{"_sum", "_count", "_bucket"}
	}
	return nil
}

// check says what keeps families from being pushed to a group by who is bound
// to labels. p.mu is held.
func (p *Pushgateway) check(key string, bound labels.Labels, families []*family, replace bool) error {
	g, sp := p.groups[key], p.index.space(bound.String())
	stays := map[string]*family{}                              // metrics of the group that the push does not touch
	total, size, freed, own := 0, int64(0), int64(0), int64(0) // own: freed in the space
	if g != nil {
		for name, f := range g.families {
			stays[name] = f
			freed += int64(len(f.data))
		}
	}
	if g != nil && g.space == sp {
		own = freed
	}
	if replace {
		clear(stays)
	}
	for _, f := range families {
		delete(stays, f.name)
		total += len(f.series)
		size += int64(len(f.data))
	}
	for _, f := range stays {
		total += len(f.series)
		size += int64(len(f.data))
	}
	switch {
	case total > p.cfg.MaxSeries:
		return p.tooManySeries()
	case (g == nil || !g.exists()) && p.full(g):
		return fmt.Errorf("there are %d groups already, the limit; delete what is no longer pushed: %w", p.living, errTooMuch)
	case (g == nil || !g.exists()) && sp.full(g, p.cfg.MaxGroups):
		return fmt.Errorf("there are %d groups with %s already, the limit of who is bound to labels; delete what is no longer pushed: %w", sp.living, bound, errTooMuch)
	case size > freed && p.bytes-freed+size > p.cfg.MaxBytes:
		return fmt.Errorf("all groups together may have %d bytes; delete what is no longer pushed: %w", p.cfg.MaxBytes, errTooMuch)
	case size > own && sp.bytes-own+size > sp.share(p.cfg.MaxBytes):
		return fmt.Errorf("all groups with %s together may have %d bytes; delete what is no longer pushed: %w", bound, sp.share(p.cfg.MaxBytes), errTooMuch)
	}
	all := map[string]*family{} // of the push
	for _, f := range families {
		all[f.name] = f
	}
	for _, f := range families {
		if where, kind, found := sp.elsewhere(f.name, key, stays, func(k dto.MetricType) bool { return k != f.kind }); found {
			return contradiction("metric %s is a %s here and a %s in group %s", f.name, lower(f.kind), lower(kind), where)
		}
		for _, end := range parts(f.kind) {
			name := f.name + end
			if all[name] != nil {
				return contradiction("metric %s is also a part of the %s %s", name, lower(f.kind), f.name)
			}
			if where, _, found := sp.elsewhere(name, key, stays, func(dto.MetricType) bool { return true }); found {
				return contradiction("metric %s of group %s is also a part of the %s %s", name, where, lower(f.kind), f.name)
			}
		}
		for _, end := range []string{"_sum", "_count", "_bucket"} {
			base, has := strings.CutSuffix(f.name, end)
			if !has {
				continue
			}
			holds := func(k dto.MetricType) bool {
				for _, e := range parts(k) {
					if e == end {
						return true
					}
				}
				return false
			}
			if where, kind, found := sp.elsewhere(base, key, stays, holds); found {
				return contradiction("metric %s is also a part of the %s %s in group %s", f.name, lower(kind), base, where)
			}
		}
		for _, s := range f.series {
			where := p.index.series[s.labels.Hash()]
			switch other := p.groups[where]; {
			case where == "" || where == key:
			case other != nil && other.within(bound):
				return contradiction("series %s is pushed in group %s already", brief(s.labels), where)
			default: // of others, whose groups stay their own affair
				return contradiction("series %s is pushed in another group already", brief(s.labels))
			}
		}
	}
	return nil
}

// full says whether there is no room for a group more; g is what is left of an
// earlier one with the same key. p.mu is held.
func (p *Pushgateway) full(g *group) bool {
	return p.living >= p.cfg.MaxGroups || g == nil && len(p.groups) >= mostKept*p.cfg.MaxGroups
}

func lower(k dto.MetricType) string { return strings.ToLower(k.String()) }

// mine says whether an error is the pusher's fault.
func mine(err error) bool {
	var inv model.Invalid
	var i *inconsistent
	return errors.As(err, &inv) || errors.As(err, &i) || errors.Is(err, errTooMuch) || errors.Is(err, model.ErrTooLarge)
}

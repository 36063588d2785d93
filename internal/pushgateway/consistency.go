package pushgateway

import (
	"errors"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"

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

// index knows the types and series of all groups.
type index struct {
	kinds  map[string]map[dto.MetricType]map[string]struct{} // name → type → keys of the groups
	series map[uint64]string                                 // hash of a series → key of its group
}

func newIndex() index {
	return index{kinds: map[string]map[dto.MetricType]map[string]struct{}{}, series: map[uint64]string{}}
}

func (x index) add(key string, f *family) {
	byKind := x.kinds[f.name]
	if byKind == nil {
		byKind = map[dto.MetricType]map[string]struct{}{}
		x.kinds[f.name] = byKind
	}
	if byKind[f.kind] == nil {
		byKind[f.kind] = map[string]struct{}{}
	}
	byKind[f.kind][key] = struct{}{}
	for _, s := range f.series {
		x.series[s.labels.Hash()] = key
	}
}

func (x index) remove(key string, f *family) {
	delete(x.kinds[f.name][f.kind], key)
	if len(x.kinds[f.name][f.kind]) == 0 {
		delete(x.kinds[f.name], f.kind)
	}
	if len(x.kinds[f.name]) == 0 {
		delete(x.kinds, f.name)
	}
	for _, s := range f.series {
		if h := s.labels.Hash(); x.series[h] == key {
			delete(x.series, h)
		}
	}
}

// elsewhere returns a group other than key, and those of own that stay, in which
// name has a type that fits.
func (x index) elsewhere(name, key string, stays map[string]*family, fits func(dto.MetricType) bool) (where string, kind dto.MetricType, found bool) {
	if f := stays[name]; f != nil && fits(f.kind) {
		return key, f.kind, true
	}
	for kind, keys := range x.kinds[name] {
		if !fits(kind) {
			continue
		}
		for k := range keys {
			if k != key {
				return k, kind, true
			}
		}
	}
	return "", 0, false
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

// check says what keeps families from being pushed to a group. p.mu is held.
func (p *Pushgateway) check(key string, families []*family, replace bool) error {
	g := p.groups[key]
	stays := map[string]*family{} // metrics of the group that the push does not touch
	total, size, freed := 0, int64(0), int64(0)
	if g != nil {
		for name, f := range g.families {
			stays[name] = f
			freed += int64(len(f.data))
		}
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
	case size > freed && p.bytes-freed+size > p.cfg.MaxBytes:
		return fmt.Errorf("all groups together may have %d bytes; delete what is no longer pushed: %w", p.cfg.MaxBytes, errTooMuch)
	}
	all := map[string]*family{} // of the push
	for _, f := range families {
		all[f.name] = f
	}
	for _, f := range families {
		if where, kind, found := p.index.elsewhere(f.name, key, stays, func(k dto.MetricType) bool { return k != f.kind }); found {
			return contradiction("metric %s is a %s here and a %s in group %s", f.name, lower(f.kind), lower(kind), where)
		}
		for _, end := range parts(f.kind) {
			name := f.name + end
			if all[name] != nil {
				return contradiction("metric %s is also a part of the %s %s", name, lower(f.kind), f.name)
			}
			if where, _, found := p.index.elsewhere(name, key, stays, func(dto.MetricType) bool { return true }); found {
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
			if where, kind, found := p.index.elsewhere(base, key, stays, holds); found {
				return contradiction("metric %s is also a part of the %s %s in group %s", f.name, lower(kind), base, where)
			}
		}
		for _, s := range f.series {
			if where := p.index.series[s.labels.Hash()]; where != "" && where != key {
				return contradiction("series %s is pushed in group %s already", brief(s.labels), where)
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

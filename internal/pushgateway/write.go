package pushgateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// chunk is how many series are committed at once.
const chunk = 5000

// writeOwned writes the groups that this server owns.
func (p *Pushgateway) writeOwned(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Interval)
	defer cancel()
	p.mu.RLock()
	var all []*series
	for key, g := range p.groups {
		if g.exists() && p.deps.Owns(key) {
			all = append(all, g.all()...)
		}
	}
	p.mu.RUnlock()
	for len(all) > 0 && ctx.Err() == nil {
		n := min(len(all), chunk)
		if err := p.write(ctx, now, all[:n], nil); err != nil {
			p.metrics.failures.Inc()
			p.log.Warn("pushed metrics were not stored this time", "series", len(all), "err", err)
			return
		}
		all = all[n:]
	}
}

// all returns the series of a group, its two times included.
func (g *group) all() []*series {
	out := append(make([]*series, 0, len(g.times)+g.seriesCount()), g.times...)
	for _, f := range g.families {
		out = append(out, f.series...)
	}
	return out
}

// write stores the values of series now, and that others are gone. It returns
// when they are safe.
func (p *Pushgateway) write(ctx context.Context, now time.Time, present, gone []*series) error {
	if len(present)+len(gone) == 0 {
		return nil
	}
	app := p.deps.Appendable.Appender(ctx)
	t := now.UnixMilli()
	var failed error
	for _, s := range present {
		// Of two values in one millisecond the second is stored the next time.
		if err := s.append(app, t); err != nil && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) && failed == nil {
			failed = fmt.Errorf("series %s: %w", brief(s.labels), err)
		}
	}
	stale := math.Float64frombits(value.StaleNaN)
	for _, s := range gone {
		end := &series{labels: s.labels, v: stale}
		switch {
		case s.h != nil:
			end.h = &histogram.Histogram{Sum: stale}
		case s.fh != nil:
			end.fh = &histogram.FloatHistogram{Sum: stale}
		}
		end.ref.Store(s.ref.Load())
		err := end.append(app, t)
		if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			err = end.append(app, t+1) // there is no next time for it
		}
		if err != nil && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) && failed == nil {
			failed = fmt.Errorf("end of series %s: %w", brief(s.labels), err)
		}
	}
	if failed != nil && ctx.Err() != nil {
		return errors.Join(failed, app.Rollback())
	}
	if err := app.Commit(); err != nil { // what the store took of the rest stays
		return fmt.Errorf("store pushed metrics: %w", err)
	}
	return failed
}

func (s *series) append(app storage.Appender, t int64) error {
	ref := storage.SeriesRef(s.ref.Load())
	var got storage.SeriesRef
	var err error
	if s.h != nil || s.fh != nil {
		// the store keeps what it is given
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		if s.h != nil {
			h = s.h.Copy()
		} else {
			fh = s.fh.Copy()
		}
		got, err = app.AppendHistogram(ref, s.labels, t, h, fh)
	} else {
		got, err = app.Append(ref, s.labels, t, s.v)
	}
	if err == nil && got != 0 && got != ref {
		s.ref.Store(uint64(got))
	}
	return err
}

// push takes what was pushed: safe on the disk when it returns nil, and on its
// way to the other servers. It is in the store then, too, unless another server
// writes the group and may just be writing what was pushed before: a counter
// would seem to fall. That one writes it when it hears of it.
func (p *Pushgateway) push(ctx context.Context, group labels.Labels, families []*family, replace bool) error {
	r := &record{Labels: group.Map()}
	key, who := group.String(), p.deps.Bound(ctx)
	p.mu.Lock()
	now := time.Now() // whoever writes older values has looked at them before, and says so
	leave := p.groups[key] != nil && !p.deps.Owns(key)
	if refused := p.check(key, who, families, replace); refused != nil {
		return p.fail(group, who, refused, now)
	}
	v := p.next(now)
	r.Bound = bound{v, who.Map()}
	r.Pushed = moment{v, now.UnixMilli()}
	if replace {
		r.Cleared = v
	}
	for _, f := range families {
		r.Families = append(r.Families, familyRecord{Version: v, Data: f.data, family: f})
	}
	gone, number := p.change(r)
	present := p.groups[key].all()
	if leave {
		present, gone = nil, nil
	}
	p.mu.Unlock()
	return p.settle(ctx, now, number, []*record{r}, present, gone)
}

// fail notes that a push was refused, in a group that is there already or may
// be: what cannot be kept any more is only refused. p.mu is held and given back.
func (p *Pushgateway) fail(group, who labels.Labels, refused error, now time.Time) error {
	g := p.groups[group.String()]
	if (g == nil || !g.exists()) && (p.full(g) || p.index.space(who.String()).full(g, p.cfg.MaxGroups)) {
		p.mu.Unlock()
		return refused
	}
	v := p.next(now)
	r := &record{Labels: group.Map(), Failed: moment{v, now.UnixMilli()}, Bound: bound{v, who.Map()}}
	p.change(r)
	p.mu.Unlock()
	p.publish([]*record{r})
	return refused
}

// remove deletes groups by their keys. One that is not known here may be on
// another server, so that its deletion is remembered all the same.
func (p *Pushgateway) remove(ctx context.Context, groups []labels.Labels) error {
	var records []*record
	var gone []*series
	var number uint64
	who := p.deps.Bound(ctx)
	p.mu.Lock()
	now := time.Now()
	for _, ls := range groups {
		r := &record{Labels: ls.Map(), Deleted: p.next(now)}
		if p.groups[ls.String()] == nil {
			if sp := p.index.space(who.String()); len(p.groups) >= 2*p.cfg.MaxGroups || int64(sp.groups) >= 2*sp.share(int64(p.cfg.MaxGroups)) {
				continue
			}
			r.Bound = bound{r.Deleted, who.Map()}
		}
		ended, n := p.change(r)
		records, gone, number = append(records, r), append(gone, ended...), n
	}
	p.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	return p.settle(ctx, now, number, records, nil, gone)
}

// settle brings a change to the disk, the store and the other servers.
func (p *Pushgateway) settle(ctx context.Context, now time.Time, number uint64, records []*record, present, gone []*series) error {
	if err := p.save(number); err != nil {
		return err
	}
	p.publish(records)
	return p.writeAll(ctx, now, present, gone)
}

func (p *Pushgateway) writeAll(ctx context.Context, now time.Time, present, gone []*series) error {
	for len(present)+len(gone) > 0 {
		a, b := min(len(present), chunk), min(len(gone), chunk)
		if err := p.write(ctx, now, present[:a], gone[:b]); err != nil {
			return err
		}
		present, gone = present[a:], gone[b:]
	}
	return nil
}

// Package pushgateway takes metrics that jobs push because they do not live
// long enough to be scraped. It speaks the API of Prometheus' Pushgateway, keeps
// what was pushed last in groups, on its disk and on every server, and writes
// the groups into the store as if they were scraped.
package pushgateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Config bounds what pushes may cost. Zero values of all but Path mean the default.
type Config struct {
	Path          string        // the file that keeps the groups
	Interval      time.Duration // between two writes of the groups into the store; default 15 s
	MaxBody       int           // bytes of a push, as sent and unpacked; default 4 MiB
	MaxGroups     int           // default 10,000
	MaxSeries     int           // series of a group; default 10,000
	MaxBytes      int64         // of all groups together; default 64 MiB
	MaxInFlight   int64         // bytes of memory for pushes that are being decoded; default 256 MiB
	MaxLabels     int           // labels of a series, the name included; default 64
	MaxLabelName  int           // bytes; default 200
	MaxLabelValue int           // bytes; default 2,048
	KeepDeleted   time.Duration // how long a deletion is remembered for servers that were away; default 72 h
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.MaxBody, 4 << 20}, {&c.MaxGroups, 10_000}, {&c.MaxSeries, 10_000},
		{&c.MaxLabels, 64}, {&c.MaxLabelName, 200}, {&c.MaxLabelValue, 2048},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Interval == 0 {
		c.Interval = 15 * time.Second
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 256 << 20
	}
	if c.KeepDeleted == 0 {
		c.KeepDeleted = 72 * time.Hour
	}
}

func (c *Config) validate() error {
	var inv model.Invalid
	if c.Path == "" {
		inv.Add("path", "is missing; name the file that keeps the groups")
	}
	for name, v := range map[string]int64{
		"interval": int64(c.Interval), "max_body": int64(c.MaxBody), "max_groups": int64(c.MaxGroups), "max_series": int64(c.MaxSeries),
		"max_bytes": c.MaxBytes, "max_in_flight": c.MaxInFlight, "max_labels": int64(c.MaxLabels), "max_label_name": int64(c.MaxLabelName),
		"max_label_value": int64(c.MaxLabelValue), "keep_deleted": int64(c.KeepDeleted),
	} {
		if v < 0 {
			inv.Add(name, "must not be negative; leave it out for the default")
		}
	}
	return inv.Err()
}

// Deps are the collaborators of a Pushgateway. All but Appendable may be nil.
type Deps struct {
	// Appendable stores the series; its Commit returns when they are safe. A
	// reference it hands out must never come to mean another series.
	Appendable storage.Appendable
	Owns       func(key string) bool               // whether this server writes the group into the store; nil = all of them
	Broadcast  func([]byte)                        // brings news to Merge of the other servers; must not block; nil = there are none
	Bound      func(context.Context) labels.Labels // labels that who pushes is bound to: its groups have them; nil = none
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Pushgateway keeps groups of pushed metrics.
type Pushgateway struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	flight  atomic.Int64 // bytes of memory for pushes that are being decoded

	mu      sync.RWMutex // guards what follows
	groups  map[string]*group
	index   index
	bytes   int64     // of all families
	living  int       // groups that are not deleted
	version int64     // the latest that is known; see next
	pending []*record // changed, not yet in the file
	changes uint64    // how many records were ever pending

	file *file
}

// New reads the file and makes a Pushgateway. It starts nothing. A file that is
// damaged is set aside; what is readable of it is kept.
func New(cfg Config, deps Deps) (*Pushgateway, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("pushgateway: %w", err)
	}
	if deps.Appendable == nil {
		return nil, errors.New("pushgateway: nothing given to store samples in")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Owns == nil {
		deps.Owns = func(string) bool { return true }
	}
	if deps.Broadcast == nil {
		deps.Broadcast = func([]byte) {}
	}
	if deps.Bound == nil {
		deps.Bound = func(context.Context) labels.Labels { return labels.EmptyLabels() }
	}
	p := &Pushgateway{cfg: cfg, deps: deps, log: deps.Logger, groups: map[string]*group{}, index: newIndex()}
	p.metrics = newMetrics(deps.Registerer, p)
	var err error
	if p.file, err = openFile(cfg.Path, p.log, p.restore); err != nil {
		return nil, fmt.Errorf("pushgateway: %w", err)
	}
	return p, nil
}

// restore takes a record from the file.
func (p *Pushgateway) restore(r *record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take(r)
}

// Run writes the owned groups into the store in every interval, and keeps the
// file small.
func (p *Pushgateway) Run(ctx context.Context) error {
	defer p.file.close()
	tick := time.NewTicker(p.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := p.save(p.changed()); err != nil {
				p.log.Warn("groups that other servers sent are not in the file", "err", err)
			}
			return nil
		case now := <-tick.C:
			p.forget(now)
			p.writeOwned(ctx, now)
			if err := p.save(p.changed()); err != nil {
				p.log.Warn("groups are not in the file", "err", err)
			}
		}
	}
}

func (p *Pushgateway) changed() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.changes
}

// next returns the version of a change that is made now: later than everything
// known, whatever the clock says. p.mu is held.
func (p *Pushgateway) next(now time.Time) int64 {
	p.version = max(p.version+1, now.UnixNano())
	return p.version
}

// change applies a record that was made here and keeps it for the file. It
// returns the series that are gone and the number for save. p.mu is held.
func (p *Pushgateway) change(r *record) (gone []*series, number uint64) {
	_, gone = p.take(r)
	p.pending = append(p.pending, r)
	p.changes++
	return gone, p.changes
}

// save returns when the changes up to number are in the file, on the disk.
// Whoever comes first writes for all who wait.
func (p *Pushgateway) save(number uint64) error {
	p.file.mu.Lock()
	defer p.file.mu.Unlock()
	if p.file.saved >= number {
		return nil
	}
	if p.file.closed {
		return fmt.Errorf("the server is stopping: %w", model.ErrUnavailable)
	}
	p.mu.Lock()
	batch, last := p.pending, p.changes
	p.pending = nil
	var whole []*record
	if p.file.wantsRewrite() {
		whole = p.records()
	}
	p.mu.Unlock()
	var err error
	if whole != nil {
		err = p.file.rewrite(whole)
	} else {
		err = p.file.append(batch)
	}
	if err != nil { // the next one writes everything anew
		return err
	}
	p.file.saved = last
	return nil
}

// forget ends the memory of deletions that are old enough, and of the older
// half when they are too many.
func (p *Pushgateway) forget(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := now.Add(-p.cfg.KeepDeleted).UnixNano()
	if len(p.groups)-p.living > 2*p.cfg.MaxGroups {
		before = max(before, p.middleDeletion())
	}
	for key, g := range p.groups {
		if !g.exists() && g.deleted <= before {
			p.index.leave(g)
			delete(p.groups, key)
		}
	}
}

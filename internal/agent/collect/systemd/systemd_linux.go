package systemd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"

	"panoptes/internal/agent/collect/metric"
)

// manager is the part of systemd's interface that is used.
type manager interface {
	ListUnitsContext(ctx context.Context) ([]dbus.UnitStatus, error)
	GetUnitTypePropertyContext(ctx context.Context, unit, unitType, name string) (*dbus.Property, error)
	GetUnitPropertyContext(ctx context.Context, unit, name string) (*dbus.Property, error)
	SystemStateContext(ctx context.Context) (*dbus.Property, error)
	Close()
}

// Units reads unit states. All units are listed in one call; what needs a call
// for each unit is asked when the unit's state changed, and for a few units a
// round, so that a busy host's manager is left alone.
type Units struct {
	running          string // exists when systemd is the manager
	include, exclude *regexp.Regexp
	dial             func(ctx context.Context) (manager, error)
	conn             manager
	known            map[string]*unit
	round            int

	mu     sync.Mutex
	failed []Unit
}

type unit struct {
	active, sub string
	kind        string // of a service: simple, notify, …
	restarts    float64
	start       float64
	trigger     float64
	hasRestarts bool
	asked       int
	seen        int
}

const (
	maxUnits   = 2000
	askInRound = 20
)

// New makes the collector "systemd". Units are those that match include and
// not exclude.
func New(root string, include, exclude *regexp.Regexp) *Units {
	return &Units{running: strings.TrimSuffix(root, "/") + "/run/systemd/system", include: include, exclude: exclude,
		dial: connect, known: map[string]*unit{}}
}

func connect(ctx context.Context) (manager, error) {
	if os.Geteuid() == 0 {
		if c, err := dbus.NewSystemdConnectionContext(ctx); err == nil {
			return c, nil
		}
	}
	return dbus.NewSystemConnectionContext(ctx)
}

// Name implements metric.Collector.
func (c *Units) Name() string { return "systemd" }

// Close ends the connection.
func (c *Units) Close() error {
	c.hangUp()
	return nil
}

func (c *Units) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

var unitStates = [...]string{"active", "activating", "deactivating", "inactive", "failed"}

// Collect implements metric.Collector.
func (c *Units) Collect(ctx context.Context, out *metric.Batch) error {
	if _, err := os.Stat(c.running); err != nil {
		return fmt.Errorf("%w: systemd does not run", metric.ErrAbsent)
	}
	if c.conn == nil {
		// The connection outlives the round, so it has no deadline of it.
		conn, err := c.dial(context.WithoutCancel(ctx))
		if err != nil {
			return fmt.Errorf("connect to systemd: %w", err)
		}
		c.conn = conn
	}
	list, err := c.conn.ListUnitsContext(ctx)
	if err != nil {
		c.hangUp()
		return fmt.Errorf("list units: %w", err)
	}
	c.round++
	slices.SortFunc(list, func(a, b dbus.UnitStatus) int { return cmp.Compare(a.Name, b.Name) })
	count := map[string]int{}
	var failed []Unit
	var kept []dbus.UnitStatus
	for _, u := range list {
		count[u.ActiveState]++
		if u.ActiveState == "failed" && len(failed) < 100 {
			failed = append(failed, Unit{u.Name, u.Description, u.ActiveState, u.SubState})
		}
		if u.LoadState == "loaded" && c.wanted(u.Name) && len(kept) < maxUnits {
			kept = append(kept, u)
		}
	}
	c.mu.Lock()
	c.failed = failed
	c.mu.Unlock()
	for _, s := range unitStates {
		out.Add("node_systemd_units", float64(count[s]), "state", s)
	}
	if p, err := c.conn.SystemStateContext(ctx); err == nil {
		s, _ := p.Value.Value().(string)
		out.Bool("node_systemd_system_running", s == "running")
	}
	c.ask(ctx, kept)
	for _, u := range kept {
		c.emit(out, u)
	}
	for n, u := range c.known {
		if u.seen != c.round {
			delete(c.known, n)
		}
	}
	return ctx.Err()
}

func (c *Units) wanted(name string) bool {
	return (c.include == nil || c.include.MatchString(name)) && (c.exclude == nil || !c.exclude.MatchString(name))
}

// ask looks at units that changed, and at those that were not looked at longest.
func (c *Units) ask(ctx context.Context, list []dbus.UnitStatus) {
	var old []dbus.UnitStatus
	left := 10 * askInRound
	for _, u := range list {
		k := c.known[u.Name]
		if k == nil {
			k = &unit{}
			c.known[u.Name] = k
		}
		k.seen = c.round
		switch {
		case k.asked == 0 || k.active != u.ActiveState || k.sub != u.SubState:
			if left--; left >= 0 && ctx.Err() == nil {
				c.look(ctx, u, k)
			}
		default:
			old = append(old, u)
		}
	}
	slices.SortStableFunc(old, func(a, b dbus.UnitStatus) int { return cmp.Compare(c.known[a.Name].asked, c.known[b.Name].asked) })
	for _, u := range old[:min(len(old), askInRound)] {
		if ctx.Err() == nil {
			c.look(ctx, u, c.known[u.Name])
		}
	}
}

func (c *Units) look(ctx context.Context, u dbus.UnitStatus, k *unit) {
	k.active, k.sub, k.asked = u.ActiveState, u.SubState, c.round
	switch {
	case strings.HasSuffix(u.Name, ".service"):
		if k.kind == "" {
			if p, err := c.conn.GetUnitTypePropertyContext(ctx, u.Name, "Service", "Type"); err == nil {
				k.kind, _ = p.Value.Value().(string)
			}
		}
		if p, err := c.conn.GetUnitTypePropertyContext(ctx, u.Name, "Service", "NRestarts"); err == nil {
			n, ok := p.Value.Value().(uint32)
			k.restarts, k.hasRestarts = float64(n), ok
		}
	case strings.HasSuffix(u.Name, ".timer"):
		if p, err := c.conn.GetUnitTypePropertyContext(ctx, u.Name, "Timer", "LastTriggerUSec"); err == nil {
			n, _ := p.Value.Value().(uint64)
			k.trigger = float64(n) / 1e6
		}
	}
	k.start = 0
	if u.ActiveState == "active" {
		if p, err := c.conn.GetUnitPropertyContext(ctx, u.Name, "ActiveEnterTimestamp"); err == nil {
			n, _ := p.Value.Value().(uint64)
			k.start = float64(n) / 1e6
		}
	}
}

func (c *Units) emit(out *metric.Batch, u dbus.UnitStatus) {
	k := c.known[u.Name]
	for _, s := range unitStates {
		out.Bool("node_systemd_unit_state", u.ActiveState == s, "name", u.Name, "state", s, "type", k.kind)
	}
	if k.asked == 0 {
		return
	}
	out.Add("node_systemd_unit_start_time_seconds", k.start, "name", u.Name, "type", k.kind)
	if k.hasRestarts {
		out.Add("node_systemd_service_restart_total", k.restarts, "name", u.Name)
	}
	if strings.HasSuffix(u.Name, ".timer") {
		out.Add("node_systemd_timer_last_trigger_seconds", k.trigger, "name", u.Name)
	}
}

// Failed lists the units that had failed when they were last listed.
func (c *Units) Failed() []Unit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

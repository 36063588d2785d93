package service

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"panoptes/internal/model"
)

// busPatience is how long the bus may take for a connection or an answer: others
// wait to be looked at in the same round.
const busPatience = 3 * time.Second

var errHung = fmt.Errorf("connect to systemd: the bus does not answer: %w", context.DeadlineExceeded)

// bus is what is needed of a connection to systemd.
type bus interface {
	Connected() bool
	Close()
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	GetUnitTypePropertyContext(ctx context.Context, unit, unitType, name string) (*dbus.Property, error)
	RestartUnitContext(ctx context.Context, name, mode string, done chan<- string) (int, error)
}

// units asks systemd over the bus.
type units struct {
	dial func(ctx context.Context) (bus, error)
	conn bus
	hung error         // the bus did not answer in this round
	last chan struct{} // closed when the last try to connect has ended
}

func newUnits() *units { return &units{dial: dialSystemd} }

func dialSystemd(ctx context.Context) (bus, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil, fmt.Errorf("systemd does not run: %w", model.ErrUnavailable)
	}
	if os.Geteuid() == 0 {
		if c, err := dbus.NewSystemdConnectionContext(ctx); err == nil {
			return c, nil
		}
	}
	c, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return c, nil
}

// begin starts a round.
func (u *units) begin(context.Context) { u.hung = nil }

// connect waits for a connection no longer than the bus may take. The
// connection outlives the look: its own context ends only when nobody waits
// for it any more.
func (u *units) connect(ctx context.Context) error {
	if u.hung != nil {
		return u.hung
	}
	if u.conn != nil && u.conn.Connected() {
		return nil
	}
	u.Close()
	select {
	case <-u.last:
	default:
		if u.last != nil { // one that does not end is enough
			u.hung = errHung
			return u.hung
		}
	}
	type result struct {
		conn bus
		err  error
	}
	own, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	made, over := make(chan result), make(chan struct{})
	u.last = over
	go func() {
		defer close(over)
		c, err := u.dial(own)
		select {
		case made <- result{c, err}:
		case <-own.Done(): // too late: nobody waits any more
			if err == nil {
				c.Close()
			}
		}
	}()
	patience := time.NewTimer(busPatience)
	defer patience.Stop()
	select {
	case r := <-made:
		if r.err != nil {
			giveUp()
			return r.err
		}
		u.conn = &lasting{r.conn, giveUp}
		return nil
	case <-patience.C:
		giveUp()
		u.hung = errHung
		return u.hung
	case <-ctx.Done():
		giveUp()
		return fmt.Errorf("connect to systemd: %w", ctx.Err())
	}
}

// lasting is a connection whose context ends with it.
type lasting struct {
	bus
	cancel context.CancelFunc
}

func (l *lasting) Close() {
	l.bus.Close()
	l.cancel()
}

// Close ends the connection.
func (u *units) Close() {
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
}

// Status implements Manager.
func (u *units) Status(ctx context.Context, s model.HostService) (Status, error) {
	if err := u.connect(ctx); err != nil {
		return Status{}, err
	}
	round := ctx
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	p, err := u.conn.GetUnitPropertiesContext(ctx, s.Name)
	if err != nil {
		err = fmt.Errorf("ask systemd: %w", err)
		if ctx.Err() != nil && round.Err() == nil {
			u.Close()
			u.hung = err
		}
		return Status{}, err
	}
	active, _ := p["ActiveState"].(string)
	sub, _ := p["SubState"].(string)
	load, _ := p["LoadState"].(string)
	st := Status{Up: active == "active" || active == "reloading", Failed: active == "failed", Text: active + " (" + sub + ")"}
	if load != "loaded" {
		st.Text = load
	}
	if at, ok := p["ActiveEnterTimestamp"].(uint64); ok && st.Up && at > 0 {
		st.Start = time.UnixMicro(int64(at))
	}
	if strings.HasSuffix(s.Name, ".service") {
		if n, err := u.conn.GetUnitTypePropertyContext(ctx, s.Name, "Service", "NRestarts"); err == nil {
			if c, ok := n.Value.Value().(uint32); ok {
				st.Count = float64(c)
			}
		}
	}
	return st, nil
}

// Restart implements Manager. It has a connection of its own, since it may
// take long.
func (u *units) Restart(ctx context.Context, name string) error {
	own := units{dial: u.dial}
	if err := own.connect(ctx); err != nil {
		return err
	}
	defer own.Close()
	done := make(chan string, 1)
	if _, err := own.conn.RestartUnitContext(ctx, name, "replace", done); err != nil {
		return fmt.Errorf("systemd does not restart %s: %w", name, err)
	}
	select {
	case how := <-done:
		if how != "done" {
			return fmt.Errorf("systemd ends the restart of %s with %q", name, how)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not come up in time: %w", name, ctx.Err())
	}
}

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

// units asks systemd over the bus.
type units struct{ conn *dbus.Conn }

func (u *units) connect(ctx context.Context) error {
	if u.conn != nil && u.conn.Connected() {
		return nil
	}
	u.Close()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return fmt.Errorf("systemd does not run: %w", model.ErrUnavailable)
	}
	ctx = context.WithoutCancel(ctx) // the connection outlives the look
	var err error
	if os.Geteuid() == 0 {
		if u.conn, err = dbus.NewSystemdConnectionContext(ctx); err == nil {
			return nil
		}
	}
	if u.conn, err = dbus.NewSystemConnectionContext(ctx); err != nil {
		u.conn = nil
		return fmt.Errorf("connect to systemd: %w", err)
	}
	return nil
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
	p, err := u.conn.GetUnitPropertiesContext(ctx, s.Name)
	if err != nil {
		return Status{}, fmt.Errorf("ask systemd: %w", err)
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
	var own units
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

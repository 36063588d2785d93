package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
)

// bus is a manager with units of our choice.
type bus struct {
	units  []dbus.UnitStatus
	broken bool
	asked  map[string]int
	closed int
}

func (b *bus) ListUnitsContext(context.Context) ([]dbus.UnitStatus, error) {
	if b.broken {
		return nil, errors.New("connection lost")
	}
	return append([]dbus.UnitStatus(nil), b.units...), nil
}

func (b *bus) GetUnitTypePropertyContext(_ context.Context, unit, _, name string) (*dbus.Property, error) {
	b.asked[unit+" "+name]++
	switch name {
	case "Type":
		return &dbus.Property{Value: godbus.MakeVariant("notify")}, nil
	case "NRestarts":
		return &dbus.Property{Value: godbus.MakeVariant(uint32(6))}, nil
	}
	return &dbus.Property{Value: godbus.MakeVariant(uint64(1700000000e6))}, nil
}

func (b *bus) GetUnitPropertyContext(context.Context, string, string) (*dbus.Property, error) {
	return &dbus.Property{Value: godbus.MakeVariant(uint64(1600000000e6))}, nil
}

func (b *bus) SystemStateContext(context.Context) (*dbus.Property, error) {
	return &dbus.Property{Value: godbus.MakeVariant("degraded")}, nil
}

func (b *bus) Close() { b.closed++ }

func TestUnits(t *testing.T) {
	root := t.TempDir()
	b := &bus{asked: map[string]int{}}
	c := New(root, regexp.MustCompile(".+"), regexp.MustCompile(`\.mount$`))
	dials := 0
	c.dial = func(context.Context) (manager, error) { dials++; return b, nil }
	out := metric.NewBatch(5000)
	round := func() (map[string]float64, error) {
		out.Reset(1)
		err := c.Collect(t.Context(), out)
		m := map[string]float64{}
		for _, s := range out.Samples() {
			m[s.Labels.String()] = s.V
		}
		return m, err
	}
	_, err := round()
	require.ErrorIs(t, err, metric.ErrAbsent)
	require.NoError(t, os.MkdirAll(root+"/run/systemd/system", 0o755))

	b.units = []dbus.UnitStatus{
		{Name: "shop.service", LoadState: "loaded", ActiveState: "active", SubState: "running"},
		{Name: "old.service", LoadState: "loaded", ActiveState: "failed", SubState: "failed", Description: "Old"},
		{Name: "clean.timer", LoadState: "loaded", ActiveState: "active", SubState: "waiting"},
		{Name: "gone.service", LoadState: "not-found", ActiveState: "inactive"},
		{Name: "home.mount", LoadState: "loaded", ActiveState: "active"},
	}
	m, err := round()
	require.NoError(t, err)
	require.Equal(t, 1., m[`{__name__="node_systemd_unit_state", name="old.service", state="failed", type="notify"}`])
	require.Equal(t, 0., m[`{__name__="node_systemd_unit_state", name="shop.service", state="failed", type="notify"}`])
	require.Equal(t, 6., m[`{__name__="node_systemd_service_restart_total", name="shop.service"}`])
	require.Equal(t, 1.6e9, m[`{__name__="node_systemd_unit_start_time_seconds", name="shop.service", type="notify"}`])
	require.Equal(t, 1.7e9, m[`{__name__="node_systemd_timer_last_trigger_seconds", name="clean.timer"}`])
	require.Equal(t, 3., m[`{__name__="node_systemd_units", state="active"}`])
	require.Equal(t, 0., m[`{__name__="node_systemd_system_running"}`])
	for k := range m {
		require.NotContains(t, k, "gone.service")
		require.NotContains(t, k, "home.mount")
	}
	require.Equal(t, []Unit{{"old.service", "Old", "failed", "failed"}}, c.Failed())

	b.broken = true
	_, err = round()
	require.ErrorContains(t, err, "connection lost")
	require.Equal(t, 1, b.closed)
	b.broken = false
	_, err = round()
	require.NoError(t, err)
	require.Equal(t, 2, dials, "a lost connection is made again")
	require.NoError(t, c.Close())
}

// A host with a thousand units: what needs a call for each is spread.
func TestQuestionsAreSpread(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(root+"/run/systemd/system", 0o755))
	b := &bus{asked: map[string]int{}}
	for i := range 1000 {
		b.units = append(b.units, dbus.UnitStatus{Name: fmt.Sprintf("u%04d.service", i), LoadState: "loaded", ActiveState: "active", SubState: "running"})
	}
	c := New(root, nil, nil)
	c.dial = func(context.Context) (manager, error) { return b, nil }
	out := metric.NewBatch(20000)
	last := 0
	for range 8 {
		out.Reset(1)
		require.NoError(t, c.Collect(t.Context(), out))
		n := 0
		for _, v := range b.asked {
			n += v
		}
		require.LessOrEqual(t, n-last, 2*(10*askInRound+askInRound))
		last = n
	}
	require.Len(t, b.asked, 2000, "after some rounds all were asked")
	require.NoError(t, c.Close())
}

package kernel

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Time tells the clock, its zone and its source.
type Time struct {
	sys source.Tree
	r   source.Reader
}

// NewTime makes the collector "time".
func NewTime(sys source.Tree) *Time { return &Time{sys: sys} }

// Name implements metric.Collector.
func (c *Time) Name() string { return "time" }

// Collect implements metric.Collector.
func (c *Time) Collect(_ context.Context, out *metric.Batch) error {
	now := time.Now()
	zone, offset := now.Zone()
	out.Add("node_time_seconds", float64(now.UnixNano())/1e9)
	out.Add("node_time_zone_offset_seconds", float64(offset), "time_zone", zone)
	const dir = "devices/system/clocksource"
	for _, d := range source.Names(c.sys.Path(dir), 64) {
		n, ok := strings.CutPrefix(d, "clocksource")
		if !ok {
			continue
		}
		for s := range strings.FieldsSeq(c.r.Text(c.sys.Path(dir, d, "available_clocksource"))) {
			out.Add("node_time_clocksource_available_info", 1, "device", n, "clocksource", s)
		}
		if s := c.r.Text(c.sys.Path(dir, d, "current_clocksource")); s != "" {
			out.Add("node_time_clocksource_current_info", 1, "device", n, "clocksource", s)
		}
	}
	return nil
}

// Timex asks the kernel how well the clock is kept.
type Timex struct{}

// NewTimex makes the collector "timex".
func NewTimex() Timex { return Timex{} }

// Name implements metric.Collector.
func (Timex) Name() string { return "timex" }

// Collect implements metric.Collector.
func (Timex) Collect(_ context.Context, out *metric.Batch) error {
	const (
		timeError = 5      // the state "not synchronised"
		staNano   = 0x2000 // offsets are in nanoseconds
		scaled    = 1000000 * 65536.0
		micro     = 1e6
	)
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return fmt.Errorf("%w: adjtimex: %w", metric.ErrAbsent, err)
	}
	div := micro
	if t.Status&staNano != 0 {
		div = 1e9
	}
	out.Bool("node_timex_sync_status", state != timeError)
	out.Add("node_timex_offset_seconds", float64(t.Offset)/div)
	out.Add("node_timex_frequency_adjustment_ratio", 1+float64(t.Freq)/scaled)
	out.Add("node_timex_maxerror_seconds", float64(t.Maxerror)/micro)
	out.Add("node_timex_estimated_error_seconds", float64(t.Esterror)/micro)
	out.Add("node_timex_status", float64(t.Status))
	out.Add("node_timex_loop_time_constant", float64(t.Constant))
	out.Add("node_timex_tick_seconds", float64(t.Tick)/micro)
	out.Add("node_timex_pps_frequency_hertz", float64(t.Ppsfreq)/scaled)
	out.Add("node_timex_pps_jitter_seconds", float64(t.Jitter)/div)
	out.Add("node_timex_pps_shift_seconds", float64(t.Shift))
	out.Add("node_timex_pps_stability_hertz", float64(t.Stabil)/scaled)
	out.Add("node_timex_pps_jitter_total", float64(t.Jitcnt))
	out.Add("node_timex_pps_calibration_total", float64(t.Calcnt))
	out.Add("node_timex_pps_error_total", float64(t.Errcnt))
	out.Add("node_timex_pps_stability_exceeded_total", float64(t.Stbcnt))
	out.Add("node_timex_tai_offset_seconds", float64(t.Tai))
	return nil
}

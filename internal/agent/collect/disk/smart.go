package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Smart asks smartctl for the health of disks. Sleeping disks are not woken.
type Smart struct {
	run source.Runner
}

// NewSmart makes the collector "smart". run executes a program.
func NewSmart(run source.Runner) *Smart { return &Smart{run: run} }

// Name implements metric.Collector.
func (c *Smart) Name() string { return "smart" }

const maxSmart = 128

// device names come back as arguments: nothing but a path and a kind is let through.
var (
	smartPath = regexp.MustCompile(`^/dev/[A-Za-z0-9/_.:-]+$`)
	smartKind = regexp.MustCompile(`^[a-z0-9,+/_]+$`)
)

// Collect implements metric.Collector.
func (c *Smart) Collect(ctx context.Context, out *metric.Batch) error {
	b, err := c.run(ctx, "smartctl", "--json", "--scan")
	var exit *source.ErrExit
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	var scan struct {
		Devices []struct{ Name, Type string }
	}
	if err := json.Unmarshal(b, &scan); err != nil {
		return fmt.Errorf("read smartctl's list: %w", err)
	}
	if len(scan.Devices) == 0 {
		return metric.ErrAbsent
	}
	var errs []error
	for i, d := range scan.Devices {
		if i >= maxSmart || ctx.Err() != nil {
			break
		}
		if !smartPath.MatchString(d.Name) || !smartKind.MatchString(d.Type) {
			continue
		}
		// The exit code is a set of bits about the disk's health; what counts
		// is whether there is an answer.
		b, err := c.run(ctx, "smartctl", "--json", "--info", "--health", "--attributes", "--nocheck=standby", "--device="+d.Type, d.Name)
		if err != nil && !errors.As(err, &exit) {
			errs = append(errs, err)
			continue
		}
		if err := report(out, d.Name, b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// answer is the part of smartctl's JSON that is used.
type smartAnswer struct {
	Device struct {
		Protocol string
		Type     string
	}
	ModelFamily string                   `json:"model_family"`
	ModelName   string                   `json:"model_name"`
	Serial      string                   `json:"serial_number"`
	Firmware    string                   `json:"firmware_version"`
	Capacity    struct{ Bytes *float64 } `json:"user_capacity"`
	Status      *struct{ Passed bool }   `json:"smart_status"`
	Temperature struct{ Current *float64 }
	PowerOn     struct{ Hours *float64 } `json:"power_on_time"`
	PowerCycles *float64                 `json:"power_cycle_count"`
	Rotation    *float64                 `json:"rotation_rate"`
	ATA         struct {
		Table []struct {
			ID                   int
			Name                 string
			Value, Worst, Thresh float64
			Raw                  struct{ Value float64 }
			Flags                struct{ String string }
		}
	} `json:"ata_smart_attributes"`
	NVMe map[string]json.RawMessage `json:"nvme_smart_health_information_log"`
}

var nvmeLog = [...]struct {
	key, name string
	factor    float64
}{
	{"critical_warning", "smartctl_device_critical_warning", 1}, {"available_spare", "smartctl_device_available_spare", 1},
	{"available_spare_threshold", "smartctl_device_available_spare_threshold", 1},
	{"percentage_used", "smartctl_device_percentage_used", 1}, {"media_errors", "smartctl_device_media_errors", 1},
	{"num_err_log_entries", "smartctl_device_num_err_log_entries", 1},
	{"data_units_read", "smartctl_device_bytes_read", 512000}, {"data_units_written", "smartctl_device_bytes_written", 512000},
}

func report(out *metric.Batch, dev string, b []byte) error {
	var a smartAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("read smartctl's answer: %w", err)
	}
	if a.ModelName == "" && a.Status == nil && a.Temperature.Current == nil {
		return nil // asleep, or not a disk that has it
	}
	name := strings.TrimPrefix(dev, "/dev/")
	out.Add("smartctl_device", 1, "device", name, "interface", a.Device.Type, "protocol", a.Device.Protocol,
		"model_family", a.ModelFamily, "model_name", a.ModelName, "serial_number", a.Serial, "firmware_version", a.Firmware)
	if a.Status != nil {
		out.Bool("smartctl_device_smart_status", a.Status.Passed, "device", name)
	}
	opt := func(metricName string, v *float64, factor float64, kv ...string) {
		if v != nil {
			out.Add(metricName, *v*factor, append([]string{"device", name}, kv...)...)
		}
	}
	opt("smartctl_device_capacity_bytes", a.Capacity.Bytes, 1)
	opt("smartctl_device_temperature", a.Temperature.Current, 1, "temperature_type", "current")
	opt("smartctl_device_power_on_seconds", a.PowerOn.Hours, 3600)
	opt("smartctl_device_power_cycle_count", a.PowerCycles, 1)
	opt("smartctl_device_rotation_rate", a.Rotation, 1)
	for _, t := range a.ATA.Table {
		for kind, v := range map[string]float64{"raw": t.Raw.Value, "value": t.Value, "worst": t.Worst, "thresh": t.Thresh} {
			out.Add("smartctl_device_attribute", v, "device", name, "attribute_id", strconv.Itoa(t.ID), "attribute_name", t.Name,
				"attribute_flags_short", strings.TrimSpace(t.Flags.String), "attribute_value_type", kind)
		}
	}
	for _, f := range nvmeLog {
		var v float64
		if raw, ok := a.NVMe[f.key]; ok && json.Unmarshal(raw, &v) == nil {
			out.Add(f.name, v*f.factor, "device", name)
		}
	}
	return nil
}

package sensor

import (
	"context"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// reader is a collector that is one function over /sys.
type reader struct {
	name    string
	sys     source.Tree
	r       source.Reader
	collect func(c *reader, ctx context.Context, out *metric.Batch) error
}

func (c *reader) Name() string { return c.name }

func (c *reader) Collect(ctx context.Context, out *metric.Batch) error { return c.collect(c, ctx, out) }

func (c *reader) num(parts ...string) (float64, bool) { return number(&c.r, c.sys.Path(parts...)) }

func (c *reader) text(parts ...string) string { return c.r.Text(c.sys.Path(parts...)) }

// each calls f for every entry of a directory with a prefix and the rest of its name.
func (c *reader) each(dir, prefix string, f func(entry, rest string)) int {
	n := 0
	for _, e := range source.Names(c.sys.Path(dir), maxEntries) {
		if rest, ok := strings.CutPrefix(e, prefix); ok {
			n++
			f(e, rest)
		}
	}
	return n
}

// add adds a number of /sys when it can be read.
func (c *reader) add(out *metric.Batch, name string, factor float64, path string, kv ...string) {
	if v, ok := c.num(path); ok {
		out.Add(name, v*factor, kv...)
	}
}

// NewThermal makes the collector "thermal_zone".
func NewThermal(sys source.Tree) metric.Collector {
	return &reader{name: "thermal_zone", sys: sys, collect: func(c *reader, _ context.Context, out *metric.Batch) error {
		const dir = "class/thermal"
		n := c.each(dir, "thermal_zone", func(e, id string) {
			c.add(out, "node_thermal_zone_temp", .001, dir+"/"+e+"/temp", "zone", id, "type", c.text(dir, e, "type"))
		})
		n += c.each(dir, "cooling_device", func(e, id string) {
			kind := c.text(dir, e, "type")
			c.add(out, "node_cooling_device_cur_state", 1, dir+"/"+e+"/cur_state", "name", id, "type", kind)
			c.add(out, "node_cooling_device_max_state", 1, dir+"/"+e+"/max_state", "name", id, "type", kind)
		})
		return absentIf(n == 0)
	}}
}

func absentIf(absent bool) error {
	if absent {
		return metric.ErrAbsent
	}
	return nil
}

// Properties of power supplies with the factor to base units.
var powerProperties = [...]struct {
	file, name string
	factor     float64
}{
	{"authentic", "authentic", 1}, {"calibrate", "calibrate", 1}, {"capacity", "capacity", 1},
	{"capacity_alert_max", "capacity_alert_max", 1}, {"capacity_alert_min", "capacity_alert_min", 1},
	{"cyclecount", "cyclecount", 1}, {"online", "online", 1}, {"present", "present", 1},
	{"time_to_empty_now", "time_to_empty_seconds", 1}, {"time_to_full_now", "time_to_full_seconds", 1},
	{"current_boot", "current_boot", 1e-6}, {"current_max", "current_max", 1e-6}, {"current_now", "current_ampere", 1e-6},
	{"energy_empty", "energy_empty", 1e-6}, {"energy_full", "energy_full", 1e-6},
	{"energy_full_design", "energy_full_design", 1e-6}, {"energy_now", "energy_watthour", 1e-6},
	{"voltage_max", "voltage_max", 1e-6}, {"voltage_min", "voltage_min", 1e-6},
	{"voltage_min_design", "voltage_min_design", 1e-6}, {"voltage_max_design", "voltage_max_design", 1e-6},
	{"voltage_now", "voltage_volt", 1e-6}, {"voltage_ocv", "voltage_ocv", 1e-6},
	{"charge_full", "charge_full", 1e-6}, {"charge_full_design", "charge_full_design", 1e-6},
	{"charge_now", "charge_ampere", 1e-6}, {"charge_counter", "charge_counter", 1e-6}, {"power_now", "power_watt", 1e-6},
	{"temp", "temp_celsius", .1}, {"temp_ambient", "temp_ambient_celsius", .1},
	{"temp_max", "temp_max_celsius", .1}, {"temp_min", "temp_min_celsius", .1},
}

// NewPower makes the collector "powersupplyclass": batteries and mains.
func NewPower(sys source.Tree) metric.Collector {
	return &reader{name: "powersupplyclass", sys: sys, collect: func(c *reader, ctx context.Context, out *metric.Batch) error {
		const dir = "class/power_supply"
		n := c.each(dir, "", func(e, _ string) {
			if ctx.Err() != nil {
				return
			}
			for _, p := range powerProperties {
				c.add(out, "node_power_supply_"+p.name, p.factor, dir+"/"+e+"/"+p.file, "power_supply", e)
			}
			kv := []string{"power_supply", e}
			for _, f := range [...]string{"capacity_level", "charge_type", "health", "manufacturer", "model_name", "serial_number",
				"status", "technology", "type", "usb_type", "scope"} {
				kv = append(kv, f, c.text(dir, e, f))
			}
			out.Add("node_power_supply_info", 1, kv...)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return absentIf(n == 0)
	}}
}

// NewFrequency makes the collector "cpufreq": frequencies and throttling.
func NewFrequency(sys source.Tree) metric.Collector {
	return &reader{name: "cpufreq", sys: sys, collect: func(c *reader, ctx context.Context, out *metric.Batch) error {
		const dir = "devices/system/cpu"
		found := false
		type place struct{ pkg, core string }
		seen, packages := map[place]bool{}, map[string]bool{}
		c.each(dir, "cpu", func(e, id string) {
			if _, err := strconv.Atoi(id); err != nil || ctx.Err() != nil {
				return
			}
			base := dir + "/" + e
			if _, ok := c.num(base, "cpufreq/scaling_cur_freq"); ok {
				found = true
				for _, f := range [...]struct{ file, name string }{
					{"cpuinfo_cur_freq", "node_cpu_frequency_hertz"}, {"cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz"},
					{"cpuinfo_min_freq", "node_cpu_frequency_min_hertz"}, {"cpuinfo_max_freq", "node_cpu_frequency_max_hertz"},
					{"scaling_cur_freq", "node_cpu_scaling_frequency_hertz"},
					{"scaling_min_freq", "node_cpu_scaling_frequency_min_hertz"},
					{"scaling_max_freq", "node_cpu_scaling_frequency_max_hertz"},
				} {
					c.add(out, f.name, 1000, base+"/cpufreq/"+f.file, "cpu", id)
				}
				now := c.text(base, "cpufreq/scaling_governor")
				for g := range strings.FieldsSeq(c.text(base, "cpufreq/scaling_available_governors")) {
					out.Bool("node_cpu_scaling_governor", g == now, "cpu", id, "governor", g)
				}
			}
			v, ok := c.num(base, "thermal_throttle/core_throttle_count")
			if !ok {
				return
			}
			found = true
			p := place{c.text(base, "topology/physical_package_id"), c.text(base, "topology/core_id")}
			if !seen[p] {
				seen[p] = true
				out.Add("node_cpu_core_throttles_total", v, "package", p.pkg, "core", p.core)
			}
			if !packages[p.pkg] {
				packages[p.pkg] = true
				c.add(out, "node_cpu_package_throttles_total", 1, base+"/thermal_throttle/package_throttle_count", "package", p.pkg)
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return absentIf(!found)
	}}
}

// NewEnergy makes the collector "rapl": the energy that packages of the processor used.
func NewEnergy(sys source.Tree) metric.Collector {
	return &reader{name: "rapl", sys: sys, collect: func(c *reader, _ context.Context, out *metric.Batch) error {
		const dir = "class/powercap"
		count := map[string]int{}
		n := c.each(dir, "", func(e, _ string) {
			if !strings.Contains(e, ":") {
				return
			}
			name := c.text(dir, e, "name")
			index := strconv.Itoa(count[name])
			count[name]++
			// package-0 carries its number in its name.
			if i := strings.LastIndexByte(name, '-'); i > 0 {
				if _, err := strconv.Atoi(name[i+1:]); err == nil {
					name, index = name[:i], name[i+1:]
				}
			}
			c.add(out, "node_rapl_"+metric.Sanitize(name)+"_joules_total", 1e-6, dir+"/"+e+"/energy_uj", "index", index, "path", c.sys.Path(dir, e))
		})
		return absentIf(n == 0)
	}}
}

// NewMemoryErrors makes the collector "edac".
func NewMemoryErrors(sys source.Tree) metric.Collector {
	return &reader{name: "edac", sys: sys, collect: func(c *reader, _ context.Context, out *metric.Batch) error {
		const dir = "devices/system/edac/mc"
		n := c.each(dir, "mc", func(e, id string) {
			if _, err := strconv.Atoi(id); err != nil {
				return
			}
			c.add(out, "node_edac_correctable_errors_total", 1, dir+"/"+e+"/ce_count", "controller", id)
			c.add(out, "node_edac_uncorrectable_errors_total", 1, dir+"/"+e+"/ue_count", "controller", id)
			c.add(out, "node_edac_csrow_correctable_errors_total", 1, dir+"/"+e+"/ce_noinfo_count", "controller", id, "csrow", "unknown")
			c.add(out, "node_edac_csrow_uncorrectable_errors_total", 1, dir+"/"+e+"/ue_noinfo_count", "controller", id, "csrow", "unknown")
			c.each(dir+"/"+e, "csrow", func(row, rid string) {
				c.add(out, "node_edac_csrow_correctable_errors_total", 1, dir+"/"+e+"/"+row+"/ce_count", "controller", id, "csrow", rid)
				c.add(out, "node_edac_csrow_uncorrectable_errors_total", 1, dir+"/"+e+"/"+row+"/ue_count", "controller", id, "csrow", rid)
			})
		})
		return absentIf(n == 0)
	}}
}

// NewNVMe makes the collector "nvme".
func NewNVMe(sys source.Tree) metric.Collector {
	return &reader{name: "nvme", sys: sys, collect: func(c *reader, _ context.Context, out *metric.Batch) error {
		const dir = "class/nvme"
		n := c.each(dir, "nvme", func(e, _ string) {
			out.Add("node_nvme_info", 1, "device", e, "firmware_revision", c.text(dir, e, "firmware_rev"), "model", c.text(dir, e, "model"),
				"serial", c.text(dir, e, "serial"), "state", c.text(dir, e, "state"), "cntlid", c.text(dir, e, "cntlid"))
			c.each(dir+"/"+e, e+"n", func(ns, id string) {
				if _, err := strconv.Atoi(id); err != nil {
					return
				}
				base := dir + "/" + e + "/" + ns
				size, ok := c.num(base, "size")
				block, ok2 := c.num(base, "queue/logical_block_size")
				if !ok || !ok2 {
					return
				}
				// The size is in sectors of 512 bytes, the use in logical blocks.
				out.Add("node_nvme_namespace_capacity_bytes", size*512, "device", e, "nsid", id)
				out.Add("node_nvme_namespace_size_bytes", size*512, "device", e, "nsid", id)
				out.Add("node_nvme_namespace_logical_block_size_bytes", block, "device", e, "nsid", id)
				if used, ok := c.num(base, "nuse"); ok {
					out.Add("node_nvme_namespace_used_bytes", used*block, "device", e, "nsid", id)
				}
				out.Add("node_nvme_namespace_info", 1, "device", e, "nsid", id, "ana_state", c.text(base, "ana_state"))
			})
		})
		return absentIf(n == 0)
	}}
}

// NewGraphics makes the collector "drm": graphics cards whose driver tells
// their use in /sys, as AMD's does.
func NewGraphics(sys source.Tree) metric.Collector {
	return &reader{name: "drm", sys: sys, collect: func(c *reader, _ context.Context, out *metric.Batch) error {
		const dir = "class/drm"
		found := false
		c.each(dir, "card", func(e, id string) {
			if _, err := strconv.Atoi(id); err != nil {
				return // a connector of a card
			}
			base := dir + "/" + e + "/device"
			if _, ok := c.num(base, "gpu_busy_percent"); !ok {
				return
			}
			found = true
			out.Add("node_drm_card_info", 1, "card", e, "memory_vendor", c.text(base, "mem_info_vram_vendor"),
				"power_performance_level", c.text(base, "power_dpm_force_performance_level"),
				"unique_id", c.text(base, "unique_id"), "vendor", "amd")
			for _, p := range [...]struct{ file, name string }{
				{"gpu_busy_percent", "node_drm_gpu_busy_percent"},
				{"mem_info_gtt_total", "node_drm_memory_gtt_size_bytes"}, {"mem_info_gtt_used", "node_drm_memory_gtt_used_bytes"},
				{"mem_info_vis_vram_total", "node_drm_memory_vis_vram_size_bytes"},
				{"mem_info_vis_vram_used", "node_drm_memory_vis_vram_used_bytes"},
				{"mem_info_vram_total", "node_drm_memory_vram_size_bytes"}, {"mem_info_vram_used", "node_drm_memory_vram_used_bytes"},
			} {
				c.add(out, p.name, 1, base+"/"+p.file, "card", e)
			}
		})
		return absentIf(!found)
	}}
}

// Package portable reads the core of a host by gopsutil, for systems that have
// neither /proc nor /sys: macOS, FreeBSD, Windows. Names are node_exporter's
// for these systems; Windows has windows_exporter's beside them.
package portable

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"

	"panoptes/internal/agent/collect/metric"
)

// fn is a collector that is one function.
type fn struct {
	name    string
	collect func(ctx context.Context, out *metric.Batch) error
}

func (f fn) Name() string { return f.name }

func (f fn) Collect(ctx context.Context, out *metric.Batch) error { return f.collect(ctx, out) }

// CPU makes the collector "cpu".
func CPU(goos string) metric.Collector {
	return fn{"cpu", func(ctx context.Context, out *metric.Batch) error {
		times, err := cpu.TimesWithContext(ctx, true)
		if err != nil {
			return err
		}
		for _, t := range times {
			id := strings.TrimPrefix(t.CPU, "cpu")
			modes := map[string]float64{"user": t.User, "system": t.System, "idle": t.Idle, "nice": t.Nice, "irq": t.Irq}
			if goos == "windows" {
				delete(modes, "nice")
			}
			for _, m := range metric.SortedKeys(modes) {
				out.Add("node_cpu_seconds_total", modes[m], "cpu", id, "mode", m)
			}
			if goos == "windows" {
				core := "0," + id
				for mode, v := range map[string]float64{"user": t.User, "privileged": t.System, "idle": t.Idle, "interrupt": t.Irq} {
					out.Add("windows_cpu_time_total", v, "core", core, "mode", mode)
				}
			}
		}
		return nil
	}}
}

// Load makes the collector "loadavg".
func Load() metric.Collector {
	return fn{"loadavg", func(ctx context.Context, out *metric.Batch) error {
		l, err := load.AvgWithContext(ctx)
		if err != nil {
			return err
		}
		out.Add("node_load1", l.Load1)
		out.Add("node_load5", l.Load5)
		out.Add("node_load15", l.Load15)
		return nil
	}}
}

// Memory makes the collector "meminfo".
func Memory(goos string) metric.Collector {
	return fn{"meminfo", func(ctx context.Context, out *metric.Batch) error {
		m, err := mem.VirtualMemoryWithContext(ctx)
		if err != nil {
			return err
		}
		add := func(name string, v uint64) { out.Add(name, float64(v)) }
		s, swapErr := mem.SwapMemoryWithContext(ctx)
		// The two that every page and report of ours looks at, under one name
		// on all systems.
		add("node_memory_MemTotal_bytes", m.Total)
		add("node_memory_MemAvailable_bytes", m.Available)
		if swapErr == nil {
			add("node_memory_SwapTotal_bytes", s.Total)
			add("node_memory_SwapFree_bytes", s.Free)
		}
		switch goos {
		case "windows":
			add("windows_memory_physical_total_bytes", m.Total)
			add("windows_memory_physical_free_bytes", m.Available)
			add("windows_memory_available_bytes", m.Available)
		case "darwin":
			add("node_memory_total_bytes", m.Total)
			add("node_memory_free_bytes", m.Free)
			add("node_memory_active_bytes", m.Active)
			add("node_memory_inactive_bytes", m.Inactive)
			add("node_memory_wired_bytes", m.Wired)
			if swapErr == nil {
				add("node_memory_swap_total_bytes", s.Total)
				add("node_memory_swap_used_bytes", s.Used)
			}
		default:
			add("node_memory_size_bytes", m.Total)
			add("node_memory_free_bytes", m.Free)
			add("node_memory_active_bytes", m.Active)
			add("node_memory_inactive_bytes", m.Inactive)
			add("node_memory_wired_bytes", m.Wired)
			add("node_memory_laundry_bytes", m.Laundry)
			add("node_memory_buffer_bytes", m.Buffers)
			add("node_memory_cache_bytes", m.Cached)
			if swapErr == nil {
				add("node_memory_swap_size_bytes", s.Total)
				add("node_memory_swap_used_bytes", s.Used)
			}
		}
		return nil
	}}
}

// Filesystems makes the collector "filesystem".
func Filesystems(goos string, mounts, types *regexp.Regexp) metric.Collector {
	return fn{"filesystem", func(ctx context.Context, out *metric.Batch) error {
		parts, err := disk.PartitionsWithContext(ctx, goos != "windows")
		if err != nil && len(parts) == 0 {
			return err
		}
		for _, p := range parts {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if mounts != nil && mounts.MatchString(p.Mountpoint) || types != nil && types.MatchString(p.Fstype) {
				continue
			}
			kv := []string{"device", p.Device, "fstype", p.Fstype, "mountpoint", p.Mountpoint, "device_error", ""}
			u, err := disk.UsageWithContext(ctx, p.Mountpoint)
			if err != nil {
				kv[7] = err.Error()
				out.Add("node_filesystem_device_error", 1, kv...)
				continue
			}
			out.Add("node_filesystem_device_error", 0, kv...)
			out.Bool("node_filesystem_readonly", slices.Contains(p.Opts, "ro"), kv...)
			out.Add("node_filesystem_size_bytes", float64(u.Total), kv...)
			out.Add("node_filesystem_free_bytes", float64(u.Free), kv...)
			out.Add("node_filesystem_avail_bytes", float64(u.Free), kv...)
			if u.InodesTotal > 0 {
				out.Add("node_filesystem_files", float64(u.InodesTotal), kv...)
				out.Add("node_filesystem_files_free", float64(u.InodesFree), kv...)
			}
			if goos == "windows" {
				out.Add("windows_logical_disk_size_bytes", float64(u.Total), "volume", p.Mountpoint)
				out.Add("windows_logical_disk_free_bytes", float64(u.Free), "volume", p.Mountpoint)
			}
		}
		return nil
	}}
}

// Disks makes the collector "diskstats".
func Disks(goos string, exclude *regexp.Regexp) metric.Collector {
	return fn{"diskstats", func(ctx context.Context, out *metric.Batch) error {
		stats, err := disk.IOCountersWithContext(ctx)
		if err != nil {
			return err
		}
		for _, dev := range metric.SortedKeys(stats) {
			if exclude != nil && exclude.MatchString(dev) {
				continue
			}
			s := stats[dev]
			out.Add("node_disk_reads_completed_total", float64(s.ReadCount), "device", dev)
			out.Add("node_disk_writes_completed_total", float64(s.WriteCount), "device", dev)
			// macOS' exporter calls the first read_bytes, as Linux does.
			out.Add("node_disk_read_bytes_total", float64(s.ReadBytes), "device", dev)
			out.Add("node_disk_written_bytes_total", float64(s.WriteBytes), "device", dev)
			out.Add("node_disk_read_time_seconds_total", float64(s.ReadTime)/1000, "device", dev)
			out.Add("node_disk_write_time_seconds_total", float64(s.WriteTime)/1000, "device", dev)
			if s.IoTime > 0 {
				out.Add("node_disk_io_time_seconds_total", float64(s.IoTime)/1000, "device", dev)
			}
			if goos == "windows" {
				out.Add("windows_logical_disk_reads_total", float64(s.ReadCount), "volume", dev)
				out.Add("windows_logical_disk_writes_total", float64(s.WriteCount), "volume", dev)
				out.Add("windows_logical_disk_read_bytes_total", float64(s.ReadBytes), "volume", dev)
				out.Add("windows_logical_disk_write_bytes_total", float64(s.WriteBytes), "volume", dev)
			}
		}
		return nil
	}}
}

// Network makes the collector "netdev".
func Network(goos string, exclude *regexp.Regexp) metric.Collector {
	return fn{"netdev", func(ctx context.Context, out *metric.Batch) error {
		stats, err := net.IOCountersWithContext(ctx, true)
		if err != nil {
			return err
		}
		for _, s := range stats {
			if exclude != nil && exclude.MatchString(s.Name) {
				continue
			}
			for _, v := range [...]struct {
				node, windows string
				v             uint64
			}{
				{"node_network_receive_bytes_total", "windows_net_bytes_received_total", s.BytesRecv},
				{"node_network_transmit_bytes_total", "windows_net_bytes_sent_total", s.BytesSent},
				{"node_network_receive_packets_total", "windows_net_packets_received_total", s.PacketsRecv},
				{"node_network_transmit_packets_total", "windows_net_packets_sent_total", s.PacketsSent},
				{"node_network_receive_errs_total", "windows_net_packets_received_errors_total", s.Errin},
				{"node_network_transmit_errs_total", "windows_net_packets_outbound_errors_total", s.Errout},
				{"node_network_receive_drop_total", "windows_net_packets_received_discarded_total", s.Dropin},
				{"node_network_transmit_drop_total", "windows_net_packets_outbound_discarded_total", s.Dropout},
			} {
				out.Add(v.node, float64(v.v), "device", s.Name)
				if goos == "windows" {
					out.Add(v.windows, float64(v.v), "nic", s.Name)
				}
			}
		}
		return nil
	}}
}

// Uname makes the collector "uname", with the boot time, the version of the
// system and the number of processes.
func Uname(goos string) metric.Collector {
	return fn{"uname", func(ctx context.Context, out *metric.Batch) error {
		h, err := host.InfoWithContext(ctx)
		if err != nil {
			return err
		}
		names := map[string]string{"darwin": "Darwin", "freebsd": "FreeBSD", "openbsd": "OpenBSD", "netbsd": "NetBSD", "windows": "Windows"}
		sysname, ok := names[goos]
		if !ok {
			sysname = goos
		}
		out.Add("node_uname_info", 1, "sysname", sysname, "release", h.KernelVersion, "version", h.PlatformVersion,
			"machine", h.KernelArch, "nodename", h.Hostname, "domainname", "")
		out.Add("node_os_info", 1, "id", h.Platform, "name", h.Platform, "pretty_name", strings.TrimSpace(h.Platform+" "+h.PlatformVersion),
			"version", h.PlatformVersion, "version_id", h.PlatformVersion, "id_like", h.PlatformFamily)
		out.Add("node_boot_time_seconds", float64(h.BootTime))
		out.Add("node_processes_pids", float64(h.Procs))
		if goos == "windows" {
			out.Add("windows_os_info", 1, "product", h.Platform, "version", h.KernelVersion)
			out.Add("windows_os_hostname", 1, "hostname", h.Hostname)
			out.Add("windows_system_boot_time_timestamp", float64(h.BootTime))
			out.Add("windows_system_boot_time_timestamp_seconds", float64(h.BootTime))
			out.Add("windows_system_processes", float64(h.Procs))
		}
		return nil
	}}
}

// Time makes the collector "time".
func Time() metric.Collector {
	return fn{"time", func(_ context.Context, out *metric.Batch) error {
		now := time.Now()
		zone, offset := now.Zone()
		out.Add("node_time_seconds", float64(now.UnixNano())/1e9)
		out.Add("node_time_zone_offset_seconds", float64(offset), "time_zone", zone)
		return nil
	}}
}

// Package disk reads block devices, file systems, software RAID, ZFS and SMART.
package disk

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Stats reads /proc/diskstats and what udev knows about the devices.
type Stats struct {
	proc, root source.Tree
	sys        source.Tree
	exclude    *regexp.Regexp
	r          source.Reader
	names      source.Interner
	field      [20][]byte
	ignored    map[string]bool
	info       map[string]*device
	round      int
}

// device is what is known of a block device beside its counters.
type device struct {
	udev       map[string]string
	rotational string
	major      string
	minor      string
	round      int
}

// refresh is how many rounds properties of devices are kept.
const refresh = 20

// NewStats makes the collector "diskstats".
func NewStats(proc, sys, root source.Tree, exclude *regexp.Regexp) *Stats {
	return &Stats{proc: proc, sys: sys, root: root, exclude: exclude, ignored: map[string]bool{}, info: map[string]*device{}}
}

// Name implements metric.Collector.
func (c *Stats) Name() string { return "diskstats" }

// counters in the order of /proc/diskstats after the name, with the factor
// that makes bytes of sectors and seconds of milliseconds.
var counters = [...]struct {
	name   string
	factor float64
}{
	{"node_disk_reads_completed_total", 1},
	{"node_disk_reads_merged_total", 1},
	{"node_disk_read_bytes_total", 512},
	{"node_disk_read_time_seconds_total", .001},
	{"node_disk_writes_completed_total", 1},
	{"node_disk_writes_merged_total", 1},
	{"node_disk_written_bytes_total", 512},
	{"node_disk_write_time_seconds_total", .001},
	{"node_disk_io_now", 1},
	{"node_disk_io_time_seconds_total", .001},
	{"node_disk_io_time_weighted_seconds_total", .001},
	{"node_disk_discards_completed_total", 1},
	{"node_disk_discards_merged_total", 1},
	{"node_disk_discarded_sectors_total", 1},
	{"node_disk_discard_time_seconds_total", .001},
	{"node_disk_flush_requests_total", 1},
	{"node_disk_flush_requests_time_seconds_total", .001},
}

// Collect implements metric.Collector.
func (c *Stats) Collect(ctx context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.proc.Path("diskstats"))
	if err != nil {
		return err
	}
	c.round++
	type found struct {
		name         string
		major, minor string
	}
	var devices [64]found
	list := devices[:0]
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		if len(f) < 7 {
			continue
		}
		dev := c.names.Get(f[2])
		if c.skip(dev) {
			continue
		}
		if len(f) < 14 { // partitions before Linux 2.6.25
			continue
		}
		for i, v := range f[3:] {
			if i >= len(counters) {
				break
			}
			if n, ok := source.Float(v); ok {
				out.Add(counters[i].name, scale(n, counters[i].factor), "device", dev)
			}
		}
		list = append(list, found{dev, c.names.Get(f[0]), c.names.Get(f[1])})
	}
	for _, d := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.describe(out, d.name, d.major, d.minor)
	}
	for n, i := range c.info {
		if c.round-i.round > refresh {
			delete(c.info, n)
		}
	}
	return nil
}

// scale keeps milliseconds exact where a multiplication would not be.
func scale(n, factor float64) float64 {
	if factor == .001 {
		return n / 1000
	}
	return n * factor
}

func (c *Stats) skip(dev string) bool {
	skip, ok := c.ignored[dev]
	if !ok {
		if len(c.ignored) > 10000 {
			clear(c.ignored)
		}
		skip = c.exclude != nil && c.exclude.MatchString(dev)
		c.ignored[dev] = skip
	}
	return skip
}

func (c *Stats) describe(out *metric.Batch, dev, major, minor string) {
	d := c.info[dev]
	if d == nil || c.round-d.round >= refresh || d.major != major || d.minor != minor {
		d = &device{udev: c.udev(major, minor), major: major, minor: minor, round: c.round,
			rotational: c.r.Text(c.sys.Path("block", dev, "queue/rotational"))}
		c.info[dev] = d
	}
	u := d.udev
	out.Add("node_disk_info", 1, "device", dev, "major", major, "minor", minor, "path", u["ID_PATH"], "wwn", u["ID_WWN"],
		"model", u["ID_MODEL"], "serial", first(u["SCSI_IDENT_SERIAL"], u["ID_SERIAL_SHORT"], u["ID_SERIAL"]),
		"revision", u["ID_REVISION"], "rotational", d.rotational)
	if u["ID_FS_TYPE"] != "" {
		out.Add("node_disk_filesystem_info", 1, "device", dev, "type", u["ID_FS_TYPE"], "usage", u["ID_FS_USAGE"],
			"uuid", u["ID_FS_UUID"], "version", u["ID_FS_VERSION"])
	}
	if u["DM_NAME"] != "" {
		out.Add("node_disk_device_mapper_info", 1, "device", dev, "name", u["DM_NAME"], "uuid", u["DM_UUID"],
			"vg_name", u["DM_VG_NAME"], "lv_name", u["DM_LV_NAME"], "lv_layer", u["DM_LV_LAYER"])
	}
	if u["ID_ATA"] == "" {
		return
	}
	for key, name := range map[string]string{
		"ID_ATA_WRITE_CACHE":         "node_disk_ata_write_cache",
		"ID_ATA_WRITE_CACHE_ENABLED": "node_disk_ata_write_cache_enabled",
		"ID_ATA_ROTATION_RATE_RPM":   "node_disk_ata_rotation_rate_rpm",
	} {
		if v, ok := source.Float([]byte(u[key])); ok {
			out.Add(name, v, "device", dev)
		}
	}
}

func (c *Stats) udev(major, minor string) map[string]string {
	m := map[string]string{}
	b, err := c.r.ReadMax(c.root.Path("run/udev/data", fmt.Sprintf("b%s:%s", major, minor)), 256<<10)
	if err != nil {
		return m
	}
	for len(b) > 0 && len(m) < 500 {
		var line []byte
		line, b = source.Line(b)
		if p, ok := bytes.CutPrefix(line, []byte("E:")); ok {
			if k, v, ok := strings.Cut(string(p), "="); ok {
				m[k] = v
			}
		}
	}
	return m
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

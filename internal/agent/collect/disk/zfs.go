package disk

import (
	"context"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// ZFS reads the counters of ZFS below /proc/spl.
type ZFS struct {
	proc  source.Tree
	r     source.Reader
	names source.Interner
	field [3][]byte
}

// NewZFS makes the collector "zfs".
func NewZFS(proc source.Tree) *ZFS { return &ZFS{proc: proc} }

// Name implements metric.Collector.
func (c *ZFS) Name() string { return "zfs" }

var zfsFiles = [...]struct{ file, prefix string }{
	{"abdstats", "node_zfs_abd_"}, {"arcstats", "node_zfs_arc_"}, {"dbufstats", "node_zfs_dbuf_"}, {"dmu_tx", "node_zfs_dmu_tx_"},
	{"dnodestats", "node_zfs_dnode_"}, {"fm", "node_zfs_fm_"}, {"vdev_cache_stats", "node_zfs_vdev_cache_"},
	{"vdev_mirror_stats", "node_zfs_vdev_mirror_"}, {"xuio_stats", "node_zfs_xuio_"}, {"zfetchstats", "node_zfs_zfetch_"},
	{"zil", "node_zfs_zil_"},
}

var zpoolStates = [...]string{"online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"}

const maxDatasets = 200

// Collect implements metric.Collector.
func (c *ZFS) Collect(ctx context.Context, out *metric.Batch) error {
	dir := c.proc.Path("spl/kstat/zfs")
	entries := source.Names(dir, 4096)
	if len(entries) == 0 {
		return metric.ErrAbsent
	}
	for _, f := range zfsFiles {
		c.stats(dir+"/"+f.file, func(key string, v float64) { out.Add(f.prefix+metric.Sanitize(key), v) })
	}
	for _, pool := range entries {
		state := strings.ToLower(c.r.Text(dir + "/" + pool + "/state"))
		if state == "" {
			continue // a file, not a pool
		}
		for _, s := range zpoolStates {
			out.Bool("node_zfs_zpool_state", s == state, "zpool", pool, "state", s)
		}
		sets := 0
		for _, f := range source.Names(dir+"/"+pool, 4096) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if strings.HasPrefix(f, "objset-") && sets < maxDatasets {
				sets++
				c.dataset(out, dir+"/"+pool+"/"+f, pool)
			}
		}
	}
	return nil
}

// stats reads lines "name type data".
func (c *ZFS) stats(path string, each func(key string, v float64)) {
	b, err := c.r.Read(path)
	if err != nil {
		return
	}
	_, b = source.Line(b)
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		if len(f) != 3 || (string(f[1]) != "4" && string(f[1]) != "3") {
			continue
		}
		if v, ok := source.Float(f[2]); ok {
			each(c.names.Get(f[0]), v)
		}
	}
}

func (c *ZFS) dataset(out *metric.Batch, path, pool string) {
	b, err := c.r.Read(path)
	if err != nil {
		return
	}
	name := ""
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "dataset_name" {
			name = f[2]
		}
	}
	if name == "" {
		return
	}
	c.stats(path, func(key string, v float64) {
		out.Add("node_zfs_zpool_dataset_"+metric.Sanitize(key), v, "zpool", pool, "dataset", name)
	})
}

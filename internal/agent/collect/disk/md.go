package disk

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// MD reads software RAID from /proc/mdstat and /sys/block/md*.
type MD struct {
	proc, sys source.Tree
	r         source.Reader
}

// NewMD makes the collector "mdadm".
func NewMD(proc, sys source.Tree) *MD { return &MD{proc: proc, sys: sys} }

// Name implements metric.Collector.
func (c *MD) Name() string { return "mdadm" }

var (
	mdBlocks = regexp.MustCompile(`^\s*(\d+) blocks`)
	mdDisks  = regexp.MustCompile(`\[(\d+)/(\d+)\]`)
	mdSync   = regexp.MustCompile(`(recovery|resync|reshape|check|repair)\s*=?\s*(?:[\d.]+%\s*\((\d+)/\d+\)|(PENDING|DELAYED))`)
	mdStates = map[string]string{"recovery": "recovering", "resync": "resync", "reshape": "recovering", "check": "check", "repair": "check"}
)

// array is one RAID of /proc/mdstat.
type array struct {
	name                          string
	state                         string
	active, required, spare, fail int
	blocks, synced                float64
}

// Collect implements metric.Collector.
func (c *MD) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.ReadMax(c.proc.Path("mdstat"), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return metric.ErrAbsent
	}
	if err != nil {
		return err
	}
	for _, a := range parseMD(string(b)) {
		for _, s := range [...]string{"active", "inactive", "recovering", "resync", "check"} {
			out.Bool("node_md_state", a.state == s, "device", a.name, "state", s)
		}
		out.Add("node_md_disks", float64(a.active), "device", a.name, "state", "active")
		out.Add("node_md_disks", float64(a.fail), "device", a.name, "state", "failed")
		out.Add("node_md_disks", float64(a.spare), "device", a.name, "state", "spare")
		out.Add("node_md_disks_required", float64(a.required), "device", a.name)
		out.Add("node_md_blocks", a.blocks, "device", a.name)
		out.Add("node_md_blocks_synced", a.synced, "device", a.name)
		if v, ok := c.r.Number(c.sys.Path("block", a.name, "md/raid_disks")); ok {
			out.Add("node_md_raid_disks", v, "device", a.name)
		}
		if v, ok := c.r.Number(c.sys.Path("block", a.name, "md/degraded")); ok {
			out.Add("node_md_degraded", v, "device", a.name)
		}
	}
	return nil
}

// parseMD reads mdstat: a line for the name, one for size and disks, perhaps
// one for what is going on.
func parseMD(text string) []array {
	var out []array
	var a *array
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, " : ")
		if ok && strings.HasPrefix(name, "md") {
			if len(out) >= 256 {
				break
			}
			out = append(out, array{name: name})
			a = &out[len(out)-1]
			a.header(rest)
			continue
		}
		if a == nil || strings.HasPrefix(line, "unused devices") {
			continue
		}
		if m := mdBlocks.FindStringSubmatch(line); m != nil {
			a.blocks, _ = strconv.ParseFloat(m[1], 64)
			a.synced = a.blocks
		}
		if m := mdDisks.FindStringSubmatch(line); m != nil {
			a.required, _ = strconv.Atoi(m[1])
			a.active, _ = strconv.Atoi(m[2])
		}
		if m := mdSync.FindStringSubmatch(line); m != nil {
			a.state = mdStates[m[1]]
			a.synced, _ = strconv.ParseFloat(m[2], 64)
		}
	}
	return out
}

func (a *array) header(rest string) {
	members := 0
	for i, w := range strings.Fields(rest) {
		switch {
		case i == 0:
			a.state = w
		case strings.HasSuffix(w, "(F)"):
			a.fail++
		case strings.HasSuffix(w, "(S)"):
			a.spare++
		case strings.Contains(w, "["):
			members++
		}
	}
	// RAID 0 and linear have no [n/m].
	a.active, a.required = members, members
	if a.state != "active" {
		a.active = 0
	}
}

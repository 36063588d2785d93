// Package host reads what is known of a machine beside its numbers: who is
// logged in, what waits to be updated, how large chosen files are, what
// hardware it is.
package host

import (
	"context"
	"encoding/binary"
	"os"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Users counts sessions: logind's, or utmp's where there is no logind.
type Users struct {
	root source.Tree
	r    source.Reader
}

// NewUsers makes the collector "logind".
func NewUsers(root source.Tree) *Users { return &Users{root: root} }

// Name implements metric.Collector.
func (c *Users) Name() string { return "logind" }

// Collect implements metric.Collector.
func (c *Users) Collect(_ context.Context, out *metric.Batch) error {
	dir := c.root.Path("run/systemd/sessions")
	if _, err := os.Stat(dir); err == nil {
		c.sessions(dir, out)
		return nil
	}
	for _, f := range [...]string{"run/utmp", "var/run/utmp"} {
		if b, err := c.r.ReadMax(c.root.Path(f), 1<<20); err == nil {
			out.Add("panoptes_agent_users_logged_in", float64(countUtmp(b)))
			return nil
		}
	}
	return metric.ErrAbsent
}

func (c *Users) sessions(dir string, out *metric.Batch) {
	type key struct{ seat, remote, kind, class string }
	count := map[key]int{}
	users := 0
	for _, n := range source.Names(dir, 5000) {
		if strings.HasSuffix(n, ".ref") {
			continue
		}
		m := map[string]string{}
		for line := range strings.Lines(c.r.Text(dir + "/" + n)) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				m[k] = v
			}
		}
		if len(m) == 0 {
			continue
		}
		remote := "false"
		if m["REMOTE"] == "1" {
			remote = "true"
		}
		if m["CLASS"] == "user" {
			users++
		}
		if len(count) < 200 {
			count[key{m["SEAT"], remote, m["TYPE"], m["CLASS"]}]++
		}
	}
	for k, n := range count {
		out.Add("node_logind_sessions", float64(n), "seat", k.seat, "remote", k.remote, "type", k.kind, "class", k.class)
	}
	out.Add("panoptes_agent_users_logged_in", float64(users))
}

const userProcess = 7 // ut_type

// countUtmp counts the records of users. Records have 384 bytes, 400 on some
// 64-bit systems.
func countUtmp(b []byte) int {
	size := 384
	if len(b)%384 != 0 && len(b)%400 == 0 {
		size = 400
	}
	n := 0
	for ; len(b) >= size; b = b[size:] {
		if binary.NativeEndian.Uint16(b) == userProcess {
			n++
		}
	}
	return n
}

// DMI says what hardware the host is.
type DMI struct {
	sys source.Tree
	r   source.Reader
	kv  []string
}

// NewDMI makes the collector "dmi".
func NewDMI(sys source.Tree) *DMI { return &DMI{sys: sys} }

// Name implements metric.Collector.
func (c *DMI) Name() string { return "dmi" }

var dmiFields = [...]string{"bios_date", "bios_release", "bios_vendor", "bios_version", "board_asset_tag", "board_name",
	"board_serial", "board_vendor", "board_version", "chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version",
	"product_family", "product_name", "product_serial", "product_sku", "product_uuid", "product_version", "system_vendor"}

// Collect implements metric.Collector.
func (c *DMI) Collect(_ context.Context, out *metric.Batch) error {
	if c.kv == nil { // it does not change while the host runs
		kv := []string{}
		dir := c.sys.Path("class/dmi/id")
		if _, err := os.Stat(dir); err == nil {
			for _, f := range dmiFields {
				file := f
				if f == "system_vendor" {
					file = "sys_vendor"
				}
				if v := c.r.Text(dir + "/" + file); v != "" {
					kv = append(kv, f, v)
				}
			}
		}
		c.kv = kv
	}
	if len(c.kv) == 0 {
		return metric.ErrAbsent
	}
	out.Add("node_dmi_info", 1, c.kv...)
	return nil
}

// SELinux says whether SELinux is on.
type SELinux struct {
	sys, root source.Tree
	r         source.Reader
}

// NewSELinux makes the collector "selinux".
func NewSELinux(sys, root source.Tree) *SELinux { return &SELinux{sys: sys, root: root} }

// Name implements metric.Collector.
func (c *SELinux) Name() string { return "selinux" }

// Collect implements metric.Collector.
func (c *SELinux) Collect(_ context.Context, out *metric.Batch) error {
	mode, ok := c.r.Number(c.sys.Path("fs/selinux/enforce"))
	out.Bool("node_selinux_enabled", ok)
	if !ok {
		return nil
	}
	out.Add("node_selinux_current_mode", mode)
	for line := range strings.Lines(c.r.Text(c.root.Path("etc/selinux/config"))) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUX="); ok {
			modes := map[string]float64{"enforcing": 1, "permissive": 0, "disabled": -1}
			if m, ok := modes[v]; ok {
				out.Add("node_selinux_config_mode", m)
			}
		}
	}
	return nil
}

package collect

import (
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"time"

	"panoptes/internal/model"
)

// Config says what is collected and from where. The zero value of a field is
// its default.
type Config struct {
	// ProcFS, SysFS and RootFS are where the host's /proc, /sys and / are
	// mounted; a container sees them elsewhere. Defaults: /proc, /sys, /.
	ProcFS string `json:"procfs,omitempty" yaml:"procfs"`
	SysFS  string `json:"sysfs,omitempty" yaml:"sysfs"`
	RootFS string `json:"rootfs,omitempty" yaml:"rootfs"`

	// Enabled and Disabled switch collectors by name against their default;
	// "*" in Disabled switches off all that Enabled does not name.
	Enabled  []string `json:"enabled,omitempty" yaml:"enabled"`
	Disabled []string `json:"disabled,omitempty" yaml:"disabled"`

	Timeout   model.Duration            `json:"timeout,omitempty" yaml:"timeout"`       // bound of one collector in a round, 2 s
	Intervals map[string]model.Duration `json:"intervals,omitempty" yaml:"intervals"`   // how often a slow collector runs, by name
	MaxSeries int                       `json:"max_series,omitempty" yaml:"max_series"` // of one collector, 2000

	TopN  int              `json:"top_processes,omitempty" yaml:"top_processes"` // by CPU, by memory and by I/O: 10; -1 for none
	Watch []ProcessPattern `json:"watch,omitempty" yaml:"watch"`                 // at most 100

	TextfileDir string   `json:"textfile_dir,omitempty" yaml:"textfile_dir"` // *.prom files; none when empty
	Paths       []string `json:"paths,omitempty" yaml:"paths"`               // files, directories and patterns whose size is measured

	MountPointsExclude string `json:"mount_points_exclude,omitempty" yaml:"mount_points_exclude"` // regular expressions, node_exporter's defaults
	FSTypesExclude     string `json:"fs_types_exclude,omitempty" yaml:"fs_types_exclude"`
	DisksExclude       string `json:"disks_exclude,omitempty" yaml:"disks_exclude"`
	InterfacesExclude  string `json:"interfaces_exclude,omitempty" yaml:"interfaces_exclude"`
	UnitsInclude       string `json:"units_include,omitempty" yaml:"units_include"`
	UnitsExclude       string `json:"units_exclude,omitempty" yaml:"units_exclude"`

	// ContainerSockets are sockets of Docker or Podman that may be asked for
	// names and images. They give power over the host: none by default.
	ContainerSockets []string `json:"container_sockets,omitempty" yaml:"container_sockets"`
}

// ProcessPattern names a group of processes that is always counted.
type ProcessPattern struct {
	Name  string `json:"name" yaml:"name"`   // the label "group"
	Match string `json:"match" yaml:"match"` // regular expression over the command line, the program's name when that is empty
}

// Deps is what collectors need of their surroundings.
type Deps struct {
	Log *slog.Logger // nil: slog.Default
}

// The patterns that node_exporter leaves out, so that dashboards agree.
const (
	defaultMountPointsExclude = `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`
	defaultFSTypesExclude     = `^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$`
	defaultDisksExclude       = `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`
	defaultUnitsExclude       = `.+\.(automount|device|mount|scope|slice)`
)

// patterns are the compiled expressions of a Config.
type patterns struct {
	mounts, fsTypes, disks, interfaces, unitsIn, unitsEx *regexp.Regexp
	watch                                                []*regexp.Regexp
}

func (c Config) withDefaults() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.ProcFS, "/proc")
	def(&c.SysFS, "/sys")
	def(&c.RootFS, "/")
	def(&c.MountPointsExclude, defaultMountPointsExclude)
	def(&c.FSTypesExclude, defaultFSTypesExclude)
	def(&c.DisksExclude, defaultDisksExclude)
	def(&c.UnitsInclude, ".+")
	def(&c.UnitsExclude, defaultUnitsExclude)
	if runtime.GOOS == "darwin" && c.FSTypesExclude == defaultFSTypesExclude {
		c.FSTypesExclude = `^devfs$`
	}
	if c.Timeout <= 0 {
		c.Timeout = model.Duration(2 * time.Second)
	}
	if c.MaxSeries <= 0 {
		c.MaxSeries = 2000
	}
	if c.TopN == 0 {
		c.TopN = 10
	}
	c.TopN = max(0, min(c.TopN, 100))
	return c
}

// compile checks the configuration and compiles its expressions. All faults
// are in one model.Invalid.
func (c Config) compile(known []Info) (patterns, error) {
	var inv model.Invalid
	var p patterns
	expr := func(field, s string) *regexp.Regexp {
		if s == "" {
			return nil
		}
		re, err := regexp.Compile(s)
		if err != nil {
			inv.Add(field, "%s; write a regular expression in RE2 syntax", err)
		}
		return re
	}
	p.mounts = expr("mount_points_exclude", c.MountPointsExclude)
	p.fsTypes = expr("fs_types_exclude", c.FSTypesExclude)
	p.disks = expr("disks_exclude", c.DisksExclude)
	p.interfaces = expr("interfaces_exclude", c.InterfacesExclude)
	p.unitsIn = expr("units_include", anchored(c.UnitsInclude))
	p.unitsEx = expr("units_exclude", anchored(c.UnitsExclude))

	has := func(name string) bool {
		return slices.ContainsFunc(known, func(i Info) bool { return i.Name == name })
	}
	for _, n := range c.Enabled {
		if !has(n) {
			inv.Add("enabled", "there is no collector %q on %s", n, runtime.GOOS)
		}
	}
	for _, n := range c.Disabled {
		if n != "*" && !has(n) {
			inv.Add("disabled", "there is no collector %q on %s", n, runtime.GOOS)
		}
	}
	for n, d := range c.Intervals {
		switch {
		case !has(n):
			inv.Add("intervals."+n, "there is no collector %q on %s", n, runtime.GOOS)
		case d.D() < time.Second:
			inv.Add("intervals."+n, "must be 1s or more")
		}
	}
	if len(c.Watch) > 100 {
		inv.Add("watch", "at most 100 patterns")
	}
	for i, w := range c.Watch {
		if w.Name == "" || w.Match == "" {
			inv.Add("watch", "pattern %d needs a name and an expression to match", i)
			continue
		}
		p.watch = append(p.watch, expr("watch."+w.Name, w.Match))
	}
	return p, inv.Err()
}

func anchored(s string) string { return "^(?:" + s + ")$" }

// on says whether a collector is switched on.
func (c Config) on(i Info) bool {
	switch {
	case slices.Contains(c.Enabled, i.Name):
		return true
	case slices.Contains(c.Disabled, i.Name), slices.Contains(c.Disabled, "*"):
		return false
	}
	return i.Default
}

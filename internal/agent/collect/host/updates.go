package host

import (
	"context"
	"errors"
	"os"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Updates asks the package manager what waits to be installed, and looks
// whether a restart of the host is due.
type Updates struct {
	root    source.Tree
	run     source.Runner
	release string // of the running kernel
	had     bool   // its modules were there
}

// NewUpdates makes the collector "updates".
func NewUpdates(root source.Tree, run source.Runner, release string) *Updates {
	return &Updates{root: root, run: run, release: release}
}

// Name implements metric.Collector.
func (c *Updates) Name() string { return "updates" }

// managers, each with the command that lists without fetching anything.
var managers = [...]struct {
	name  string
	args  []string
	count func(string) (all, security int)
}{
	{"apt-get", []string{"-s", "-q", "-o", "Debug::NoLocking=true", "upgrade"}, countApt},
	{"dnf", []string{"-q", "-C", "check-update"}, countDnf},
	{"apk", []string{"version", "-l", "<"}, func(s string) (int, int) { return lines(s, " < "), 0 }},
	{"pacman", []string{"-Qu"}, func(s string) (int, int) { return lines(s, " -> "), 0 }},
}

// Collect implements metric.Collector.
func (c *Updates) Collect(ctx context.Context, out *metric.Batch) error {
	out.Bool("node_reboot_required", c.reboot())
	for _, m := range managers {
		b, err := c.run(ctx, m.name, m.args...)
		var exit *source.ErrExit
		switch {
		case errors.Is(err, metric.ErrAbsent):
			continue
		case errors.As(err, &exit) && m.name == "dnf" && exit.Code == 100, errors.As(err, &exit) && m.name == "pacman" && exit.Code == 1:
		case err != nil:
			return err
		}
		all, security := m.count(string(b))
		out.Add("panoptes_agent_updates_pending", float64(all), "manager", m.name, "kind", "all")
		if m.name == "apt-get" {
			out.Add("panoptes_agent_updates_pending", float64(security), "manager", m.name, "kind", "security")
		}
		return nil
	}
	return metric.ErrAbsent
}

// reboot says whether a restart of the host is due.
func (c *Updates) reboot() bool {
	for _, f := range [...]string{"run/reboot-required", "var/run/reboot-required"} {
		if _, err := os.Stat(c.root.Path(f)); err == nil {
			return true
		}
	}
	// Where no file says so: the modules of the running kernel were removed
	// because another one is installed.
	_, err := os.Stat(c.root.Path("lib/modules", c.release))
	had := c.had
	c.had = c.had || err == nil && c.release != ""
	return had && err != nil
}

func countApt(s string) (all, security int) {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "Inst ") {
			all++
			if strings.Contains(strings.ToLower(line), "security") {
				security++
			}
		}
	}
	return all, security
}

func countDnf(s string) (all, security int) {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "Obsoleting") {
			break
		}
		// name.arch version repository
		if f := strings.Fields(line); len(f) == 3 && strings.Contains(f[0], ".") {
			all++
		}
	}
	return all, 0
}

func lines(s, part string) int {
	n := 0
	for line := range strings.Lines(s) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

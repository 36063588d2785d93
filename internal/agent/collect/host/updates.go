package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Updates asks the package manager what waits to be installed, and looks
// whether a restart of the host is due. The question costs seconds of a core:
// it is asked again only when what the answer rests on has changed, or is old.
type Updates struct {
	root    source.Tree
	run     source.Runner
	release string // of the running kernel
	had     bool   // its modules were there

	last  answer
	stamp string // of the manager's files when last was given; empty: unknown
	asked time.Time
}

// answer is what a package manager said.
type answer struct {
	manager       string
	all, security int
}

// askAgain bounds the age of an answer: what is pending may depend on the date.
const askAgain = 24 * time.Hour

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
	files []string // change when its answer may
}{
	{"apt-get", []string{"-s", "-q", "-o", "Debug::NoLocking=true", "upgrade"}, countApt,
		[]string{"var/lib/dpkg/status", "var/lib/apt/extended_states", "var/lib/apt/lists", "etc/apt", "etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/preferences", "etc/apt/preferences.d", "etc/apt/apt.conf.d"}},
	{"dnf", []string{"-q", "-C", "check-update"}, countDnf,
		[]string{"var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages", "usr/lib/sysimage/rpm/rpmdb.sqlite", "var/cache/dnf", "var/cache/libdnf5", "etc/dnf/dnf.conf", "etc/yum.repos.d"}},
	{"apk", []string{"version", "-l", "<"}, func(s string) (int, int) { return lines(s, " < "), 0 },
		[]string{"lib/apk/db/installed", "usr/lib/apk/db/installed", "var/cache/apk", "etc/apk/cache", "etc/apk/world", "etc/apk/repositories"}},
	{"pacman", []string{"-Qu"}, func(s string) (int, int) { return lines(s, " -> "), 0 },
		[]string{"var/lib/pacman/local", "var/lib/pacman/sync", "etc/pacman.conf"}},
}

// Collect implements metric.Collector.
func (c *Updates) Collect(ctx context.Context, out *metric.Batch) error {
	out.Bool("node_reboot_required", c.reboot())
	stamp := c.stamps()
	if stamp == "" || stamp != c.stamp || time.Since(c.asked) > askAgain {
		a, err := c.ask(ctx)
		if err != nil {
			c.stamp = ""
			return err
		}
		c.last, c.stamp, c.asked = a, stamp, time.Now()
	}
	out.Add("panoptes_agent_updates_pending", float64(c.last.all), "manager", c.last.manager, "kind", "all")
	if c.last.manager == "apt-get" {
		out.Add("panoptes_agent_updates_pending", float64(c.last.security), "manager", c.last.manager, "kind", "security")
	}
	return nil
}

// ask runs the package manager of this host.
func (c *Updates) ask(ctx context.Context) (answer, error) {
	for _, m := range managers {
		b, err := c.run(ctx, m.name, m.args...)
		var exit *source.ErrExit
		switch {
		case errors.Is(err, metric.ErrAbsent):
			continue
		case errors.As(err, &exit) && m.name == "dnf" && exit.Code == 100, errors.As(err, &exit) && m.name == "pacman" && exit.Code == 1:
		case err != nil:
			return answer{}, err
		}
		all, security := m.count(string(b))
		return answer{m.name, all, security}, nil
	}
	return answer{}, metric.ErrAbsent
}

// stamps tells apart the states of the managers' files.
func (c *Updates) stamps() string {
	var s strings.Builder
	for _, m := range managers {
		for _, f := range m.files {
			if st, err := os.Stat(c.root.Path(f)); err == nil {
				fmt.Fprintf(&s, "%s %d %d\n", f, st.Size(), st.ModTime().UnixNano())
			}
		}
	}
	return s.String()
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

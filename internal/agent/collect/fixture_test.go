//go:build linux

package collect

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/process"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixtureTime is the time of change of all files of the fixture.
var fixtureTime = time.Unix(1700000500, 0)

// fixture unpacks testdata/host.txt: "-- path --" begins a file, "-- path -> target --" a link.
func fixture(t testing.TB) Config {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/host.txt")
	require.NoError(t, err)
	var path string
	var body strings.Builder
	flush := func() {
		if path == "" {
			return
		}
		name, target, link := strings.Cut(path, " -> ")
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if link {
			require.NoError(t, os.Symlink(target, name))
		} else {
			require.NoError(t, os.WriteFile(name, []byte(body.String()), 0o644))
		}
		body.Reset()
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "-- ") && strings.HasSuffix(line, " --\n") {
			flush()
			path = line[3 : len(line)-4]
			continue
		}
		body.WriteString(line)
	}
	flush()
	age(t, dir)
	return Config{
		ProcFS: dir + "/proc", SysFS: dir + "/sys", RootFS: dir + "/root", TextfileDir: dir + "/text",
		Paths: []string{"/var/log/app", "/var/log/none"},
		Watch: []ProcessPattern{{Name: "workers", Match: "^work"}},
	}
}

// age gives all files and directories one time, the inner ones first.
func age(t testing.TB, dir string) {
	var all []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink == 0 {
			all = append(all, p)
		}
		return nil
	}))
	slices.Reverse(all)
	for _, p := range all {
		require.NoError(t, os.Chtimes(p, fixtureTime, fixtureTime))
	}
}

func collectors(t testing.TB, cfg Config) map[string]metric.Collector {
	t.Helper()
	cfg = cfg.withDefaults()
	p, err := cfg.compile(Names())
	require.NoError(t, err)
	out := map[string]metric.Collector{}
	for _, e := range registry() {
		if c := e.make(cfg, p); c != nil {
			require.Equal(t, e.Name, c.Name())
			out[e.Name] = c
		}
	}
	return out
}

// ofThisHost are the collectors that ask the kernel and not the fixture.
var ofThisHost = []string{"uname", "time", "timex", "tcpstat", "filesystem", "nvidia", "smart", "updates", "systemd"}

func TestGolden(t *testing.T) {
	cfg := fixture(t)
	var lines []string
	for name, c := range collectors(t, cfg) {
		if slices.Contains(ofThisHost, name) {
			continue
		}
		b := metric.NewBatch(5000)
		b.Reset(1)
		err := c.Collect(t.Context(), b)
		if name == "textfile" {
			require.ErrorContains(t, err, "bad.prom")
		} else {
			require.NoError(t, err, name)
		}
		for _, s := range b.Samples() {
			line := strings.ReplaceAll(fmt.Sprintf("%s %v", s.Labels, s.V), filepath.Dir(cfg.ProcFS), "DIR")
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("testdata/host.golden", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/host.golden")
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")))
}

// A text file does not speak for a collector of ours.
func TestTextfileDoesNotOverrule(t *testing.T) {
	s, err := New(fixture(t), quiet)
	require.NoError(t, err)
	defer s.Close()
	b := s.Collect(t.Context(), time.Now())
	require.Equal(t, .52, value(t, b, `{__name__="node_load1"}`))
	seen := map[string]bool{}
	for _, x := range b {
		require.False(t, seen[x.Labels.String()], "%s comes twice", x.Labels)
		seen[x.Labels.String()] = true
	}
	require.Equal(t, 1., value(t, b, `{__name__="node_textfile_scrape_error"}`))
}

func TestSnapshot(t *testing.T) {
	s, err := New(Config{}, quiet)
	require.NoError(t, err)
	defer s.Close()
	s.Collect(t.Context(), time.Now())
	snap := s.Snapshot(t.Context())
	require.Empty(t, snap.Errors)
	require.NotEmpty(t, snap.Processes)
	require.NotNil(t, snap.Connections)
	i := slices.IndexFunc(snap.Processes, func(p process.Process) bool { return p.PID == os.Getpid() })
	if i >= 0 { // on a busy host others may use more
		require.Contains(t, snap.Processes[i].Program, "collect.test")
		require.WithinDuration(t, time.Now(), snap.Processes[i].Started, 10*time.Minute)
	}
}

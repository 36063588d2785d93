package agentcli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/update"
	"panoptes/internal/hosts"
	"panoptes/internal/release"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// The versions of the tests: as long as the one that is built, whose bytes they
// take.
const (
	v100 = "001.000.000"
	v110 = "001.001.000"
	v120 = "001.002.000"
	v130 = "001.003.000"

	built = "990.991.992"
)

// builds are the program in some versions.
var builds struct {
	sync.Mutex
	dir string
}

// build returns the real program in a version. It is built once; the others
// differ in the bytes of the version, which is what makes them other programs.
func build(t *testing.T, version string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "panoptes-agent-builds-")
		require.NoError(t, err)
		builds.dir = dir
	}
	path, first := filepath.Join(builds.dir, version), filepath.Join(builds.dir, built)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, err := os.Stat(first); err != nil {
		cmd := exec.Command("go", "build", "-ldflags", "-s -w -X panoptes/internal/agentcli.version="+built, "-o", first, "panoptes/cmd/panoptes-agent")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	b, err := os.ReadFile(first)
	require.NoError(t, err)
	require.Contains(t, string(b), built)
	require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(b, []byte(built), []byte(version)), 0o755))
	return path
}

// fleet is one agent that renews itself, and a server.
type fleet struct {
	t       *testing.T
	dir     string // of the server's programs
	data    string
	private string
	rel     *release.Release
	hosts   *hosts.Hosts
	store   *store
	wanted  atomic.Pointer[uplink.UpdateWanted]
	cmd     *exec.Cmd
	log     *lockedBuffer
	args    []string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFleet(t *testing.T, trial time.Duration) *fleet {
	t.Helper()
	t.Parallel()
	if testing.Short() {
		t.Skip("builds programs")
	}
	f := &fleet{t: t, dir: t.TempDir(), data: t.TempDir(), log: &lockedBuffer{}}
	var err error
	f.rel, err = release.New(release.Config{Dir: f.dir}, release.Deps{})
	require.NoError(t, err)
	public, private, err := manifest.NewKey()
	require.NoError(t, err)
	f.private = private
	addr, token, s, h := serveWith(t, func(id string) *uplink.UpdateWanted { return f.wanted.Load() }, f.rel.Register)
	f.hosts, f.store = h, s
	file := filepath.Join(t.TempDir(), "agent.yml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "node: web-1\nregion: eu\ndata_dir: %s\njoin: %s\ntoken: %s\nlog: debug\nupdate: {enabled: true, key: %s, trial: %s, rate: 1000000000}\n", f.data, addr, token, public, trial), 0o600))
	f.args = []string{"--config", file}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	return f
}

// start runs a version of the program as it was installed.
func (f *fleet) start(version string) {
	f.t.Helper()
	f.cmd = exec.Command(build(f.t, version), f.args...)
	f.cmd.Env = append(os.Environ(), "HTTPS_PROXY=", "https_proxy=")
	f.cmd.Stdout, f.cmd.Stderr = f.log, f.log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(f.t, f.cmd.Start())
	cmd := f.cmd
	f.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// offer signs a program under a version.
func (f *fleet) offer(version, path string, from ...string) {
	f.t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(f.t, err)
	require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, update.PlatformHere().File()), b, 0o755))
	require.NoError(f.t, release.Sign(f.dir, f.private, manifest.Manifest{Version: version, DowngradeFrom: from}, time.Now()))
}

func (f *fleet) want(version, rollout string) {
	f.wanted.Store(&uplink.UpdateWanted{Version: version, Rollout: rollout})
	f.hosts.Refresh()
}

// now is what the agent says of itself; nil when it is not there.
func (f *fleet) now() *uplink.Hello {
	for _, p := range f.hosts.Programs() {
		if p.Online {
			return &uplink.Hello{Version: p.Version, Update: p.Update}
		}
	}
	return nil
}

func (f *fleet) until(what string, ok func(h *uplink.Hello) bool) *uplink.Hello {
	f.t.Helper()
	var last *uplink.Hello
	require.Eventually(f.t, func() bool {
		if h := f.now(); h != nil {
			last = h
			return ok(h)
		}
		return false
	}, 60*time.Second, 20*time.Millisecond, what)
	return last
}

func (f *fleet) runs(version string) {
	f.t.Helper()
	f.until("version "+version+" runs", func(h *uplink.Hello) bool {
		return h.Version == version && h.Update != nil && h.Update.State != uplink.UpdateTrying
	})
}

func (f *fleet) fails(text string) {
	f.t.Helper()
	h := f.until("the update fails: "+text, func(h *uplink.Hello) bool { return h.Update != nil && h.Update.State == uplink.UpdateFailed })
	require.Contains(f.t, h.Update.Error, text)
}

func (f *fleet) stop(s os.Signal) {
	f.t.Helper()
	require.NoError(f.t, f.cmd.Process.Signal(s))
	_ = f.cmd.Wait()
}

// state is what the agent has on disk about updates.
func (f *fleet) state() map[string]any {
	b, err := os.ReadFile(filepath.Join(f.data, "update", "state.json"))
	if err != nil {
		return nil
	}
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	return m
}

// An agent takes a new version over its own connection, keeps its process, and
// goes on with it after a start of the old program.
func TestAgentRenewsItself(t *testing.T) {
	f := newFleet(t, 30*time.Second)
	f.start(v100)
	f.runs(v100)
	f.offer(v110, build(t, v110))
	began := time.Now()
	f.want(v110, "1")
	f.runs(v110)
	t.Logf("renewed within %s", time.Since(began).Round(time.Millisecond))
	require.NoError(t, f.cmd.Process.Signal(syscall.Signal(0)), "still the process that was started")
	require.Equal(t, v110, f.state()["active"])
	require.Nil(t, f.state()["trial"])

	// A machine that starts anew starts what was installed, which gives way.
	f.stop(syscall.SIGTERM)
	require.Empty(t, f.hosts.Connected())
	f.start(v100)
	f.runs(v110)

	// One after the other; the one before is kept.
	f.offer(v120, build(t, v120))
	f.want(v120, "2")
	f.runs(v120)
	require.Equal(t, v110, f.state()["previous"])
	slots, err := filepath.Glob(filepath.Join(f.data, "update", "slots", "*"))
	require.NoError(t, err)
	require.Len(t, slots, 2)

	// Not back, whatever the servers want…
	f.offer(v110, build(t, v110))
	f.want(v110, "3")
	f.fails("not newer")
	require.Equal(t, v120, f.now().Version)
	// …unless who signs says so.
	f.offer(v110, build(t, v110), v120)
	f.want(v110, "4")
	f.runs(v110)

	// A package that is newer than what the servers brought has the last word.
	f.wanted.Store(nil)
	f.stop(syscall.SIGKILL)
	f.start(v130)
	f.runs(v130)
}

// What nobody trustworthy signed, or what is not what was signed, is not run.
func TestRubbishIsNotRun(t *testing.T) {
	f := newFleet(t, 10*time.Second)
	f.start(v100)
	f.runs(v100)
	program := filepath.Join(f.dir, update.PlatformHere().File())
	f.offer(v110, build(t, v110))

	// A signature by somebody else.
	_, other, err := manifest.NewKey()
	require.NoError(t, err)
	require.NoError(t, release.Sign(f.dir, other, manifest.Manifest{Version: v110}, time.Now()))
	f.want(v110, "1")
	f.fails("not signed by the key that this host trusts")

	// A signature that is none.
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, manifest.Signature), []byte("rubbish"), 0o644))
	f.want(v110, "2")
	f.until("", func(h *uplink.Hello) bool { return h.Update.Rollout == "2" && h.Update.State == uplink.UpdateFailed })

	// A program that is cut short is not offered; one that was signed short does not run.
	b, err := os.ReadFile(build(t, v110))
	require.NoError(t, err)
	f.offer(v110, build(t, v110))
	require.NoError(t, os.WriteFile(program, b[:len(b)/2], 0o755))
	f.want(v110, "3")
	h := f.until("", func(h *uplink.Hello) bool { return h.Update.Rollout == "3" && h.Update.State == uplink.UpdateWaiting })
	require.Contains(t, h.Update.Error, "sign again")
	short := filepath.Join(t.TempDir(), "short")
	require.NoError(t, os.WriteFile(short, b[:len(b)/2], 0o755))
	f.offer(v110, short)
	f.want(v110, "4")
	h = f.until("", func(h *uplink.Hello) bool { return h.Update.Rollout == "4" && h.Update.State == uplink.UpdateFailed })
	require.Regexp(t, "cannot be started|it ended", h.Update.Error)

	// A program that says it is another version than it was signed as.
	f.offer(v130, build(t, v110))
	f.want(v130, "5")
	h = f.until("", func(h *uplink.Hello) bool { return h.Update.Rollout == "5" && h.Update.State == uplink.UpdateFailed })
	require.Contains(t, h.Update.Error, "it was signed as "+v130)

	require.Equal(t, v100, f.now().Version)
	require.Equal(t, 1, len(f.hosts.Connected()))

	// And after all that it still takes a good one.
	f.offer(v110, build(t, v110))
	f.want(v110, "6")
	f.runs(v110)
}

// A program that crashes, hangs, or never reaches a server is given up, and the
// old one goes on.
func TestWhatDoesNotWorkIsGivenUp(t *testing.T) {
	f := newFleet(t, 6*time.Second)
	f.start(v100)
	f.runs(v100)
	dir := t.TempDir()
	for i, c := range []struct{ script, want string }{
		{"#!/bin/sh\necho this machine is too old >&2\nexit 3\n", "exit status 3"},
		{"#!/bin/sh\nexec sleep 100\n", "no server acknowledged anything within 6s"},
		{"#!/bin/sh\ntrap '' TERM\nkill -SEGV $$\n", "it ended"},
	} {
		version, rollout := fmt.Sprintf("1.1.%d", i), fmt.Sprint(i)
		path := filepath.Join(dir, version)
		require.NoError(t, os.WriteFile(path, []byte(c.script), 0o755))
		f.offer(version, path)
		f.want(version, rollout)
		h := f.until(c.want, func(h *uplink.Hello) bool {
			return h.Update.Rollout == rollout && h.Update.State == uplink.UpdateFailed
		})
		require.Contains(t, h.Update.Error, c.want)
		require.Equal(t, v100, h.Version)
	}
	require.Contains(t, f.log.String(), "this machine is too old", "what it said is in the log")
	// Not again in the same rollout, not even by a new process.
	f.stop(syscall.SIGTERM)
	f.start(v100)
	h := f.until("", func(h *uplink.Hello) bool { return h.Update.State == uplink.UpdateFailed })
	require.Equal(t, "1.1.2", h.Update.Version)
	require.Equal(t, 3, strings.Count(f.log.String(), "a new program is tried"))
}

// The power fails after the new program was put in place and before it has run,
// and again while it is tried.
func TestPowerCuts(t *testing.T) {
	f := newFleet(t, 20*time.Second)
	f.start(v100)
	f.runs(v100)
	path, pids := filepath.Join(t.TempDir(), "waits"), filepath.Join(t.TempDir(), "pids")
	t.Cleanup(func() { // they have lost the process that would have ended them
		b, _ := os.ReadFile(pids)
		for _, p := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(p); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho $$ >>'"+pids+"'\nexec sleep 100\n"), 0o755))
	f.offer(v110, path)
	f.want(v110, "1")
	for i := range 2 {
		require.Eventually(t, func() bool {
			b, _ := os.ReadFile(pids)
			return len(strings.Fields(string(b))) == i+1
		}, 30*time.Second, 5*time.Millisecond)
		f.stop(syscall.SIGKILL)
		f.start(v100)
	}
	// It had its chances.
	f.fails("it was tried 2 times")
	require.Equal(t, v100, f.now().Version)

	// A file of updates that is damaged is as good as none.
	f.stop(syscall.SIGKILL)
	require.NoError(t, os.WriteFile(filepath.Join(f.data, "update", "state.json"), []byte("{\"acti"), 0o600))
	f.wanted.Store(nil)
	f.start(v100)
	f.runs(v100)

	// Cut between the rename and the start: a slot is there and its trial is due.
	f.offer(v120, build(t, v120))
	f.want(v120, "2")
	f.runs(v120)
	f.stop(syscall.SIGKILL)
	require.NoError(t, os.WriteFile(filepath.Join(f.data, "update", "state.json"), fmt.Appendf(nil, `{"trial":{"version":%q,"rollout":"2","attempts":0}}`, v120), 0o600))
	f.start(v100)
	f.runs(v120)

	// A program in use that was changed on disk is not run.
	f.stop(syscall.SIGKILL)
	slot := filepath.Join(f.data, "update", "slots", v120, "panoptes-agent")
	b, err := os.ReadFile(slot)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(slot, b, 0o700))
	f.wanted.Store(nil)
	f.start(v100)
	f.runs(v100)
	require.Contains(t, f.log.String(), "not the one that was signed")
}

// A disk without room for the program: nothing is written, and it is tried
// again when there is.
func TestFullDisk(t *testing.T) {
	f := newFleet(t, 20*time.Second)
	f.start(v100)
	f.runs(v100)
	// More than any disk of a test has: a hole that is signed as it is.
	b, err := os.ReadFile(build(t, v110))
	require.NoError(t, err)
	block := filepath.Join(f.data, "update")
	require.NoError(t, os.RemoveAll(block))
	require.NoError(t, os.WriteFile(block, b[:1], 0o600)) // what cannot be written to, for root too
	f.offer(v110, build(t, v110))
	f.want(v110, "1")
	h := f.until("waits", func(h *uplink.Hello) bool { return h.Update.State == uplink.UpdateWaiting })
	require.Contains(t, h.Update.Error, "cannot be written")
	require.Equal(t, v100, h.Version)
	require.NoError(t, os.Remove(block))
	f.want(v110, "2") // an operator does not wait for the next try
	f.runs(v110)
}

// A program on trial whose old one was killed does not stay as a second agent.
func TestOrphansEnd(t *testing.T) {
	f := newFleet(t, time.Hour)
	f.start(v100)
	f.runs(v100)
	f.offer(v110, build(t, v110))
	f.want(v110, "1")
	f.until("on trial", func(h *uplink.Hello) bool { return h.Version == v110 })
	f.stop(syscall.SIGKILL)
	f.start(v100)
	f.runs(v110)
	require.Len(t, f.hosts.Connected(), 1)
}

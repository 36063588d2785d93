package release_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/release"
)

// host is a file system below a directory, and a server that offers an agent.
type host struct {
	t    *testing.T
	root string
	url  string
	dir  string // of the server's programs
	rel  *release.Release
}

func newHost(t *testing.T) *host {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the script looks at a host of Linux")
	}
	arch := map[string]string{"amd64": "amd64", "arm64": "arm64", "arm": "armv7"}[runtime.GOARCH]
	r, dir := offer(t, "linux-"+arch)
	s := httptest.NewServer(r.Handler())
	t.Cleanup(s.Close)
	return &host{t: t, root: t.TempDir(), url: s.URL, dir: dir, rel: r}
}

// sh runs install.sh as it is piped into a shell.
func (h *host) sh(args ...string) (string, error) {
	h.t.Helper()
	script, err := h.rel.Script()
	require.NoError(h.t, err)
	cmd := exec.Command("sh", append([]string{"-s", "--", "--root", h.root}, args...)...)
	cmd.Stdin = strings.NewReader(string(script))
	cmd.Env = append(os.Environ(), "http_proxy=", "HTTP_PROXY=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *host) join(more ...string) (string, error) {
	return h.sh(append([]string{"--server", h.url, "--join", "10.0.0.1:9701", "--token", "pnp1.a.b.c"}, more...)...)
}

func (h *host) file(path string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.root, path))
	require.NoError(h.t, err)
	return string(b)
}

func (h *host) mode(path string) os.FileMode {
	h.t.Helper()
	i, err := os.Stat(filepath.Join(h.root, path))
	require.NoError(h.t, err)
	return i.Mode().Perm()
}

func (h *host) none(path string) { require.NoFileExists(h.t, filepath.Join(h.root, path)) }

const binary, unitFile, initFile = "usr/local/bin/panoptes-agent", "etc/systemd/system/panoptes-agent.service", "etc/init.d/panoptes-agent"

func TestScriptWithSystemd(t *testing.T) {
	h := newHost(t)
	require.NoError(t, os.MkdirAll(filepath.Join(h.root, "run/systemd/system"), 0o755))
	out, err := h.join("--region", "eu (west)", "--node", "web-1", "--labels", "team=web,tier=1")
	require.NoError(t, err, out)
	require.Equal(t, program, h.file(binary))
	require.Equal(t, os.FileMode(0o755), h.mode(binary))
	require.Equal(t, "PANOPTES_JOIN=10.0.0.1:9701\nPANOPTES_TOKEN=pnp1.a.b.c\n", h.file("etc/panoptes/agent.env"))
	require.Equal(t, os.FileMode(0o600), h.mode("etc/panoptes/agent.env"), "a token is in it")
	require.Equal(t, os.FileMode(0o700), h.mode("var/lib/panoptes-agent"))
	require.Contains(t, h.file("etc/panoptes/agent.yml"), "node: \"web-1\"\nregion: \"eu (west)\"\nlabels:\n  \"team\": \"web\"\n  \"tier\": \"1\"\n")
	want, err := release.Packaging()
	require.NoError(t, err)
	require.Equal(t, string(want["panoptes-agent.service"]), h.file(unitFile), "the text of packaging")
	for _, said := range []string{"useradd --system", "systemctl daemon-reload", "systemctl enable panoptes-agent.service", "systemctl restart panoptes-agent.service", "done:"} {
		require.Contains(t, out, said)
	}
	h.none(initFile)

	require.NotContains(t, h.file("etc/panoptes/agent.yml"), "enabled")

	// Again: nothing is fetched, the file of the operator stays.
	require.NoError(t, os.MkdirAll(filepath.Join(h.root, "var/lib/panoptes-agent/pki"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(h.root, "etc/panoptes/agent.yml"), []byte("node: mine\n"), 0o644))
	out, err = h.sh("--server", "http://127.0.0.1:1", "--checks")
	require.NoError(t, err, out)
	require.Contains(t, out, "is current")
	require.Contains(t, out, "checks: {enabled: true}", "what is not done is said")
	require.Equal(t, "node: mine\n", h.file("etc/panoptes/agent.yml"))
	require.Contains(t, h.file("etc/panoptes/agent.env"), "PANOPTES_TOKEN", "it was not told to forget it")

	out, err = h.sh("--uninstall")
	require.NoError(t, err, out)
	require.Contains(t, out, "systemctl disable --now")
	h.none(binary)
	h.none(unitFile)
	h.none("etc/panoptes/agent.env")
	require.Equal(t, "node: mine\n", h.file("etc/panoptes/agent.yml"))
	out, err = h.sh("--uninstall", "--purge")
	require.NoError(t, err, out)
	h.none("etc/panoptes/agent.yml")
	require.NoDirExists(t, filepath.Join(h.root, "var/lib/panoptes-agent"))
}

func TestScriptWithOpenRC(t *testing.T) {
	h := newHost(t)
	require.NoError(t, os.MkdirAll(filepath.Join(h.root, "sbin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(h.root, "sbin/openrc-run"), nil, 0o755))
	out, err := h.join()
	require.NoError(t, err, out)
	want, err := release.Packaging()
	require.NoError(t, err)
	require.Equal(t, string(want["panoptes-agent.openrc"]), h.file(initFile))
	require.Equal(t, os.FileMode(0o755), h.mode(initFile))
	require.Contains(t, out, "rc-update add panoptes-agent default")
	require.Contains(t, out, "rc-service panoptes-agent restart")
	h.none(unitFile)
	out, err = h.sh("--uninstall")
	require.NoError(t, err, out)
	require.Contains(t, out, "rc-service panoptes-agent stop")
	h.none(initFile)
}

func TestScriptWithoutAnInit(t *testing.T) {
	h := newHost(t)
	out, err := h.join("--no-start", "--region", "eu", "--checks")
	require.NoError(t, err, out)
	require.Contains(t, h.file("etc/panoptes/agent.yml"), "region: \"eu\"\nchecks:\n  enabled: true\n")
	require.Contains(t, out, "no systemd and no OpenRC")
	require.Equal(t, program, h.file(binary))
}

func TestDryRunChangesNothing(t *testing.T) {
	h := newHost(t)
	require.NoError(t, os.MkdirAll(filepath.Join(h.root, "run/systemd/system"), 0o755))
	out, err := h.join("--dry-run")
	require.NoError(t, err, out)
	require.Contains(t, out, "nothing was changed")
	require.Contains(t, out, "would: fetch "+h.url)
	list, err := os.ReadDir(h.root)
	require.NoError(t, err)
	require.Len(t, list, 1, "only what was there")
}

// What was changed on the way is not installed, and what is there stays.
func TestScriptRefuses(t *testing.T) {
	h := newHost(t)
	script, err := h.rel.Script()
	require.NoError(t, err)
	names, err := filepath.Glob(filepath.Join(h.dir, "*"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(names[0], []byte("#!/bin/sh\necho evil\n"), 0o755))
	cmd := exec.Command("sh", "-s", "--", "--root", h.root, "--server", h.url, "--join", "10.0.0.1:9701", "--token", "pnp1.a")
	cmd.Stdin = strings.NewReader(string(script))
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "changed on the way")
	h.none(binary)
	left, err := filepath.Glob(filepath.Join(h.root, "usr/local/bin/*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing half done is left")

	for want, args := range map[string][]string{
		"--join HOST:9701":                   {"--server", h.url},
		"--token is missing":                 {"--server", h.url, "--join", "h:9701"},
		"is not an option":                   {"--nonsense"},
		"characters that are not":            {"--join", "h:9701; reboot", "--token", "x"},
		"--region: the value has characters": {"--region", "a\"\nchecks: {enabled: true}"},
		"--node: the value has characters":   {"--node", `a\x22`},
		"needs a value":                      {"--join"},
		"--init":                             {"--init", "upstart"},
		"could not fetch http://h:9700/":     {"--join", "h:9700", "--token", "x", "--server", "http://h:9700/"},
	} {
		out, err := h.sh(args...)
		require.Error(t, err, out)
		require.Contains(t, out, want)
	}
	require.NoError(t, os.Remove(names[0]))
	out2, err := h.join()
	require.Error(t, err)
	require.Contains(t, out2, "make agents")
}

// A script that arrives in part does nothing.
func TestHalfAScriptDoesNothing(t *testing.T) {
	h := newHost(t)
	script, err := h.rel.Script()
	require.NoError(t, err)
	for _, part := range []int{len(script) / 4, len(script) / 2, len(script) - 12} {
		cmd := exec.Command("sh", "-s", "--", "--root", h.root, "--server", h.url, "--join", "10.0.0.1:9701", "--token", "pnp1.a")
		cmd.Stdin = strings.NewReader(string(script[:part]))
		_, _ = cmd.CombinedOutput()
		list, err := os.ReadDir(h.root)
		require.NoError(t, err)
		require.Empty(t, list, "%d bytes", part)
	}
}

// The line that people are given works as it stands, and finds out who changed
// the script.
func TestTheLine(t *testing.T) {
	h := newHost(t)
	in, err := h.rel.Install(release.Where{URL: h.url, Join: "10.0.0.1:9701", Token: "pnp1.a.b.c", Region: "eu"})
	require.NoError(t, err)
	out, err := exec.Command("sh", "-c", in.Linux+" --root "+h.root).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, program, h.file(binary))
	require.Contains(t, h.file("etc/panoptes/agent.yml"), `region: "eu"`)
	require.NoError(t, os.RemoveAll(filepath.Join(h.root, "usr")))

	names, err := filepath.Glob(filepath.Join(h.dir, "*"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(names[0], []byte("#!/bin/sh\necho evil\n"), 0o755)) // and with it the script
	out, err = exec.Command("sh", "-c", in.Linux+" --root "+h.root).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "FAILED")
	h.none(binary)
}

func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed")
	}
	r, _ := offer(t, "linux-amd64")
	script, err := r.Script()
	require.NoError(t, err)
	cmd := exec.Command("shellcheck", "-s", "sh", "-")
	cmd.Stdin = strings.NewReader(string(script))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

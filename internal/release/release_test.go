package release_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/release"
	"panoptes/internal/wire/manifest"
)

// program is what the tests offer as an agent: a script that runs anywhere.
const program = "#!/bin/sh\necho panoptes-agent test \"$@\"\n"

func hash(b string) string {
	s := sha256.Sum256([]byte(b))
	return hex.EncodeToString(s[:])
}

// offer makes a directory of programs and what serves it.
func offer(t *testing.T, platforms ...string) (*release.Release, string) {
	t.Helper()
	dir := t.TempDir()
	for _, p := range platforms {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "panoptes-agent-"+p), []byte(program), 0o755))
	}
	r, err := release.New(release.Config{Dir: dir, CacheDir: filepath.Join(t.TempDir(), "cache"), Version: "1.2.3"}, release.Deps{})
	require.NoError(t, err)
	return r, dir
}

func get(t *testing.T, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://x"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestProgramsAreServed(t *testing.T) {
	r, dir := offer(t, "linux-amd64")
	h := r.Handler()
	w := get(t, h, "/agent/linux/amd64")
	require.Equal(t, 200, w.Code)
	require.Equal(t, program, w.Body.String())
	require.Equal(t, `"`+hash(program)+`"`, w.Header().Get("ETag"))
	require.Equal(t, itoa(len(program)), w.Header().Get("Content-Length"))
	require.Equal(t, 304, get(t, h, "/agent/linux/amd64", "If-None-Match", w.Header().Get("ETag")).Code)
	w = get(t, h, "/agent/linux/amd64", "Range", "bytes=2-8")
	require.Equal(t, 206, w.Code)
	require.Equal(t, program[2:9], w.Body.String())
	for range 2 { // made, then kept
		w = get(t, h, "/agent/linux/amd64", "Accept-Encoding", "br, gzip")
		require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
		require.Equal(t, w.Header().Get("Content-Length"), itoa(w.Body.Len()))
		zr, err := gzip.NewReader(w.Body)
		require.NoError(t, err)
		b, err := io.ReadAll(zr)
		require.NoError(t, err)
		require.Equal(t, program, string(b))
	}
	require.Equal(t, 304, get(t, h, "/agent/linux/amd64", "Accept-Encoding", "gzip", "If-None-Match", w.Header().Get("ETag")).Code)

	// A file that is replaced is noticed, zipped or not.
	other := program + "# newer\n"
	path := filepath.Join(dir, "panoptes-agent-linux-amd64")
	require.NoError(t, os.WriteFile(path, []byte(other), 0o755))
	require.Equal(t, other, get(t, h, "/agent/linux/amd64").Body.String())
	w = get(t, h, "/agent/linux/amd64", "Accept-Encoding", "gzip")
	require.Equal(t, `"`+hash(other)+`-gzip"`, w.Header().Get("ETag"))
	require.Equal(t, hash(other), w.Header().Get("X-Panoptes-SHA256"))
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestWhatIsNotThere(t *testing.T) {
	r, dir := offer(t, "linux-amd64")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "panoptes-agent-darwin-arm64"), 0o755))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "panoptes-agent-freebsd-amd64")))
	for path, want := range map[string]string{
		"/agent/linux/arm64":              "make agents",
		"/agent/plan9/386":                "agents are built for linux/amd64",
		"/agent/linux/..%2f..%2fsecret":   "not_found",
		"/agent/..%2f/secret":             "not_found",
		"/agent/linux%2famd64/x":          "not_found",
		"/agent/darwin/arm64":             "not_found",
		"/agent/freebsd/amd64":            "not_found",
		"/agent/manifest.json.sig":        "panoptes agent sign",
		"/agent/linux/amd64%00":           "not_found",
		"/agent/linux/" + "a" + "%0d%0aX": "not_found",
	} {
		w := get(t, r.Handler(), path)
		require.Equal(t, 404, w.Code, path)
		require.Contains(t, w.Body.String(), want, path)
		var e struct{ Error struct{ Code string } }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e), path)
		require.Equal(t, "not_found", e.Error.Code)
	}
	empty, _ := offer(t)
	require.Equal(t, 404, get(t, empty.Handler(), "/agent/manifest.json").Code)
}

func TestManifests(t *testing.T) {
	r, dir := offer(t, "linux-amd64", "linux-armv7")
	w := get(t, r.Handler(), "/agent/manifest.json")
	require.Equal(t, 200, w.Code)
	m, err := manifest.Parse(w.Body.Bytes())
	require.NoError(t, err)
	require.Equal(t, "1.2.3", m.Version)
	f, ok := m.File(manifest.Platform{OS: "linux", Arch: "armv7"})
	require.True(t, ok)
	require.Equal(t, hash(program), f.SHA256)
	_, _, _, err = r.Signed()
	require.ErrorIs(t, err, model.ErrNotFound, "not signed, no updates")

	pub, priv, err := manifest.NewKey()
	require.NoError(t, err)
	require.NoError(t, release.Sign(dir, priv, manifest.Manifest{Version: "1.3.0"}, time.Now()))
	m, text, sig, err := r.Signed()
	require.NoError(t, err)
	require.Equal(t, "1.3.0", m.Version)
	key, err := manifest.PublicKey(pub)
	require.NoError(t, err)
	_, err = manifest.Verify(key, text, sig)
	require.NoError(t, err)
	require.Equal(t, string(sig), get(t, r.Handler(), "/agent/manifest.json.sig").Body.String())
	require.Equal(t, string(text), get(t, r.Handler(), "/agent/manifest.json").Body.String(), "the exact bytes")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "panoptes-agent-linux-armv7"), []byte("other"), 0o755))
	_, _, _, err = r.Signed()
	require.ErrorContains(t, err, "sign again")
	require.ErrorContains(t, release.Sign(dir, priv, manifest.Manifest{Version: "dev"}, time.Now()), "version")
	require.ErrorContains(t, release.Sign(dir, "x", manifest.Manifest{Version: "1.3.0"}, time.Now()), "keygen")
	require.ErrorContains(t, release.Sign(t.TempDir(), priv, manifest.Manifest{Version: "1.3.0"}, time.Now()), "make agents")
}

func TestLines(t *testing.T) {
	r, _ := offer(t, "linux-amd64", "linux-armv7", "windows-amd64")
	script, err := r.Script()
	require.NoError(t, err)
	in, err := r.Install(release.Where{URL: "http://10.0.0.1:9700/", Join: "10.0.0.1:9701", Token: "pnp1.a.b.c", Region: "eu"})
	require.NoError(t, err)
	require.Contains(t, in.Linux, "http://10.0.0.1:9700/install.sh")
	require.Contains(t, in.Linux, hash(string(script)), "whoever changes the script on the way is found out")
	require.Contains(t, in.Linux, "--server http://10.0.0.1:9700 --join 10.0.0.1:9701 --token pnp1.a.b.c --region eu")
	require.Empty(t, in.Warning)
	require.Equal(t, []string{"linux/amd64", "linux/armv7", "windows/amd64"}, in.Platforms)
	require.Contains(t, in.Docker, "ADD --checksum=sha256:"+hash(program))
	require.NotContains(t, in.Docker, "windows")
	require.Contains(t, in.Windows, strings.ToUpper(hash(program)))
	require.Contains(t, in.Windows, "token: 'pnp1.a.b.c'")

	for _, text := range []string{in.Linux, in.Docker, in.Kubernetes, in.Windows} {
		require.NotContains(t, strings.ToLower(text), "checks: {enabled")
		require.NotRegexp(t, `--checks\b`, text)
		require.NotContains(t, text, "PANOPTES_CHECKS")
	}
	in, err = r.Install(release.Where{URL: "http://10.0.0.1:9700/", Join: "10.0.0.1:9701", Token: "pnp1.a.b.c", Region: "eu", Checks: true})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(in.Linux, " --region eu --checks"), in.Linux)
	require.Contains(t, in.Docker, " -e PANOPTES_CHECKS=true panoptes-agent")
	require.Contains(t, in.Kubernetes, `{name: PANOPTES_CHECKS, value: "true"}`)
	require.Contains(t, in.Windows, "`nregion: 'eu'`nchecks: {enabled: true}\"")

	in, err = r.Install(release.Where{URL: "https://p.example/x", Join: "[2001:db8::1]:9701"})
	require.NoError(t, err)
	require.Contains(t, in.Linux, "curl -fsSL https://p.example/x/install.sh ")
	require.Contains(t, in.Linux, "| sh -s -- --server https://p.example/x --join '[2001:db8::1]:9701' --token TOKEN")

	for where, want := range map[release.Where]string{
		{URL: "http://127.0.0.1:9700", Join: "127.0.0.1:9701"}:   "listens on loopback only",
		{URL: "http://127.0.0.1:9700", Join: "10.0.0.1:9701"}:    "external_url",
		{URL: "https://p.example", Join: "localhost:9701"}:       "--advertise",
		{URL: "http://[::1]:9700", Join: "[::1]:9701"}:           "listens on loopback only",
		{URL: "http://panoptes.example", Join: "127.0.0.2:9701"}: "--bind",
	} {
		in, err := r.Install(where)
		require.NoError(t, err)
		require.Contains(t, in.Warning, want)
	}
	none, _ := offer(t)
	in, err = none.Install(release.Where{URL: "http://h:1", Join: "h:2"})
	require.NoError(t, err)
	require.Contains(t, in.Warning, "make agents")
}

func TestNothingIsSmuggledIntoALine(t *testing.T) {
	r, _ := offer(t, "linux-amd64")
	good := release.Where{URL: "http://h:1", Join: "h:2", Token: "pnp1.x"}
	for field, change := range map[string]func(*release.Where){
		"token":        func(w *release.Where) { w.Token = "x; rm -rf /" },
		"region":       func(w *release.Where) { w.Region = "$(id)" },
		"external_url": func(w *release.Where) { w.URL = "http://h:1/'`id`" },
		"advertise":    func(w *release.Where) { w.Join = "h$(id):2" },
	} {
		w := good
		change(&w)
		_, err := r.Install(w)
		require.ErrorContains(t, err, field)
	}
	// The name of a region may have blanks and parentheses: it is one word all the same.
	in, err := r.Install(release.Where{URL: "http://h:1", Join: "[::1]:2", Region: "eu --privileged (west)"})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(in.Linux, " --region 'eu --privileged (west)'"), in.Linux)
	require.Contains(t, in.Docker, " -e PANOPTES_JOIN='[::1]:2' ")
	require.Contains(t, in.Docker, " -e PANOPTES_REGION='eu --privileged (west)' ")
	require.Contains(t, in.Kubernetes, `value: "eu --privileged (west)"`)
	require.Contains(t, in.Windows, "region: 'eu --privileged (west)'")
	_, err = r.Install(release.Where{URL: "http://user:pw@h:1", Join: "h:2"})
	require.ErrorContains(t, err, "external_url")
	_, err = r.Install(release.Where{URL: "javascript://h", Join: "h:2"})
	require.ErrorContains(t, err, "external_url")
}

// packaging holds the texts as people read them in the repository. They are
// made from the same sources; PANOPTES_UPDATE=1 writes them anew.
func TestPackagingIsCurrent(t *testing.T) {
	files, err := release.Packaging()
	require.NoError(t, err)
	require.Len(t, files, 6)
	for name, text := range files {
		path := filepath.Join("../../packaging", name)
		if os.Getenv("PANOPTES_UPDATE") != "" {
			require.NoError(t, os.WriteFile(path, text, 0o644))
		}
		have, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, have), "%s differs: run PANOPTES_UPDATE=1 go test ./internal/release -run Packaging", path)
	}
}

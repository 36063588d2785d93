//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// The journeys of people through the pages, in Chromium against the real binary.
func TestJourneys(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("skipped: Node.js is not installed")
	}
	chromium := "/usr/bin/chromium"
	if c := os.Getenv("CHROMIUM"); c != "" {
		chromium = c
	}
	if _, err := os.Stat(chromium); err != nil {
		t.Skipf("skipped: no Chromium at %s (set CHROMIUM, or install the package chromium)", chromium)
	}
	ui, err := filepath.Abs("../../ui")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(ui, "node_modules", "playwright-core")); err != nil {
		t.Skip("skipped: the pages' tools are not installed; run make ui")
	}
	bin := harness.Binary(t)
	dir := t.TempDir()
	bucket, config := filepath.Join(dir, "bucket.yml"), filepath.Join(dir, "panoptes.yml")
	require.NoError(t, os.WriteFile(bucket, []byte("type: FILESYSTEM\nconfig: {directory: "+filepath.Join(dir, "bucket")+"}\n"), 0o600))
	require.NoError(t, os.WriteFile(config, []byte("backup: {bucket: "+bucket+"}\n"), 0o600))
	s := harness.Start(t, bin, t.TempDir(), "--config", config)
	code, page, err := s.Do(http.MethodGet, "/", nil)
	require.NoError(t, err)
	if code != http.StatusOK || !strings.Contains(string(page), "/assets/") && !strings.Contains(string(page), "assets/") {
		t.Skip("skipped: the binary was built without pages; run make ui build")
	}

	journeys, err := filepath.Glob(filepath.Join(ui, "journeys", "*.mjs"))
	require.NoError(t, err)
	ran := 0
	for _, j := range journeys {
		name := strings.TrimSuffix(filepath.Base(j), ".mjs")
		if name == "lib" {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) {
			var down atomic.Bool
			target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/up", "/down":
					down.Store(r.URL.Path == "/down")
				default:
					if down.Load() {
						w.WriteHeader(http.StatusInternalServerError)
					}
					io.WriteString(w, "sample\n")
				}
			}))
			defer target.Close()
			cmd := exec.Command("node", j)
			cmd.Dir = ui
			cmd.Env = append(os.Environ(), "PANOPTES_URL="+s.URL, "PANOPTES_USER=admin", "PANOPTES_PASSWORD="+harness.Password, "TARGET_CONTROL="+target.URL, "CHROMIUM="+chromium)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			require.NoError(t, err)
		})
	}
	require.Positive(t, ran, "there are no journeys")
}

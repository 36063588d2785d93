package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/cli"
	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// deadlines notes whether requests have one.
type deadlines struct {
	http.RoundTripper
	seen []bool
}

func (d *deadlines) RoundTrip(r *http.Request) (*http.Response, error) {
	_, has := r.Context().Deadline()
	d.seen = append(d.seen, has)
	return d.RoundTripper.RoundTrip(r)
}

// A backup takes as long as it takes.
func TestBackupIsWaitedFor(t *testing.T) {
	d := &deadlines{RoundTripper: http.DefaultTransport}
	http.DefaultTransport = d
	defer func() { http.DefaultTransport = d.RoundTripper }()
	answer := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"01J","files":3}`) }
	code, out, errs := run(t, answer, "", "backup", "create")
	require.Zero(t, code, errs)
	require.Contains(t, out, "01J")
	require.Equal(t, []bool{false}, d.seen)
}

// What the key of a backup that could not be shown would open is lost: the next
// backup makes another key.
func TestKeyThatWasNotShown(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "pki"), 0o700))
	bucket := filepath.Join(t.TempDir(), "bucket.yml")
	require.NoError(t, os.WriteFile(bucket, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", t.TempDir()), 0o600))
	args := []string{"backup", "create", "--stopped", dir, "--bucket", bucket}
	closed, w := io.Pipe()
	require.NoError(t, closed.Close())
	var errs bytes.Buffer
	require.NotZero(t, cli.Main(t.Context(), args, cli.IO{In: &bytes.Buffer{}, Out: w, Err: &errs, Env: []string{"HOME=" + dir}}))
	for _, want := range []bool{true, false} {
		var out bytes.Buffer
		require.Zero(t, cli.Main(t.Context(), args, cli.IO{In: &bytes.Buffer{}, Out: &out, Err: &errs, Env: []string{"HOME=" + dir}}), errs.String())
		require.Equal(t, want, strings.Contains(out.String(), "Recovery key"), out.String())
	}
}

// A stopped server is backed up, checked and brought back by commands.
func TestBackupCommands(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "pki"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pki", "node.key"), []byte("secret"), 0o600))
	s, stop := storetest.Start(t, store.Config{Dir: filepath.Join(dir, "tsdb")}, store.Deps{})
	app := s.Appender(t.Context())
	for i := range 50 {
		_, err := app.Append(0, labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), time.Now().UnixMilli(), 1)
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	stop()
	h, err := history.New(history.Config{Path: filepath.Join(dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	require.NoError(t, h.Append(t.Context(), model.Event{ID: ulid.Make().String(), Time: time.Now(), Kind: model.EventAudit, Subject: "check/1"}))
	h.Close()

	bucket := filepath.Join(t.TempDir(), "bucket.yml")
	require.NoError(t, os.WriteFile(bucket, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", t.TempDir()), 0o600))
	key := ""
	f := func(args ...string) (string, int) {
		t.Helper()
		var out, errs bytes.Buffer
		code := cli.Main(t.Context(), append([]string{"backup"}, args...), cli.IO{In: &bytes.Buffer{}, Out: &out, Err: &errs,
			Env: []string{"PANOPTES_BUCKET=" + bucket, "PANOPTES_RECOVERY_KEY=" + key, "HOME=" + dir}})
		return out.String() + errs.String(), code
	}
	text, code := f("create", "--stopped", dir, "-o", "json")
	require.Zero(t, code, text)
	var made struct {
		ID          string
		RecoveryKey string `json:"recovery_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &made))
	require.NotEmpty(t, made.RecoveryKey)
	text, code = f("list")
	require.Zero(t, code, text)
	require.Contains(t, text, made.ID)
	text, code = f("verify")
	require.Zero(t, code, text)
	require.Contains(t, text, "is sound")
	require.Contains(t, text, "50 series")
	require.Contains(t, text, "1 events")

	to := filepath.Join(t.TempDir(), "data")
	text, code = f("restore", "--data-dir", to)
	require.NotZero(t, code)
	require.Contains(t, text, "recovery_key")
	key = made.RecoveryKey
	text, code = f("restore", "--data-dir", to)
	require.Zero(t, code, text)
	got, err := os.ReadFile(filepath.Join(to, "pki", "node.key"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(got))
	text, code = f("restore", "--data-dir", to)
	require.NotZero(t, code)
	require.Contains(t, text, "not empty")
	text, code = f("create", "--stopped", t.TempDir())
	require.NotZero(t, code)
	require.Contains(t, text, "no data directory")
}

package app_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/backup"
	"panoptes/internal/config"
	"panoptes/internal/model"
)

func settled(t *testing.T, a *app.App) {
	t.Helper()
	require.Eventually(t, func() bool {
		code, _ := call(t, a, "GET", "/-/ready", "")
		return code == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
}

// write sends one sample by remote write 1.
func write(t *testing.T, a *app.App, name string, at time.Time, v float64) int {
	t.Helper()
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "__name__", Value: name}}, Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: v}}}}}
	data, err := req.Marshal()
	require.NoError(t, err)
	r, err := http.NewRequest("POST", a.URL()+"/api/v1/write", strings.NewReader(string(snappy.Encode(nil, data))))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func value(t *testing.T, a *app.App, query string) string {
	t.Helper()
	_, out := call(t, a, "GET", "/api/v1/query?query="+url.QueryEscape(query), "")
	return mustJSON(t, out)
}

// A running server is backed up and comes back elsewhere, with what was written
// late, and keeps quiet until somebody lets it speak.
func TestBackupOfARunningServer(t *testing.T) {
	var told atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && strings.Contains(string(body), "CheckDown") {
			told.Add(1)
		}
	}))
	defer hook.Close()
	bucket := filepath.Join(t.TempDir(), "bucket.yml")
	store := t.TempDir()
	require.NoError(t, os.WriteFile(bucket, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", store), 0o600))
	dir := t.TempDir()
	with := func(c *config.Config) { c.Backup.Bucket = bucket }
	staging := filepath.Join(dir, backup.StagingName)
	require.NoError(t, os.MkdirAll(filepath.Join(staging, "tsdb"), 0o700))
	a, stop := server(t, dir, with)
	settled(t, a)
	require.NoDirExists(t, staging, "what a killed process had gathered is removed")

	code, out := call(t, a, "POST", "/v1/receivers", `{"name":"hook","type":"webhook","webhook":{"url":"`+hook.URL+`"}}`)
	require.Equal(t, http.StatusCreated, code, out)
	code, out = call(t, a, "POST", "/v1/routes", `{"name":"default","receiver":"hook","group_wait":"0s","group_interval":"1s"}`)
	require.Equal(t, http.StatusCreated, code, out)
	now := time.Now()
	require.Less(t, write(t, a, "fresh", now, 1), 300)
	require.Less(t, write(t, a, "fresh", now.Add(-time.Hour), 2), 300)
	code, out = call(t, a, "POST", "/v1/backup", "")
	require.Equal(t, http.StatusCreated, code, out)
	secret, _ := out["recovery_key"].(string)
	require.NotEmpty(t, secret)
	code, out = call(t, a, "POST", "/v1/backup", "")
	require.Equal(t, http.StatusCreated, code, out)
	require.Empty(t, out["recovery_key"], "it is shown once")
	_, out = call(t, a, "GET", "/v1/backup", "")
	require.Len(t, out["backups"], 2)
	stop()

	conf, err := os.ReadFile(bucket)
	require.NoError(t, err)
	b, err := backup.NewBucket(conf)
	require.NoError(t, err)
	defer b.Close()
	_, err = backup.Verify(t.Context(), b, "", backup.VerifyOptions{Scratch: filepath.Join(t.TempDir(), "scratch"), RecoveryKey: model.Secret(secret), Check: func(ctx context.Context, dir string, m *backup.Manifest) error {
		_, err := app.CheckBackup(ctx, dir, m)
		return err
	}})
	require.NoError(t, err)
	again := filepath.Join(t.TempDir(), "again")
	_, err = app.RestoreBackup(t.Context(), b, "", again, model.Secret(secret), slog.New(slog.DiscardHandler))
	require.NoError(t, err)

	a, _ = server(t, again, with)
	settled(t, a)
	require.Contains(t, value(t, a, "count_over_time(fresh[2h])"), `"2"`, "late samples are there as well")
	_, out = call(t, a, "GET", "/v1/backup", "")
	require.Contains(t, out["quiet"], "restored")
	code, out = call(t, a, "POST", "/v1/checks", `{"name":"site","type":"http","target":"http://127.0.0.1:1/","interval":"1s","timeout":"500ms"}`)
	require.Equal(t, http.StatusCreated, code, out)
	require.Eventually(t, func() bool {
		_, list := call(t, a, "GET", "/v1/alerts?q=alertname%3D~Check.*", "")
		items, _ := list["items"].([]any)
		return len(items) == 1
	}, 20*time.Second, 50*time.Millisecond)
	require.Never(t, func() bool { return told.Load() > 0 }, 3*time.Second, 100*time.Millisecond, "nobody is told")
	code, _ = call(t, a, "DELETE", "/v1/settings/notifications", "")
	require.Equal(t, http.StatusNoContent, code)
	require.Eventually(t, func() bool { return told.Load() > 0 }, 40*time.Second, 50*time.Millisecond, "what still fires is told")
}

// With an engine outside its answers are ours, and it gets what we store; what
// it could not take while it was away comes later.
func TestEngineOutside(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	var away atomic.Bool
	away.Store(true)
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Scope-OrgID") != "me":
			http.Error(w, "whose?", http.StatusUnauthorized)
		case away.Load():
			http.Error(w, "later", http.StatusServiceUnavailable)
		case r.URL.Path == "/api/v1/write":
			body, err := io.ReadAll(r.Body)
			if err == nil {
				body, err = snappy.Decode(nil, body)
			}
			var req prompb.WriteRequest
			if err != nil || req.Unmarshal(body) != nil {
				http.Error(w, "unreadable", http.StatusBadRequest)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, ts := range req.Timeseries {
				for _, l := range ts.Labels {
					if l.Name == "__name__" {
						got[l.Value] += len(ts.Samples)
					}
				}
			}
		case strings.HasPrefix(r.URL.Path, "/prom/api/v1/query"):
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"scalar","result":[1,"42"]}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer engine.Close()
	a, _ := server(t, t.TempDir(), func(c *config.Config) {
		c.Storage.Engine, c.Storage.WriteURL, c.Storage.QueryURL = config.EngineRemote, engine.URL+"/api/v1/write", engine.URL+"/prom"
		c.Storage.Headers = map[string]model.Secret{"X-Scope-OrgID": "me"}
	})
	settled(t, a)
	require.Less(t, write(t, a, "kept", time.Now(), 1), 300, "nobody waits for the engine")
	require.Eventually(t, func() bool {
		_, h := call(t, a, "GET", "/api/health", "")
		return strings.Contains(mustJSON(t, h), "wait in the log")
	}, 20*time.Second, 50*time.Millisecond)
	away.Store(false)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["kept"] == 1
	}, 20*time.Second, 50*time.Millisecond)
	require.Contains(t, value(t, a, "anything"), `"42"`)
	code, out := call(t, a, "GET", "/api/v1/rules", "")
	require.Equal(t, http.StatusOK, code, out)
	_, nodes := call(t, a, "GET", "/v1/nodes", "")
	require.NotContains(t, mustJSON(t, nodes), `"to":"engine"`, "it is no server")
}

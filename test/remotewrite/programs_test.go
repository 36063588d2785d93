//go:build e2e

// Package remotewrite sends samples from a real Prometheus to the real server
// and back, and compares what both of them answer.
package remotewrite

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v2"

	"panoptes/test/harness"
)

const patience = 40 * time.Second

// prometheusBinary returns the program that `make conformance` builds from its
// module; without it the test is skipped.
func prometheusBinary(t testing.TB) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin/prometheus")
	require.NoError(t, err)
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	if os.Getenv("PANOPTES_CONFORMANCE") == "" {
		t.Skip("bin/prometheus is not there; `make conformance` builds it, which takes minutes")
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/prometheus/prometheus/cmd/prometheus")
	cmd.Dir = "../../bench/prometheus"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "build prometheus: %s", out)
	return bin
}

// startPrometheus starts one with a configuration and returns its address.
func startPrometheus(t testing.TB, conf map[string]any, args ...string) string {
	t.Helper()
	bin := prometheusBinary(t)
	dir := t.TempDir()
	text, err := yaml.Marshal(conf)
	require.NoError(t, err)
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	addr := harness.FreeAddr(t, "127.0.0.1")
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(bin, append([]string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr,
		"--enable-feature=exemplar-storage,created-timestamp-zero-ingestion,metadata-wal-records"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ends is not what is tested
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("prometheus said:\n%s", said[max(0, len(said)-4000):])
		}
	})
	base := "http://" + addr
	require.Eventually(t, func() bool {
		res, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond, "prometheus is not ready")
	return base
}

// ask returns the data of an answer of the Prometheus API, in a form that does
// not depend on the order of keys.
func ask(base, path string, query url.Values) (string, error) {
	req, err := http.NewRequest(http.MethodGet, base+path+"?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey) // Prometheus does not mind
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Status string
		Data   any
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return "", fmt.Errorf("answered %d: %s", res.StatusCode, body)
	}
	out, err := json.MarshalIndent(answer.Data, "", " ")
	return string(out), err
}

func decode(t testing.TB, data []byte, out any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(data, out), "%s", data)
}

// number evaluates a query that gives one value; 0 when it gives none.
func number(t testing.TB, base, query string) float64 {
	t.Helper()
	text, err := ask(base, "/api/v1/query", url.Values{"query": {query}})
	require.NoError(t, err)
	var data struct {
		Result []struct{ Value [2]any }
	}
	require.NoError(t, json.Unmarshal([]byte(text), &data))
	if len(data.Result) == 0 {
		return 0
	}
	var v float64
	_, err = fmt.Sscan(fmt.Sprint(data.Result[0].Value[1]), &v)
	require.NoError(t, err)
	return v
}

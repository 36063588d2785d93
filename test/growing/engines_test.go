//go:build e2e

// Package growing runs what is built for growing past one machine against the
// engines themselves: Prometheus and Thanos, built from their modules.
package growing

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// build makes a program of a module that pins it, once.
var build = map[string]func(testing.TB) string{
	"prometheus": once("../../bench/prometheus", "prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
	// With string labels, the default, the program crashes at its first write.
	"thanos": once("../thanos", "thanos", "-tags", "slicelabels", "github.com/thanos-io/thanos/cmd/thanos"),
}

func once(dir, name string, args ...string) func(testing.TB) string {
	var mu sync.Mutex
	var bin string
	return func(t testing.TB) string {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if bin != "" {
			return bin
		}
		path, err := filepath.Abs(filepath.Join("../../bin", name))
		require.NoError(t, err)
		t.Logf("building %s from its module (minutes the first time)", name)
		cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", path}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "build %s: %s", name, out)
		bin = path
		return bin
	}
}

// start runs a program until the test ends, and waits until ready answers 200.
func start(t testing.TB, name, ready string, args ...string) (stop func()) {
	t.Helper()
	logPath := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(logPath)
	require.NoError(t, err)
	cmd := exec.Command(build[name](t), args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				_ = cmd.Process.Kill()
				<-ended
			}
			log.Close()
			if t.Failed() {
				data, _ := os.ReadFile(logPath)
				t.Logf("%s %s said:\n%s", name, args[0], data[max(0, len(data)-4000):])
			}
		})
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s %s ended", name, args[0])
		default:
		}
		res, err := http.Get(ready)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	}, time.Minute, 50*time.Millisecond)
	return stop
}

// prometheus starts one that takes remote write.
func prometheus(t testing.TB, addr, dir string) (base string, stop func()) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(conf, []byte("storage: {tsdb: {out_of_order_time_window: 1h}}\n"), 0o600))
	base = "http://" + addr
	return base, start(t, "prometheus", base+"/-/ready", "--config.file="+conf, "--storage.tsdb.path="+dir, "--web.listen-address="+addr, "--web.enable-remote-write-receiver")
}

// value asks an instant query of one number, 0 when there is none.
func value(t testing.TB, base, query string, at time.Time) float64 {
	t.Helper()
	v, err := ask(base, query, at)
	require.NoError(t, err)
	return v
}

func ask(base, query string, at time.Time) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	q := url.Values{"query": {query}, "time": {strconv.FormatInt(at.Unix(), 10)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/query?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	var out struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(body, &out); err != nil || out.Status != "success" {
		return 0, fmt.Errorf("answer %d: %s", res.StatusCode, body)
	}
	if len(out.Data.Result) == 0 {
		return 0, nil
	}
	return strconv.ParseFloat(out.Data.Result[0].Value[1].(string), 64)
}

//go:build e2e

package remotewrite

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// startServer starts one that others can join and returns its URL.
func startServer(t testing.TB, bin, name string, offset int, args ...string) string {
	t.Helper()
	log := &harness.LogBuffer{}
	cmd := exec.Command(bin, append([]string{"server", "--node", name, "--region", "eu", "--data-dir", t.TempDir(), "--port-offset", fmt.Sprint(offset)}, args...)...)
	cmd.Env = append(os.Environ(), "PANOPTES_API_KEY="+harness.APIKey, "PANOPTES_ADMIN_PASSWORD="+harness.Password, "PANOPTES_STORAGE_MIN_FREE=16MB", "PANOPTES_STORAGE_CONTROL_RESERVE=16MB")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it is killed
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, log)
		}
	})
	base := fmt.Sprintf("http://127.0.0.1:%d", 9700+offset)
	require.Eventually(t, func() bool {
		res, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond, "%s is not ready", name)
	return base
}

// do sends a request and returns the answer's body.
func do(t testing.TB, method, url string, body []byte, code int, contentType string) []byte {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, code, res.StatusCode, "%s %s: %s", method, url, answer)
	return answer
}

// A pair of Prometheus servers writes to two of our servers, each to another
// one: one of the pair is stored, and when it falls silent the other one is.
func TestPairAcrossServers(t *testing.T) {
	bin := harness.Binary(t)
	offset, release, err := harness.FreeOffset(20)
	require.NoError(t, err)
	t.Cleanup(release)
	one := startServer(t, bin, "n1", offset)
	var token struct{ Token string }
	decode(t, do(t, http.MethodPost, one+"/v1/tokens", []byte(`{"role":"server","uses":1}`), 201, "application/json"), &token)
	two := startServer(t, bin, "n2", offset+10, "--join", fmt.Sprintf("127.0.0.1:%d", 9701+offset), "--token", token.Token)
	for _, s := range []string{one, two} {
		require.Eventually(t, func() bool {
			var nodes struct{ Items []struct{ State string } }
			decode(t, do(t, http.MethodGet, s+"/v1/nodes", nil, 200, ""), &nodes)
			alive := 0
			for _, n := range nodes.Items {
				if n.State == "alive" {
					alive++
				}
			}
			return alive == 2
		}, patience, 100*time.Millisecond, "the servers see each other")
	}

	began := time.Now()
	send := func(s, replica string) {
		t.Helper()
		req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "pair"}, {Name: "__replica__", Value: replica}, {Name: "cluster", Value: "eu"},
			},
			Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: map[string]float64{"a": 1, "b": 2}[replica]}},
		}}}
		raw, err := req.Marshal()
		require.NoError(t, err)
		do(t, http.MethodPost, s+"/api/v1/write", snappy.Encode(nil, raw), 204, "application/x-protobuf")
	}
	stored := func(s string, value int) float64 {
		t.Helper()
		return number(t, s, fmt.Sprintf("sum(count_over_time((pair{cluster=\"eu\"} == %d)[10m:100ms])) or vector(0)", value))
	}
	send(one, "a")
	require.Eventually(t, func() bool { return stored(two, 1) > 0 }, patience, 100*time.Millisecond)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		send(one, "a")
		send(two, "b")
	}
	for _, s := range []string{one, two} {
		require.Zero(t, stored(s, 2), "the other server knows who is stored")
	}
	require.Less(t, time.Since(began), 25*time.Second, "this machine is too slow for the test")
	silent := time.Now()
	require.Eventually(t, func() bool {
		send(two, "b")
		return stored(one, 2) > 0 && stored(two, 2) > 0
	}, 2*patience, time.Second, "the other one takes over")
	took := time.Since(silent)
	require.Greater(t, took, 20*time.Second, "not at the first pause")
	t.Logf("taken over after %s", took.Round(time.Second))
	send(one, "a") // it is back, and waits
	require.EqualValues(t, 1, number(t, one, `count(pair)`), "one series, whoever brings it")
	require.EqualValues(t, 2, number(t, one, `pair`))
}

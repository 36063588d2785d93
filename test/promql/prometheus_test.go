//go:build e2e

package promql

import (
	"context"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// conformanceQueries is how many are compared when nobody says otherwise.
const conformanceQueries = 5000

// TestPrometheus asks random queries of our server, of three servers in turn –
// one of which is killed halfway – and of Prometheus' own program. All were sent
// the same samples.
func TestPrometheus(t *testing.T) {
	if !conformance() {
		t.Skip("builds Prometheus first; make conformance runs it")
	}
	program, err := filepath.Abs("../../bin/prometheus")
	require.NoError(t, err)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/prometheus/prometheus/cmd/prometheus")
	build.Dir = "../../bench/prometheus"
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	n := *queries
	if n == shortQueries {
		n = conformanceQueries
	}
	addr := harness.FreeAddr(t, "127.0.0.1")
	conf := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(conf, []byte("storage: {tsdb: {out_of_order_time_window: 48h}}\n"), 0o600))
	cmd := exec.Command(program, "--config.file="+conf, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr, "--web.enable-remote-write-receiver")
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	base := "http://" + addr
	require.Eventually(t, func() bool {
		res, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	}, time.Minute, 50*time.Millisecond)

	p := oneServer(t)
	defer func() { require.NoError(t, p.Close()) }()
	three := &servers{pool: newPool(t), plain: p.Storage, killAfter: n / 2}
	defer func() { require.NoError(t, three.close()) }()
	ours := p.write
	p.write = func(ctx context.Context) storage.Appender {
		return &tee{&tee{ours(ctx), &sender{url: base + "/api/v1/write"}}, three.appender(ctx)}
	}
	p.ask = append(p.ask, over(http.DefaultClient, base, ""), three.ask)
	to := time.Now().Truncate(time.Hour)
	from := to.Add(-randomSpan)
	writeRandom(t, p.Appender(context.Background()), from, to)

	t.Logf("seed %d", *seed)
	rnd := rand.New(rand.NewSource(*seed))
	smith := newSmith(rnd, to)
	c := newChecking()
	agree := 0
	for i := range n {
		text := randomQuery(smith)
		step := []time.Duration{30 * time.Second, time.Minute, 7 * time.Minute}[rnd.Intn(3)]
		start := from.Add(time.Duration(rnd.Int63n(int64(randomSpan)))).Truncate(step)
		end := start.Add(time.Duration(rnd.Int63n(int64(randomSpan)))).Truncate(step)
		found, err := c.once(p, text, start, end, step)
		require.NoError(t, err, "query %d of seed %d: %s", i, *seed, text)
		if found > 0 {
			agree++
		}
	}
	t.Logf("%d random queries agree with Prometheus, %d of them with series", n, agree)
	require.Positive(t, agree)
	require.NotNil(t, three.down, "a server was killed")
}

package http_test

import (
	"bufio"
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/http"
	"panoptes/internal/probe/probetest"
)

const targetEnv = "PANOPTES_HTTP_BENCH_TARGET"

// TestMain can play the target of the benchmark, whose CPU must not count.
func TestMain(m *testing.M) {
	if os.Getenv(targetEnv) == "" {
		os.Exit(m.Run())
	}
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		fmt.Fprint(w, strings.Repeat("fine ", 100))
	}))
	fmt.Println(s.URL)
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the benchmark ends
	s.Close()
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHTTP measures checks per CPU second of this process: a new
// connection for each, the target in another process.
func BenchmarkHTTP(b *testing.B) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), targetEnv+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	p := probetest.Compile(b, http.Kind{}, strings.TrimSpace(url)+"/", `{"expect_body":"fine"}`)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range work {
				if o := p.Run(b.Context()); !o.Success {
					b.Error(o.Message)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(b.N)/(cpu()-before).Seconds(), "checks/cpu-s")
}

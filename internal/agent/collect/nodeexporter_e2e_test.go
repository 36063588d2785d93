//go:build e2e && linux

package collect

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/test/harness"
)

// notOurs are names that node_exporter has on hosts and we leave out, with the
// reason; docs/hosts.md says the same to users.
var notOurs = map[string]string{
	"node_exporter_build_info":               "describes the exporter, not the host",
	"node_scrape_collector_duration_seconds": "collectors are cut differently",
	"node_scrape_collector_success":          "collectors are cut differently",
}

// notOursPattern are families of collectors we do not have; they need hardware or
// file systems that few hosts have.
var notOursPattern = regexp.MustCompile(`^node_(bcache|bcachefs|btrfs|dmmultipath|fibrechannel|infiniband|ipvs|nfs|nfsd|schedstat|tape|watchdog|xfs)_`)

// volatile change by more than a tolerance between two looks.
var volatile = regexp.MustCompile(`^node_(procs_|processes_|load1$|memory_(Dirty|Writeback|Active|Inactive|Mapped|AnonPages|Buffers|KernelStack|PageTables|MemFree|Shmem)|` +
	`sockstat_|tcp_connection_states|disk_io_now|filefd_allocated|cpu_scaling_frequency|hwmon_|softnet_backlog|udp_queues|timex_|netstat_Tcp_CurrEstab|entropy_)`)

// noNetwork is what go says when there is no way to the modules.
var noNetwork = regexp.MustCompile(`dial tcp|no such host|proxyconnect|module lookup disabled|i/o timeout`)

// TestSameAsNodeExporter builds and starts the real exporter and compares names,
// labels and values on this machine.
func TestSameAsNodeExporter(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "node_exporter")
	dir, err := filepath.Abs("../../../test/nodeexporter")
	require.NoError(t, err)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/prometheus/node_exporter")
	build.Dir = dir
	out, err := build.CombinedOutput()
	if err != nil && noNetwork.Match(out) {
		t.Skipf("node_exporter's modules cannot be fetched here: %s", out)
	}
	require.NoError(t, err, "%s", out)

	addr := harness.FreeAddr(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, bin, "--web.listen-address="+addr, "--collector.processes", "--collector.systemd", "--collector.tcpstat", "--log.level=error")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	defer func() { cancel(); _ = cmd.Wait() }()

	s, err := New(Config{Disabled: []string{"updates", "smart", "nvidia"}}, quiet)
	require.NoError(t, err)
	defer s.Close()
	require.Eventually(t, func() bool { _, err := scrape(addr); return err == nil }, 30*time.Second, 50*time.Millisecond)

	before := byLabels(s.Collect(t.Context(), time.Now()))
	ref, err := scrape(addr)
	require.NoError(t, err)
	after := byLabels(s.Collect(t.Context(), time.Now()))
	require.Greater(t, len(ref), 300)

	compared := 0
	for key, v := range ref {
		name := key[:strings.IndexAny(key+"{", "{")]
		if notOurs[name] != "" || notOursPattern.MatchString(name) {
			continue
		}
		a, ok := before[key]
		b, ok2 := after[key]
		if !ok && !ok2 {
			t.Errorf("node_exporter has %s, we have not", key)
			continue
		}
		if !ok || !ok2 { // a mount or an interface that came or went meanwhile
			continue
		}
		if volatile.MatchString(name) {
			continue
		}
		compared++
		low, high := math.Min(a, b), math.Max(a, b)
		slack := 0.02*math.Abs(v) + 1
		if v < low-slack || v > high+slack {
			t.Errorf("%s: node_exporter says %v, we said %v before and %v after", key, v, a, b)
		}
	}
	for key := range before {
		name := key[:strings.IndexAny(key+"{", "{")]
		if _, ok := ref[key]; !ok && strings.HasPrefix(name, "node_") && notOurs[name] == "" {
			t.Logf("only we have %s", key)
		}
	}
	t.Logf("%d series of node_exporter, %d values compared", len(ref), compared)
	require.Greater(t, compared, 200)
}

func scrape(addr string) (map[string]float64, error) {
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(pm.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, "node_") {
			continue
		}
		for _, m := range f.Metric {
			b := labels.NewScratchBuilder(8)
			for _, p := range m.Label {
				if p.GetValue() != "" {
					b.Add(p.GetName(), p.GetValue())
				}
			}
			b.Sort()
			v := m.GetUntyped().GetValue()
			switch {
			case m.Gauge != nil:
				v = m.Gauge.GetValue()
			case m.Counter != nil:
				v = m.Counter.GetValue()
			}
			out[name+b.Labels().String()] = v
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no series")
	}
	return out, nil
}

func byLabels(b model.Batch) map[string]float64 {
	out := map[string]float64{}
	for _, s := range b {
		name := s.Labels.Get(model.MetricName)
		out[name+s.Labels.DropMetricName().String()] = s.V
	}
	return out
}

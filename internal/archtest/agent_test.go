package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The agent runs on every host: what is heavy stays out of it.
var tooHeavy = []struct{ path, why string }{
	{"go.etcd.io/", "consensus is the servers'"},
	{"k8s.io/", "a client of Kubernetes is larger than the agent"},
	{"github.com/hashicorp/", "gossip and discovery are the servers'"},
	{"github.com/prometheus/prometheus/discovery", "targets of an agent are named, not discovered"},
	{"github.com/prometheus/prometheus/scrape", "agent/scraper does it in a hundredth of the size"},
	{"github.com/prometheus/prometheus/promql/parser", "nothing is queried here"},
	{"github.com/prometheus/prometheus/config", "no configuration of Prometheus is read here"},
	{"github.com/prometheus/prometheus/model/textparse", "brings protocol buffers with it, 1.7 MB"},
	{"github.com/prometheus/node_exporter", "one configuration for each process, 19 MB of memory"},
	{"github.com/prometheus/alertmanager", "alerts are the servers'"},
	{"github.com/docker/docker", "two requests over a socket do not need it"},
	{"modernc.org/sqlite", "the buffer is a log"},
	{"github.com/spf13/cobra", "one command has no subcommands"},
	{module + "internal/app", "the agent is not a server"},
	{module + "internal/store", "samples are stored by servers"},
}

// maxAgent is the budget of the program without symbols.
const maxAgent = 20 << 20

func TestTheAgentStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"cmd/panoptes-agent").Output()
	require.NoError(t, err)
	for _, dep := range strings.Fields(string(out)) {
		for _, h := range tooHeavy {
			if dep == strings.TrimSuffix(h.path, "/") || strings.HasPrefix(dep, strings.TrimSuffix(h.path, "/")+"/") && !strings.HasSuffix(dep, "/posrange") {
				t.Errorf("the agent has %s in it: %s", dep, h.why)
			}
		}
		if dep == "github.com/prometheus/prometheus/tsdb" {
			t.Errorf("the agent has %s in it: its buffer is a log", dep)
		}
	}
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("the size is looked at on Linux, in the long form")
	}
	bin := filepath.Join(t.TempDir(), "agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, module+"cmd/panoptes-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	msg, err := build.CombinedOutput()
	require.NoError(t, err, "%s", msg)
	st, err := os.Stat(bin)
	require.NoError(t, err)
	require.LessOrEqual(t, st.Size(), int64(maxAgent), "the budget of the agent's program")
	t.Logf("%.1f MB", float64(st.Size())/1e6)
}

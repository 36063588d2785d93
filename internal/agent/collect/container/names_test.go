package container

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine serves h on a socket as Docker does.
func engine(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return path
}

func TestNamesComeFromTheSocket(t *testing.T) {
	id := strings.Repeat("ab", 32)
	var methods atomic.Int32
	path := engine(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			methods.Add(1)
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/containers/json"):
			_ = json.NewEncoder(w).Encode([]map[string]any{
				{"Id": id, "Names": []string{"/shop"}, "Image": "shop:1", "State": "running", "Status": "Up 2 hours (unhealthy)"},
				{"Id": "../../secrets", "Names": []string{"/evil"}},
			})
		case r.URL.Path == "/containers/"+id+"/json":
			_, _ = w.Write([]byte(`{"RestartCount":6}`))
		default:
			t.Errorf("asked for %s", r.URL.Path)
		}
	})
	c := New(source.Tree{Root: t.TempDir()}, source.Tree{Root: t.TempDir()}, NewNames([]string{"unix://" + path}))
	defer c.Close()
	b := metric.NewBatch(100)
	found := map[string]float64{}
	require.Eventually(t, func() bool {
		b.Reset(1)
		_ = c.Collect(t.Context(), b)
		for _, s := range b.Samples() {
			found[s.Labels.String()] = s.V
		}
		_, ok := found[`{__name__="panoptes_agent_container_restarts_total", name="shop"}`]
		return ok
	}, 30*time.Second, 5*time.Millisecond)
	require.Equal(t, 6., found[`{__name__="panoptes_agent_container_restarts_total", name="shop"}`])
	require.Equal(t, 1., found[`{__name__="panoptes_agent_container_health", name="shop", state="unhealthy"}`])
	for k := range found {
		require.NotContains(t, k, "evil")
	}
	name, image := c.names.of(id)
	require.Equal(t, "shop shop:1", name+" "+image)
	require.Zero(t, methods.Load(), "the socket is only read")
}

func TestEngineThatHangsHoldsNobody(t *testing.T) {
	release := make(chan struct{})
	path := engine(t, func(http.ResponseWriter, *http.Request) { <-release })
	c := New(source.Tree{Root: t.TempDir()}, source.Tree{Root: t.TempDir()}, NewNames([]string{path}))
	b := metric.NewBatch(100)
	begin := time.Now()
	for range 3 {
		b.Reset(1)
		_ = c.Collect(t.Context(), b)
	}
	require.Less(t, time.Since(begin), time.Second)
	require.NoError(t, c.Close())
	require.Less(t, time.Since(begin), 3*time.Second, "closing ends the question")
	close(release)
}

func TestContainerID(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for dir, want := range map[string]string{
		"docker-" + id + ".scope": id, id: id, "cri-containerd-" + id + ".scope": id, "libpod-" + id + ".scope": id,
		"libpod-conmon-" + id + ".scope": "", "lxc.payload.web": "web", "machine-build.scope": "build",
		"system.slice": "", "docker-xyz.scope": "", "init.scope": "",
	} {
		require.Equal(t, want, containerID(dir), dir)
	}
}

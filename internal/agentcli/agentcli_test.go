package agentcli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agentcli"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// TestMain is the program itself when a test starts it as one.
func TestMain(m *testing.M) {
	if args := os.Getenv("AGENTCLI_TEST_ARGS"); args != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := agentcli.Main(ctx, strings.Split(args, "\n"), agentcli.OS())
		stop()
		os.Exit(code)
	}
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

// store counts samples and remembers the newest value of each series.
type store struct {
	mu      sync.Mutex
	samples int
	newest  map[string]float64
}

func (s *store) Appender(context.Context) storage.Appender { return s }
func (s *store) Append(ref storage.SeriesRef, l labels.Labels, _ int64, v float64) (storage.SeriesRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples++
	s.newest[l.String()] = v
	return max(ref, 1), nil
}
func (s *store) value(name string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.newest {
		if strings.HasPrefix(k, `{__name__="`+name+`"`) {
			return v
		}
	}
	return 0
}
func (s *store) Commit() error                     { return nil }
func (s *store) Rollback() error                   { return nil }
func (s *store) SetOptions(*storage.AppendOptions) {}
func (s *store) AppendHistogram(r storage.SeriesRef, _ labels.Labels, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r, nil
}
func (s *store) AppendExemplar(r storage.SeriesRef, _ labels.Labels, _ exemplar.Exemplar) (storage.SeriesRef, error) {
	return r, nil
}
func (s *store) AppendSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return r, nil
}
func (s *store) AppendHistogramSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r, nil
}
func (s *store) UpdateMetadata(r storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return r, nil
}

// records are one agent's, and one token's.
type records struct {
	mu    sync.Mutex
	nodes map[string]model.Node
	token model.Token

	server string // the name of another one
}

func (r *records) Get(_ context.Context, id string) (model.Node, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.nodes[id]
	if !ok {
		return n, model.ErrNotFound
	}
	return n, nil
}
func (r *records) list() (out []model.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.Role == model.RoleAgent {
			out = append(out, n)
		}
	}
	return out
}
func (r *records) ByName(_ context.Context, name string) (model.Node, error) {
	if r.server != "" && r.server == name {
		return model.Node{ID: "S", Name: name, Role: model.RoleServer}, nil
	}
	return model.Node{}, model.ErrNotFound
}
func (r *records) Create(_ context.Context, n model.Node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[n.ID] = n
	return nil
}
func (r *records) Update(ctx context.Context, n model.Node) error { return r.Create(ctx, n) }

type tokens struct{ *records }

func (r tokens) Get(context.Context, string) (model.Token, int64, error) { return r.token, 1, nil }
func (r tokens) Update(_ context.Context, t model.Token, _ int64) error  { r.token = t; return nil }

// serve runs a server until the test ends.
func serve(t *testing.T) (addr, token string, s *store, h *hosts.Hosts) {
	t.Helper()
	return serveWith(t, nil)
}

// serveWith runs one that also says which program agents should run.
func serveWith(t *testing.T, update func(string) *uplink.UpdateWanted, register ...func(*wire.Server)) (addr, token string, s *store, h *hosts.Hosts) {
	t.Helper()
	p, err := pki.Create(pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), Name: "n1", Region: "eu", Role: model.RoleServer}, pki.Deps{})
	require.NoError(t, err)
	plain, rec, err := p.NewToken(model.Token{Role: model.RoleAgent, Expires: time.Now().Add(time.Hour), Uses: 1}, time.Now())
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	r := &records{nodes: map[string]model.Node{}, token: rec, server: host}
	s = &store{newest: map[string]float64{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h, err = hosts.New(hosts.Config{NodeID: p.NodeID(), Settle: time.Millisecond}, hosts.Deps{
		Store: s, Nodes: r.list, Update: update,
		Node:    func(id string) (model.Node, bool) { n, err := r.Get(context.Background(), id); return n, err == nil },
		Checks:  func(string) []model.Check { return nil },
		Check:   func(_, _ string) (model.Check, bool) { return model.Check{}, false },
		Servers: func() []uplink.Server { return []uplink.Server{{ID: p.NodeID(), Addr: l.Addr().String()}} },
		Groups: func() []model.HostGroup {
			return []model.HostGroup{{Name: "all", Interval: model.Duration(time.Second)}}
		},
	})
	require.NoError(t, err)
	ws, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: p.ServerTLS()}, wire.ServerDeps{Identify: p.Identify})
	require.NoError(t, err)
	a, err := pki.NewAuthority(p, pki.AuthorityDeps{Nodes: r, Tokens: tokens{r}, Version: "dev",
		Welcome: func(context.Context, model.Node) (json.RawMessage, error) {
			return json.RawMessage(`{"seeds":[]}`), nil
		}})
	require.NoError(t, err)
	a.Register(ws)
	h.Register(ws)
	for _, f := range register {
		f(ws)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = ws.Run(ctx) })
	wg.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l.Addr().String(), plain, s, h
}

// start runs the program.
func start(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	if bin := os.Getenv("PANOPTES_AGENT_BIN"); bin != "" { // to measure the program as it is shipped
		cmd = exec.Command(bin, args...)
	}
	cmd.Env = append(os.Environ(), "AGENTCLI_TEST_ARGS="+strings.Join(args, "\n"), "HTTPS_PROXY=", "https_proxy=")
	out := &bytes.Buffer{}
	cmd.Stderr = out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, out
}

// The program joins, sends what it measures, stays small, takes leave, and
// comes back without its token.
func TestTheProgram(t *testing.T) {
	addr, token, s, h := serve(t)
	dir := t.TempDir()
	cmd, log := start(t, "--node", "web-1", "--region", "eu", "--data-dir", dir, "--join", addr, "--token", token, "--labels", "team=web", "--log", "debug")
	enough := 2000.0
	if os.Getenv("PANOPTES_AGENT_BIN") != "" {
		enough = 10_000
	}
	count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.samples }
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	require.Eventually(t, func() bool { return s.value("panoptes_agent_sent_samples_total") > enough }, 60*time.Second, 50*time.Millisecond)
	require.Len(t, h.Sessions(), 1)
	require.Equal(t, map[string]string{"team": "web"}, h.Sessions()[0].Labels)
	t.Logf("%d samples stored, resident %.1f MB, CPU %s, %.2f bytes a sample", count(), s.value("panoptes_agent_resident_memory_bytes")/1e6, cpu(cmd.Process.Pid),
		s.value("panoptes_agent_sent_bytes_total")/s.value("panoptes_agent_sent_samples_total"))

	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmHWM") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	second, msg := start(t, "--node", "web-1", "--data-dir", dir)
	require.Error(t, second.Wait())
	require.Contains(t, msg.String(), "another agent uses")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.Empty(t, h.Connected())
	before := count()
	cmd, log = start(t, "--node", "web-1", "--region", "eu", "--data-dir", dir)
	require.Eventually(t, func() bool { return count() > before }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.Atoi(f[11])
	k, _ := strconv.Atoi(f[12])
	return time.Duration(u+k) * 10 * time.Millisecond
}

func TestFaultsOfTheCommandLineAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yml")
	require.NoError(t, os.WriteFile(file, []byte("node: web-1\nintervall: 15s\n"), 0o600))
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--nonsense"}, "nonsense", 2},
		{[]string{"--config", file}, "intervall", 2},
		{[]string{"--data-dir", t.TempDir(), "--node", "web-1"}, "--join HOST:9701", 2},
		{[]string{"--data-dir", t.TempDir(), "--allow", "10.0.0.0/8,x"}, "checks.allow[1]", 2},
		{[]string{"--data-dir", t.TempDir(), "--proxy", "ftp://x"}, "proxy", 2},
		{[]string{"--data-dir", t.TempDir(), "--interval", "1ms"}, "interval", 2},
		{[]string{"--data-dir", t.TempDir(), "--labels", "prober=x"}, "labels.prober", 2},
		{[]string{"--data-dir", t.TempDir(), "--join", "127.0.0.1:1", "--token", "x"}, "token", 2},
		{[]string{"version"}, "panoptes-agent", 0},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		code := agentcli.Main(ctx, c.args, agentcli.Streams{Out: &out, Err: &out, Getenv: func(string) string { return "" }})
		cancel()
		require.Contains(t, out.String(), c.want, c.args)
		require.Equal(t, c.code, code, c.args)
	}
}

// On the machine of a server its name is taken: the agent joins all the same,
// unless that name was chosen by somebody.
func TestTheNameOfTheMachineIsTaken(t *testing.T) {
	addr, token, _, h := serve(t)
	cmd, log := start(t, "--region", "eu", "--data-dir", t.TempDir(), "--join", addr, "--token", token)
	require.Eventually(t, func() bool { return len(h.Sessions()) == 1 }, 60*time.Second, 20*time.Millisecond, log)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, log.String(), "name="+host+"-agent")
}

package agent_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// host is a machine with an agent.
type host struct {
	w       *world
	name    string
	pki     *pki.PKI
	client  *wire.Client
	dir     string
	agent   *agent.Agent
	collect *collectors
	worker  *worker
	stop    func()
}

type hostOption func(*agent.Config, *agent.Deps)

func (w *world) join(name string) *host {
	w.t.Helper()
	h := &host{w: w, name: name, dir: w.t.TempDir(), collect: newCollectors(), worker: &worker{}}
	var err error
	h.pki, _, err = pki.Join(w.t.Context(), pki.Config{Dir: filepath.Join(h.dir, "pki"), Name: name, Region: "eu", Role: model.RoleAgent},
		pki.JoinRequest{Addr: w.server[0].addr, Token: w.token(model.RoleAgent), Version: "1.0.0"}, pki.Deps{})
	require.NoError(w.t, err)
	return h
}

// copyOf is another machine with the same identity.
func (h *host) copyOf(name string) *host {
	return &host{w: h.w, name: name, dir: h.w.t.TempDir(), pki: h.pki, collect: newCollectors(), worker: &worker{}}
}

func (h *host) start(opts ...hostOption) *host {
	h.w.t.Helper()
	h.client = wire.NewClient(wire.ClientConfig{TLS: h.pki.ClientTLS}, wire.ClientDeps{})
	cfg := agent.Config{Dir: h.dir, NodeID: h.pki.NodeID(), Name: h.name, Version: "1.0.0", Servers: h.w.servers()}
	deps := agent.Deps{
		Dial:       func(id, addr string) wire.Conn { return h.client.Conn(id, addr) },
		Collectors: h.collect, Worker: h.worker,
		Facts: func() agent.Facts {
			return agent.Facts{Hostname: h.name, Machine: h.name, Boot: "boot-1", Addresses: []string{"192.0.2.7"}, OS: "linux"}
		},
	}
	for _, o := range opts {
		o(&cfg, &deps)
	}
	client := h.client
	var err error
	h.agent, err = agent.New(cfg, deps)
	require.NoError(h.w.t, err)
	h.worker.set(h.agent)
	a := h.agent
	h.stop = background(h.w.t, func(ctx context.Context) error {
		err := a.Run(ctx)
		_ = client.Close()
		return err
	})
	return h
}

// collectors make a few series, whose value is the number of the round.
type collectors struct {
	mu       sync.Mutex
	series   int
	times    []int64
	settings uplink.Settings
	extra    model.Batch
}

func newCollectors() *collectors { return &collectors{series: 5} }

func (c *collectors) Collect(_ context.Context, at time.Time) model.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, at.UnixMilli())
	var b model.Batch
	for i := range c.series {
		b = append(b, model.Sample{Labels: labels.FromStrings("__name__", "node_test", "n", fmt.Sprint(i)), T: at.UnixMilli(), V: float64(len(c.times))})
	}
	return append(b, c.extra...)
}

func (c *collectors) Configure(s uplink.Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = s
	return nil
}

func (c *collectors) Snapshot(context.Context) (any, error) {
	return map[string]any{"processes": []string{"init"}}, nil
}

func (c *collectors) rounds() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.times)
}

// worker runs checks by saying what it was told to say.
type worker struct {
	mu     sync.Mutex
	checks []model.Check
	asked  []model.Check
	agent  *agent.Agent
}

func (k *worker) set(a *agent.Agent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.agent = a
}

func (k *worker) Update(checks []model.Check) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.checks = checks
}

func (k *worker) RunCheck(_ context.Context, c model.Check) (model.Result, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, c)
	return model.Result{CheckID: "somebody else's", Region: "us", Prober: "evil", Start: time.Now(), Success: true, Message: "ok",
		Samples: []model.Sample{{Labels: labels.FromStrings("__name__", "probe_success"), T: time.Now().UnixMilli(), V: 1}}}, nil
}

func (k *worker) list() []model.Check {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.checks)
}

func (w *world) codes(node string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Subject == "node/"+node {
			out = append(out, e.Code)
		}
	}
	return out
}

func (w *world) status(node string) model.HostStatus {
	for _, s := range w.all() {
		if s.alive.Load() {
			if h, err := s.hosts.Host(node); err == nil {
				return h.Status
			}
		}
	}
	return ""
}

// patience is what a busy machine may take for anything; it costs nothing where
// all is well.
const patience = 30 * time.Second

// eventually waits for f, for which a machine that has nothing else to do needs
// less than within.
func eventually(t *testing.T, within time.Duration, f func() bool, msg string) {
	t.Helper()
	require.Eventually(t, f, max(within, patience), 10*time.Millisecond, msg)
}

func every(d time.Duration) hostOption {
	return func(c *agent.Config, _ *agent.Deps) { c.Interval, c.MinInterval = d, d }
}

package agentcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"panoptes/internal/agent"
	"panoptes/internal/agent/collect"
	"panoptes/internal/agent/service"
	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/run"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

func cut(s string) (k, v string, ok bool) { return strings.Cut(s, "=") }

// lockPatience is how long a program waits for the one before it to end: one that
// was on trial needs a moment to see that it was left alone.
const lockPatience = 5 * time.Second

// errInUse is why a directory cannot be locked that will be free when its agent ends.
var errInUse = errors.New("another agent uses")

func waitLock(ctx context.Context, dir string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		f, err := lockDir(dir)
		if !errors.Is(err, errInUse) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Run joins a cluster if that has not been done, and works until ctx ends.
func Run(ctx context.Context, cfg Config, version string, log *slog.Logger) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w (choose another one with --data-dir)", err)
	}
	lock, err := waitLock(ctx, cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // ends with the process
	proxy := agent.EnvProxy
	if cfg.Proxy != "" {
		if proxy, err = agent.FixedProxy(cfg.Proxy); err != nil {
			return model.Invalid{{Field: "proxy", Msg: err.Error()}}
		}
	}
	dial := agent.Dialer(proxy)
	var a *agent.Agent
	deps := pki.Deps{Dial: dial, Logger: log.With("component", "pki"), Servers: func() []string {
		if a == nil {
			return nil
		}
		return a.ServerAddrs()
	}}
	id, known, err := identity(ctx, cfg, version, deps, log)
	if err != nil {
		return err
	}
	client := wire.NewClient(wire.ClientConfig{TLS: id.ClientTLS, Dial: dial}, wire.ClientDeps{Logger: log.With("component", "wire")})
	set, err := collect.New(cfg.Collect, collect.Deps{Log: log.With("component", "collect")})
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	defer set.Close() //nolint:errcheck // only reads
	parts := agent.Deps{
		Dial:       func(id, addr string) wire.Conn { return client.Conn(id, addr) },
		Collectors: &collectors{set: set, own: cfg.Collect},
		Leaving:    leaving, Logger: log.With("component", "agent"),
	}
	if parts.Sources, err = sources(cfg, log); err != nil {
		return err
	}
	sc := cfg.service()
	sc.NodeID = id.NodeID()
	services, err := service.New(sc, service.Deps{Event: func(e model.Event) { a.Event(e) }, Logger: log.With("component", "services")})
	if err != nil {
		return err
	}
	parts.Sources, parts.Actor = append(parts.Sources, services), services
	worker, sink, err := newWorker(cfg, log, func() []string { return a.ServerAddrs() })
	if err != nil {
		return err
	}
	if worker != nil {
		parts.Worker = worker
	}
	u, err := renew(cfg, version, &parts, func() *agent.Agent { return a }, log)
	if err != nil {
		return err
	}
	a, err = agent.New(agent.Config{
		Dir: cfg.DataDir, NodeID: id.NodeID(), Name: cfg.Node, Version: version, Labels: cfg.Labels, Kinds: cfg.Checks.Types, Servers: known, Interval: cfg.Interval.D(),
		Buffer: spool.Config{MaxBytes: cfg.Buffer.MaxBytes, MaxAge: cfg.Buffer.MaxAge.D(), MinFree: cfg.Buffer.MinFree},
	}, parts)
	if err != nil {
		return err
	}
	tiers := [][]run.Runner{{client, run.Func(id.Run), run.Func(tidy)}, {a}}
	if worker != nil {
		sink.to = a.Result
		tiers = append(tiers, []run.Runner{worker})
	}
	log.Info("agent begins", "node", id.NodeID(), "name", cfg.Node, "region", cfg.Region, "version", version, "checks", worker != nil)
	return work(ctx, tiers, u)
}

// tidy gives memory back to the system that was needed to begin, and from time
// to time what a burst has left behind.
func tidy(ctx context.Context) error {
	for wait := 5 * time.Second; ; wait = 10 * time.Minute {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
			debug.FreeOSMemory()
			releasePages()
		}
	}
}

// identity opens the identity of this host, or joins.
func identity(ctx context.Context, cfg Config, version string, deps pki.Deps, log *slog.Logger) (*pki.PKI, []uplink.Server, error) {
	pc := pki.Config{Dir: filepath.Join(cfg.DataDir, "pki"), Name: cfg.Node, Region: cfg.Region, Role: model.RoleAgent}
	p, err := pki.Open(pc, deps)
	if err == nil {
		var known []uplink.Server
		if cfg.Join != "" {
			known = append(known, uplink.Server{Addr: cfg.Join})
		}
		return p, known, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if cfg.Join == "" || cfg.Token == "" {
		return nil, nil, model.Invalid{{Field: "join", Msg: "this host has not joined yet: give --join HOST:9701 and --token; 'panoptes token create --role agent' on a server makes one"}}
	}
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		p, welcome, err := pki.Join(ctx, pc, pki.JoinRequest{Addr: cfg.Join, Token: cfg.Token.Reveal(), Version: version, Labels: cfg.Labels}, deps)
		if err == nil {
			var w struct {
				Seeds []string `json:"seeds"`
			}
			_ = json.Unmarshal(welcome, &w) // the servers tell again when it connects
			known := []uplink.Server{{Addr: cfg.Join}}
			for _, s := range w.Seeds {
				if s != cfg.Join {
					known = append(known, uplink.Server{Addr: s})
				}
			}
			return p, known, agent.RememberServers(cfg.DataDir, known)
		}
		if errors.Is(err, model.ErrConflict) && pc.Name == cfg.Node && hostName(cfg.Node) {
			// Most likely a server on the same machine has it. Nobody chose this name.
			pc.Name += "-agent"
			log.Warn("the name of this host is taken; joining under another one, --node chooses it", "name", pc.Name, "err", err)
			continue
		}
		if !errors.Is(err, model.ErrUnavailable) || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("join the cluster of %s: %w", cfg.Join, err)
		}
		log.Warn("not joined yet, trying again", "server", cfg.Join, "err", err)
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("join the cluster of %s: %w", cfg.Join, err)
		case <-time.After(wait):
		}
	}
}

// collectors bound what servers may set by the host's own file.
type collectors struct {
	set *collect.Set
	own collect.Config
}

func (c *collectors) Collect(ctx context.Context, at time.Time) model.Batch {
	return c.set.Collect(ctx, at)
}

func (c *collectors) Snapshot(ctx context.Context) (any, error) { return c.set.Snapshot(ctx), nil }

// Configure switches collectors and watches processes. Paths, sockets and
// everything else that reaches beyond what a collector reads anyway is the
// file's alone.
func (c *collectors) Configure(s uplink.Settings) error {
	cfg := c.own
	cfg.Enabled, cfg.Disabled = slices.Clone(cfg.Enabled), slices.Clone(cfg.Disabled)
	for _, i := range collect.Names() {
		on, said := s.Collectors[i.Name]
		switch {
		case !said, slices.Contains(c.own.Enabled, i.Name), slices.Contains(c.own.Disabled, i.Name), slices.Contains(c.own.Disabled, "*"):
			// The file has the last word.
		case on:
			cfg.Enabled = append(cfg.Enabled, i.Name)
		default:
			cfg.Disabled = append(cfg.Disabled, i.Name)
		}
	}
	cfg.Watch = slices.Clone(cfg.Watch)
	for _, p := range s.Processes {
		if len(cfg.Watch) < 100 && len(p) <= 256 && !slices.ContainsFunc(cfg.Watch, func(w collect.ProcessPattern) bool { return w.Name == p }) {
			cfg.Watch = append(cfg.Watch, collect.ProcessPattern{Name: p, Match: p})
		}
	}
	return c.set.Configure(cfg)
}

// sink breaks the circle between the worker and the agent.
type sink struct{ to func(model.Result) }

func (s *sink) Result(r model.Result) { s.to(r) }

// newWorker makes the worker of checks, nil when the file does not allow any.
// Its list of addresses is the file's: nothing that a server sends widens it.
func newWorker(cfg Config, log *slog.Logger, servers func() []string) (*probe.Worker, *sink, error) {
	if !cfg.Checks.Enabled {
		return nil, nil, nil
	}
	allow, err := prefixes("checks.allow", cfg.Checks.Allow)
	if err != nil {
		return nil, nil, err
	}
	deny, err := prefixes("checks.deny", cfg.Checks.Deny)
	if err != nil {
		return nil, nil, err
	}
	kinds := all.Kinds()
	kinds = slices.DeleteFunc(kinds, func(k probe.Kind) bool {
		// Pings come in at servers.
		return k.Name() == "push" || len(cfg.Checks.Types) > 0 && !slices.Contains(cfg.Checks.Types, k.Name())
	})
	if len(kinds) == 0 {
		return nil, nil, model.Invalid{{Field: "checks.types", Msg: "names no kind of check that an agent can run"}}
	}
	s := &sink{}
	w, err := probe.NewWorker(probe.WorkerConfig{Node: cfg.Node, Region: cfg.Region, Concurrency: 256}, probe.WorkerDeps{
		Kinds: kinds, Sink: s, Logger: log.With("component", "probe"),
		Env: &probe.Env{Now: time.Now, Dialer: probe.NewDialer(probe.Policy{
			AllowLoopback: cfg.Checks.AllowLoopback, AllowPrivate: cfg.Checks.AllowPrivate, Allow: allow, Deny: deny,
		})},
		References: func() []string { return append(slices.Clone(cfg.Checks.References), servers()...) },
	})
	return w, s, err
}

package agentcli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"panoptes/internal/agent"
	"panoptes/internal/agent/update"
	"panoptes/internal/model"
	"panoptes/internal/run"
	"panoptes/internal/wire"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// Update says whether this agent renews its own program.
type Update struct {
	Enabled bool           `json:"enabled,omitempty"` // default false: never
	Key     string         `json:"key,omitempty"`     // public key that must have signed the programs
	Trial   model.Duration `json:"trial,omitempty"`   // that a new program has to be acknowledged by a server; default 60s
	Rate    int            `json:"rate,omitempty"`    // bytes a second of a download; default 2000000
}

func (u Update) validate(inv *model.Invalid) {
	if !u.Enabled {
		return
	}
	if err := update.Possible(); err != nil {
		inv.AddErr("", err)
		return
	}
	if _, err := manifest.PublicKey(u.Key); err != nil {
		inv.Add("update.key", "must be the public key that 'panoptes agent keygen' printed")
	}
	if u.Rate < 0 || u.Rate > 0 && u.Rate < 10_000 {
		inv.Add("update.rate", "must be 10000 or more, in bytes a second")
	}
	if u.Trial != 0 && (u.Trial.D() < time.Second || u.Trial.D() > time.Hour) {
		inv.Add("update.trial", "must lie between 1s and 1h")
	}
}

// updates is the configuration of the package, false when this agent does not
// renew itself.
func (c *Config) updates(version string) (update.Config, bool) {
	key, err := manifest.PublicKey(c.Update.Key)
	if err != nil || !c.Update.Enabled {
		return update.Config{}, false
	}
	return update.Config{
		Dir: filepath.Join(c.DataDir, "update"), Key: ed25519.PublicKey(key), Version: version, Platform: update.PlatformHere(), Trial: c.Update.Trial.D(), Rate: c.Update.Rate,
	}, true
}

// launch runs the agent, and another program in its place when there is one
// that works.
func launch(ctx context.Context, args []string, cfg Config, s Streams, log *slog.Logger) error {
	uc, on := cfg.updates(s.Version)
	if !on {
		return Run(ctx, cfg, s.Version, log)
	}
	l := update.NewLauncher(uc, args, s.Err, log.With("component", "update"))
	for {
		action, version := l.Next()
		var err error
		switch action {
		case update.Replace:
			err = l.Replace(version) // returns only when it failed
			log.Error("the updated program is not used", "err", err)
		case update.Try:
			l.Try(ctx, version)
		case update.Work:
			if err = Run(ctx, cfg, s.Version, log); !errors.Is(err, update.ErrReady) {
				return err
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// renewed is the updater as a source of settings.
type renewed struct{ *update.Updater }

func (r renewed) Configure(s uplink.Settings) error { r.Want(s.Update); return nil }

func (r renewed) Run(ctx context.Context, _ func(model.Batch)) error { return r.Updater.Run(ctx) }

// renew adds the updater to an agent's parts, nil when it does not renew itself.
func renew(cfg Config, version string, parts *agent.Deps, self func() *agent.Agent, log *slog.Logger) (*update.Updater, error) {
	uc, on := cfg.updates(version)
	if !on {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	u, err := update.New(uc, update.Deps{
		Servers: func() (out []wire.Conn) {
			for _, s := range self().Servers() {
				out = append(out, parts.Dial(s.ID, s.Addr))
			}
			return out
		},
		Changed:      func(s uplink.UpdateState) { self().TellUpdate(s) },
		Acknowledged: func() bool { return self().Acknowledged() },
		Logger:       log.With("component", "update"),
	})
	if err != nil {
		return nil, err
	}
	own := parts.Leaving
	parts.Leaving = func() string {
		if u.Leaving() {
			return uplink.ByeMove // another program goes on
		}
		return own()
	}
	parts.Update = u.Status
	parts.Sources = append(parts.Sources, renewed{u})
	return u, nil
}

// work runs the parts until ctx ends, or a new program is there, which is
// update.ErrReady.
func work(ctx context.Context, tiers [][]run.Runner, u *update.Updater) error {
	if u == nil {
		return run.Tiers(ctx, tiers)
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-u.Ready():
			cancel()
		case <-inner.Done():
		}
	}()
	orphan := make(chan struct{})
	go func() {
		defer close(orphan)
		if update.Orphaned(inner) {
			cancel() // who tried this program is gone: it has no right to go on
		}
	}()
	err := run.Tiers(inner, tiers)
	cancel()
	<-done
	<-orphan
	select {
	case <-u.Ready():
		if err == nil && ctx.Err() == nil {
			return update.ErrReady
		}
	default:
	}
	return err
}

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"panoptes/internal/config"
	"panoptes/internal/control"
	"panoptes/internal/pki"
)

// Recover makes a stopped server the only member of the configuration store,
// when the majority of servers is lost for good. Others join it anew.
func Recover(ctx context.Context, cfg config.Config, log *slog.Logger) (r control.Recovered, err error) {
	if err := cfg.Validate(); err != nil {
		return r, err
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return r, fmt.Errorf("%w; stop the server first", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	a := &App{cfg: cfg, log: log}
	if a.pki, err = pki.Open(pki.Config{Dir: cfg.Path("pki"), Name: cfg.Node, Region: cfg.Region, Role: a.role(), Hosts: a.hosts()}, pki.Deps{Logger: log}); err != nil {
		return r, fmt.Errorf("read the identity of this server: %w", err)
	}
	return control.Recover(ctx, a.controlConfig(), log)
}

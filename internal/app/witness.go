package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"panoptes/internal/control"
	"panoptes/internal/run"
)

// A witness votes in the configuration store and is listed as alive, so that
// two sites have a majority when one is lost. It keeps no samples, watches
// nothing and knows no secrets.

// openWitness opens what a witness has.
func (a *App) openWitness() (err error) {
	if err := a.verifyControl(); err != nil {
		return fmt.Errorf("the configuration store of this witness is damaged: %w; remove it from the cluster and let it join again with an empty directory", err)
	}
	a.control, err = control.New(a.controlConfig(), control.Deps{Logger: a.logger("control"), Registerer: a.registry, NodeName: a.memberName, Verify: a.verifyPeer})
	if err != nil {
		return fmt.Errorf("open the configuration store: %w", err)
	}
	if err := a.openCluster(); err != nil {
		return err
	}
	return a.openRollover()
}

func (a *App) runWitness(ctx context.Context) error {
	fmt.Fprintf(a.notice, "Panoptes %s: witness %s votes in the configuration store.\n", a.opts.Version, a.cfg.Node)
	return run.Tiers(ctx, [][]run.Runner{
		{a.pki, a.wireClient, a.wireServer},
		{a.control},
		{a.cluster},
		{a.rollover},
		{run.Func(a.serveWitness), run.Func(a.untilRemoved)},
	})
}

// untilRemoved ends the witness when it was removed from the cluster.
func (a *App) untilRemoved(ctx context.Context) error {
	t := time.NewTicker(metaEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := a.removal(); err != nil {
				return err
			}
		}
	}
}

// serveWitness answers whether this process lives and votes.
func (a *App) serveWitness(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.control.Writable(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return a.serveHandler(ctx, mux)
}

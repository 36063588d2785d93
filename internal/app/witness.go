package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/internal/run"
	"panoptes/internal/wire"
)

// A witness votes in the configuration store and is listed as alive, so that
// two sites have a majority when one is lost. It keeps no samples, watches
// nothing and knows no secrets.

// openWitness opens what a witness has.
func (a *App) openWitness() (err error) {
	if err := a.verifyControl(); err != nil {
		return fmt.Errorf("the configuration store of this witness is damaged: %w; remove it from the cluster and let it join again with an empty directory", err)
	}
	a.control, err = control.New(a.controlConfig(), control.Deps{Logger: a.logger("control"), Registerer: a.registry, NodeName: a.nodeName, Verify: a.verifyPeer})
	if err != nil {
		return fmt.Errorf("open the configuration store: %w", err)
	}
	if err := a.openCluster(); err != nil {
		return err
	}
	// What a server that is to join asks first.
	a.wireServer.Handle("pki.ca", wire.Anyone, func(context.Context, model.Peer, []byte) ([]byte, error) {
		return nil, model.Invalid{{Field: "join", Msg: fmt.Sprintf("is the address of the witness %s, which lets nobody join; give that of a server", a.cfg.Node)}}
	})
	return a.openRollover()
}

func (a *App) runWitness(ctx context.Context) error {
	fmt.Fprintf(a.notice, "Panoptes %s: witness %s votes in the configuration store.\n", a.opts.Version, a.cfg.Node)
	return run.Tiers(ctx, [][]run.Runner{
		{a.pki, a.wireClient, a.wireServer},
		{a.control},
		{a.cluster},
		{a.rollover},
		{run.Func(a.serveWitness), run.Func(a.untilRemoved), run.Func(a.lookAtControl)},
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
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error":{"code":"not_found","message":%q}}`+"\n", "this is the witness "+a.cfg.Node+": it votes in the configuration store and knows nothing else; ask a server")
	})
	return a.serveHandler(ctx, mux)
}

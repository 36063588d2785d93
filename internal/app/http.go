package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"panoptes/internal/api"
)

// serve answers the API and the pages until ctx ends.
func (a *App) serve(ctx context.Context) error { return a.serveHandler(ctx, a.api.Handler()) }

// serveHandler answers HTTP until ctx ends; requests under way get five seconds.
func (a *App) serveHandler(ctx context.Context, h http.Handler) error {
	srv := api.NewServer(h, a.logger("http"))
	failed := make(chan error, 1)
	go func() {
		if a.cfg.TLS.CertFile != "" {
			failed <- srv.ServeTLS(a.listen, a.cfg.TLS.CertFile, a.cfg.TLS.KeyFile)
			return
		}
		failed <- srv.Serve(a.listen)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// profiles answers the paths of net/http/pprof, without its global routes.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
